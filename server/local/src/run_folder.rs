//! The private folder of a run: the versions of the manifest that its processes read, and the list of shards that its gateways
//! follow. The person's own file may be half edited at any moment; what lies here is replaced as a whole.
//!
//! A run holds a lock (`flock(2)`) on a file in it, which the kernel takes off however the run dies: the next run removes the
//! folders that nobody holds.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wscluster_routing::member::{Member, write_members};

use super::revision::Version;

/// The folder; removed with the run.
#[derive(Debug)]
pub struct Files {
    folder: TempDir,
    _held: File,
}

const PREFIX: &str = "wscluster-local-";
const LOCK: &str = "lock";

/// Why something cannot be written there.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to write {path}: {source}; a run keeps its manifests there, a few kilobytes: make room, or set TMPDIR to another folder"
)]
pub struct FilesError {
    path: PathBuf,
    source: io::Error,
}

impl Files {
    /// A new folder in the system's folder for temporary files, where those of runs that were killed go.
    pub fn new() -> Result<Self, FilesError> {
        let parent = std::env::temp_dir();
        remove_dead(&parent);
        let create = || {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent)?;
            let held = hold(folder.path())?;
            Ok(Self { folder, _held: held })
        };
        create().map_err(|source| FilesError { path: parent.clone(), source })
    }

    /// Writes what processes of `part` at `version` read, and says where it lies for as long as one of them runs.
    pub fn write(&self, part: &str, version: &Version) -> Result<PathBuf, FilesError> {
        let path = self.folder.path().join(format!("{part}-{}.yaml", version.revision));
        match replace(&path, &version.manifest) {
            Ok(()) => Ok(path),
            Err(source) => Err(FilesError { path, source }),
        }
    }

    /// Where the list of shards is.
    pub fn members(&self) -> PathBuf {
        self.folder.path().join("members")
    }

    /// Writes the list of shards.
    pub fn set_members(&self, members: &[Member]) -> Result<(), FilesError> {
        let path = self.members();
        replace(&path, &write_members(members)).map_err(|source| FilesError { path, source })
    }
}

/// Takes the lock of `folder`. It gets its name when it is held: under that name nobody finds it free.
fn hold(folder: &Path) -> io::Result<File> {
    let new = folder.join("lock.new");
    let file = File::create(&new)?;
    file.try_lock()?;
    std::fs::rename(new, folder.join(LOCK))?;
    Ok(file)
}

/// Removes our own folders in `parent` whose lock nobody holds. One without a lock may be about to get it, and is left.
fn remove_dead(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let ours = |folder: Metadata| folder.is_dir() && folder.uid() == rustix::process::geteuid().as_raw();
        let is_dead = || File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if entry.metadata().is_ok_and(ours) && is_dead() {
            // A folder that stays costs a few kilobytes, and is tried again.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Readers see the text before or the text after, never half of one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_reads_the_members_that_are_written() {
        let files = Files::new().unwrap();
        let member = |name: &str, port: u16| {
            let addr = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
            Member { name: name.into(), ws: addr(port), admin: addr(port + 1) }
        };
        for members in [vec![], vec![member("prices-0", 10)], vec![member("prices-0", 10), member("prices-1", 20)]] {
            files.set_members(&members).unwrap();
            let text = std::fs::read_to_string(files.members()).unwrap();
            assert_eq!(wscluster_routing::member::parse_members(&text), Ok(members));
        }
    }

    #[test]
    fn folder_of_a_dead_run_goes_and_no_other() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = parent.path().join(format!("{PREFIX}{name}"));
            std::fs::create_dir(&folder).unwrap();
            folder
        };
        let (dead, runs, begins) = (folder("dead"), folder("runs"), folder("begins"));
        drop(hold(&dead).unwrap());
        let held = hold(&runs).unwrap();
        remove_dead(parent.path());
        assert_eq!([&dead, &runs, &begins].map(|folder| folder.exists()), [false, true, true]);
        drop(held);
    }

    #[test]
    fn folder_goes_with_the_run() {
        let files = Files::new().unwrap();
        files.set_members(&[]).unwrap();
        let folder = files.members().parent().unwrap().to_owned();
        drop(files);
        assert!(!folder.exists());
    }
}
