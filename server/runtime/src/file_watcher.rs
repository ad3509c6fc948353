//! Watches one file for changes, by reading it at short intervals. That works for every way in which an editor, a
//! Kubernetes volume or a rename may replace a file, on every file system.
//!
//! Used for the manifest of a local run and for lists of shards; meant for files of credentials too.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The text of a file, or the number of the error (`errno`) that kept it from being read.
pub type Contents = Result<String, Option<i32>>;

/// When new contents count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// As soon as they are seen: for files that are replaced by a rename and never half written.
    AtOnce,
    /// After two reads in a row found them: for files that editors write, since the beginning of a file may be valid
    /// too.
    Twice,
}

/// Watches a file.
#[derive(Debug)]
pub struct FileWatcher {
    path: PathBuf,
    every: Duration,
    changes: Changes,
}

impl FileWatcher {
    /// Watches `path`, which was read as `known` before, at intervals of `every`.
    pub fn new(path: PathBuf, known: String, every: Duration, settle: Settle) -> Self {
        Self { path, every, changes: Changes::new(known, settle) }
    }

    /// Waits for one interval, and returns the contents if they are new. Blocks its thread.
    pub fn next_change(&mut self) -> Option<Contents> {
        std::thread::sleep(self.every);
        let seen = std::fs::read_to_string(&self.path).map_err(|error| error.raw_os_error());
        self.changes.changed(seen)
    }
}

/// The error that `code` of [`Contents`] stands for.
pub fn read_error(code: Option<i32>) -> io::Error {
    code.map_or_else(|| io::ErrorKind::InvalidData.into(), io::Error::from_raw_os_error)
}

/// Decides which contents are new.
#[derive(Debug)]
struct Changes {
    settle: Settle,
    reported: Contents,
    last: Contents,
}

impl Changes {
    fn new(known: String, settle: Settle) -> Self {
        Self { settle, reported: Ok(known.clone()), last: Ok(known) }
    }

    fn changed(&mut self, seen: Contents) -> Option<Contents> {
        let has_settled = self.settle == Settle::AtOnce || seen == self.last;
        self.last.clone_from(&seen);
        (has_settled && seen != self.reported).then(|| {
            self.reported.clone_from(&seen);
            seen
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it stands for the contents of a file")]
    fn text(text: &str) -> Contents {
        Ok(text.to_owned())
    }

    #[test]
    fn reports_contents_once_and_only_when_they_have_settled() {
        let mut changes = Changes::new("a".into(), Settle::Twice);
        let gone = || Err(Some(2));
        for (seen, reported) in [
            (text("a"), None),
            (text("ab"), None),
            (text("abc"), None),
            (text("abc"), Some(text("abc"))),
            (text("abc"), None),
            // An editor that replaces a file removes it for a moment.
            (gone(), None),
            (text("abc"), None),
            (gone(), None),
            (gone(), Some(gone())),
            (gone(), None),
            (text("abc"), None),
            (text("abc"), Some(text("abc"))),
        ] {
            assert_eq!(changes.changed(seen.clone()), reported, "{seen:?}");
        }
    }

    #[test]
    fn reports_contents_at_once_if_asked_to() {
        let mut changes = Changes::new("a".into(), Settle::AtOnce);
        let seen = [text("a"), text("b"), text("b"), Err(Some(2)), Err(Some(2)), text("b")];
        let reported = seen.map(|seen| changes.changed(seen));
        assert_eq!(reported, [None, Some(text("b")), None, Some(Err(Some(2))), None, Some(text("b"))]);
    }

    #[test]
    fn sees_a_file_that_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members");
        std::fs::write(&path, "a").unwrap();
        let mut watcher = FileWatcher::new(path.clone(), "a".into(), Duration::from_millis(1), Settle::AtOnce);
        assert_eq!(watcher.next_change(), None);
        let other = folder.path().join("other");
        std::fs::write(&other, "b").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(watcher.next_change(), Some(text("b")));
    }
}
