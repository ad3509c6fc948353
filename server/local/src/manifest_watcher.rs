//! Follows edits of the manifest file during a run. A new text is parsed and validated as at the start. An error is
//! reported once, and the file is watched further.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use wscluster_api::WsCluster;
use wscluster_api::manifest::{self, ManifestError};
use wscluster_runtime::file_watcher::{Contents, FileWatcher, Settle, read_error};

/// Pause between two reads.
const PAUSE: Duration = Duration::from_millis(200);

/// The manifest after an edit, or why it is invalid.
pub(crate) type Edit = Result<WsCluster, ManifestError>;

/// Sends each edit of `path`, whose text at the start was `applied`. Ends with the receiver.
pub(crate) fn follow(path: PathBuf, applied: String) -> io::Result<mpsc::Receiver<Edit>> {
    let (edits, receiver) = mpsc::channel(1);
    thread::Builder::new().name("manifest".into()).spawn(move || {
        let mut watcher = FileWatcher::new(path.clone(), applied, PAUSE, Settle::Twice);
        loop {
            if let Some(changed) = watcher.next_change()
                && edits.blocking_send(parsed(&path, changed)).is_err()
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

fn parsed(path: &Path, contents: Contents) -> Edit {
    let text = contents.map_err(|code| ManifestError::Read { path: path.into(), source: read_error(code) })?;
    manifest::parse(&text, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_what_is_wrong_with_the_file() {
        let path = Path::new("cluster.yaml");
        let error = parsed(path, Err(Some(2))).unwrap_err().to_string();
        assert!(error.starts_with("failed to read cluster.yaml: No such file"), "{error}");
        assert!(!error.contains("standard input"), "standard input cannot be followed: {error}");
        let error = parsed(path, Err(None)).unwrap_err().to_string();
        assert!(error.starts_with("failed to read cluster.yaml: invalid data"), "{error}");
        let error = parsed(path, Ok("kind: WsCluster".into())).unwrap_err().to_string();
        assert!(error.contains("apiVersion"), "{error}");
    }
}
