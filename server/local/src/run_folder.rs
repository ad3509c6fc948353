//! The private folder of a run: the revisions of the manifest that its processes read, the list of shards that its
//! gateways follow, and the token that orders to its processes carry. The user's own file may be half edited at any
//! moment; files here are replaced atomically. Only this user may read them.
//!
//! A run holds a lock (`flock(2)`) on a file in the folder. The kernel releases it however the run ends, and the next
//! run removes folders without a held lock.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wscluster_admin::Token;
use wscluster_routing::member::{Member, write_members};

use super::revision::Revision;

/// The folder. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct RunFolder {
    folder: TempDir,
    token: Token,
    _lock: File,
}

const PREFIX: &str = "wscluster-local-";
const LOCK: &str = "lock";
const TOKEN: &str = "token";

/// A file of the folder could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to write {path}: {source}; a run keeps a few kilobytes there: free some space, or set TMPDIR to another folder"
)]
pub(crate) struct RunFolderError {
    path: PathBuf,
    source: io::Error,
}

impl RunFolder {
    /// Creates a folder under `TMPDIR`, and removes those of killed runs there.
    pub(crate) fn new() -> Result<Self, RunFolderError> {
        let parent = std::env::temp_dir();
        remove_dead(&parent);
        let create = || {
            let only_ours = Permissions::from_mode(0o700);
            let folder = tempfile::Builder::new().prefix(PREFIX).permissions(only_ours).tempdir_in(&parent)?;
            let lock = hold(folder.path())?;
            let token = Token::random();
            replace(&folder.path().join(TOKEN), token.reveal())?;
            Ok(Self { folder, token, _lock: lock })
        };
        create().map_err(|source| RunFolderError { path: parent.clone(), source })
    }

    /// Writes the manifest that processes of `part` at `revision` read, and returns its path.
    pub(crate) fn write(&self, part: &str, revision: &Revision) -> Result<PathBuf, RunFolderError> {
        let path = self.folder.path().join(format!("{part}-{}.yaml", revision.id));
        match replace(&path, &revision.manifest) {
            Ok(()) => Ok(path),
            Err(source) => Err(RunFolderError { path, source }),
        }
    }

    /// The token of the admin ports.
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// The path of the file with the token.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join(TOKEN)
    }

    /// The path of the list of shards.
    pub(crate) fn members(&self) -> PathBuf {
        self.folder.path().join("members")
    }

    /// Writes the list of shards.
    pub(crate) fn set_members(&self, members: &[Member]) -> Result<(), RunFolderError> {
        let path = self.members();
        replace(&path, &write_members(members)).map_err(|source| RunFolderError { path, source })
    }
}

/// Takes the lock of `folder`. The lock file gets its final name only once it is locked, so no other process can find
/// it unlocked.
fn hold(folder: &Path) -> io::Result<File> {
    let new = folder.join("lock.new");
    let file = create(&new)?;
    file.try_lock()?;
    std::fs::rename(new, folder.join(LOCK))?;
    Ok(file)
}

/// Removes folders of dead runs of this user in `parent`. A folder without a lock file may belong to a run that
/// starts.
fn remove_dead(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let ours = |folder: Metadata| folder.is_dir() && folder.uid() == rustix::process::geteuid().as_raw();
        let is_dead = || File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if entry.metadata().is_ok_and(ours) && is_dead() {
            // A folder that stays costs a few kilobytes; the next run tries again.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Replaces the file atomically.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    create(&new)?.write_all(text.as_bytes())?;
    std::fs::rename(new, path)
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_reads_the_members_that_are_written() {
        let files = RunFolder::new().unwrap();
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
    fn removes_only_folders_of_dead_runs() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = parent.path().join(format!("{PREFIX}{name}"));
            std::fs::create_dir(&folder).unwrap();
            folder
        };
        let (dead, runs, begins) = (folder("dead"), folder("runs"), folder("begins"));
        drop(hold(&dead).unwrap());
        let lock = hold(&runs).unwrap();
        remove_dead(parent.path());
        assert_eq!([&dead, &runs, &begins].map(|folder| folder.exists()), [false, true, true]);
        drop(lock);
    }

    #[test]
    fn only_its_user_may_read_the_folder_and_its_files() {
        let files = RunFolder::new().unwrap();
        files.set_members(&[]).unwrap();
        let folder = files.members().parent().unwrap().to_owned();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        let modes: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| mode(&entry.unwrap().path())).collect();
        assert_eq!(modes, [0o600; 3], "the lock, the token and the list of shards");
    }

    #[test]
    fn folder_is_removed_with_the_run() {
        let files = RunFolder::new().unwrap();
        files.set_members(&[]).unwrap();
        let folder = files.members().parent().unwrap().to_owned();
        drop(files);
        assert!(!folder.exists());
    }
}
