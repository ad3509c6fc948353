//! Follows the manifest while a run goes on. The file is looked at rather than watched: that sees every way in which an editor
//! may write it, on every file system.
//!
//! A new text counts once it was seen twice in a row, because the beginning of a manifest may be a valid one that says something
//! else. Then it is read and checked as at the start; an error is told once, and the file is looked at on.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use wscluster_api::WsCluster;
use wscluster_api::manifest::{self, ManifestError};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// What an edit is.
pub type Edit = Result<WsCluster, ManifestError>;

/// A text, or the number of the error that kept it from being read.
type Seen = Result<String, Option<i32>>;

/// Tells each edit of `path`, which held `applied` when it was read first; ends with the receiver.
pub fn follow(path: PathBuf, applied: String) -> io::Result<mpsc::Receiver<Edit>> {
    let (edits, receiver) = mpsc::channel(1);
    thread::Builder::new().name("manifest".into()).spawn(move || {
        let mut looks = Looks::new(applied);
        loop {
            thread::sleep(EVERY);
            let seen = std::fs::read_to_string(&path).map_err(|error| error.raw_os_error());
            if let Some(settled) = looks.settled(seen)
                && edits.blocking_send(understood(&path, settled)).is_err()
            {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn understood(path: &Path, seen: Seen) -> Edit {
    let error =
        |code: Option<i32>| code.map_or_else(|| io::ErrorKind::InvalidData.into(), io::Error::from_raw_os_error);
    let text = seen.map_err(|code| ManifestError::Read { path: path.into(), source: error(code) })?;
    manifest::parse(&text, path)
}

/// Which of many looks is news.
#[derive(Debug)]
struct Looks {
    told: Seen,
    last: Seen,
}

impl Looks {
    fn new(applied: String) -> Self {
        Self { told: Ok(applied.clone()), last: Ok(applied) }
    }

    fn settled(&mut self, seen: Seen) -> Option<Seen> {
        let twice = seen == self.last;
        if !twice {
            self.last = seen;
            return None;
        }
        (seen != self.told).then(|| {
            self.told.clone_from(&seen);
            seen
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_text_once_and_only_when_it_stays() {
        let mut looks = Looks::new("a".into());
        let text = |text: &str| Ok(text.to_owned());
        let gone = || Err(Some(2));
        for (seen, told) in [
            (text("a"), None),
            (text("ab"), None),
            (text("abc"), None),
            (text("abc"), Some(text("abc"))),
            (text("abc"), None),
            // A file that an editor replaces is away for a moment.
            (gone(), None),
            (text("abc"), None),
            (gone(), None),
            (gone(), Some(gone())),
            (gone(), None),
            (text("abc"), None),
            (text("abc"), Some(text("abc"))),
        ] {
            assert_eq!(looks.settled(seen.clone()), told, "{seen:?}");
        }
    }

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
