//! Follows the manifest during a run. A new text is read and checked as at the start; an error is reported once, and the file is
//! watched further.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use wscluster_api::WsCluster;
use wscluster_api::manifest::{self, ManifestError};
use wscluster_runtime::file_watcher::{Contents, FileWatcher, Settle, read_error};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// What an edit is.
pub type Edit = Result<WsCluster, ManifestError>;

/// Sends each edit of `path`, which was read as `applied` before; ends with the receiver.
pub fn follow(path: PathBuf, applied: String) -> io::Result<mpsc::Receiver<Edit>> {
    let (edits, receiver) = mpsc::channel(1);
    thread::Builder::new().name("manifest".into()).spawn(move || {
        let mut watcher = FileWatcher::new(path.clone(), applied, EVERY, Settle::Twice);
        loop {
            if let Some(changed) = watcher.next()
                && edits.blocking_send(understood(&path, changed)).is_err()
            {
                return;
            }
            if edits.is_closed() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn understood(path: &Path, contents: Contents) -> Edit {
    let text = contents.map_err(|code| ManifestError::Read { path: path.into(), source: read_error(code) })?;
    manifest::parse(&text, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_the_file() {
        let path = Path::new("cluster.yaml");
        let error = understood(path, Err(Some(2))).unwrap_err().to_string();
        assert!(error.starts_with("failed to read cluster.yaml: No such file"), "{error}");
        assert!(!error.contains("standard input"), "that cannot be followed: {error}");
        let error = understood(path, Err(None)).unwrap_err().to_string();
        assert!(error.starts_with("failed to read cluster.yaml: invalid data"), "{error}");
        let error = understood(path, Ok("kind: WsCluster".into())).unwrap_err().to_string();
        assert!(error.contains("apiVersion"), "{error}");
    }
}
