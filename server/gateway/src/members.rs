//! Follows a file that lists the shards, in the form of [`parse_members`]. Its writer replaces it by a rename, so
//! that it is never half written.
//!
//! If the file cannot be read or parsed, the last list stays in use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wscluster_routing::member::{self, Member, parse_members};
use wscluster_runtime::critical_task::spawn_critical;
use wscluster_runtime::file_watcher::{Contents, FileWatcher, Settle, read_error};

use super::gateway::Gateway;
use super::stage::Stage;

/// Interval between two reads of the file.
const EVERY: Duration = Duration::from_millis(100);

/// Why a file of members is unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembersError {
    #[error("failed to read {path}, which should hold one NAME=WS_ADDR,ADMIN_ADDR a line: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to read {path}: {source}")]
    Parse { path: PathBuf, source: member::MembersError },
}

/// A list of members, and the text it was read from.
#[derive(Debug)]
pub(crate) struct MembersFile {
    text: String,
    pub(crate) members: Vec<Member>,
}

/// Reads the members in `path`.
pub(crate) fn read(path: &Path) -> Result<MembersFile, MembersError> {
    parse(path, std::fs::read_to_string(path).map_err(|error| error.raw_os_error()))
}

fn parse(path: &Path, contents: Contents) -> Result<MembersFile, MembersError> {
    let text = contents.map_err(|code| MembersError::Read { path: path.into(), source: read_error(code) })?;
    let members = parse_members(&text).map_err(|source| MembersError::Parse { path: path.into(), source })?;
    Ok(MembersFile { text, members })
}

/// Keeps the table of `gateway` equal to the list in `path`, which was read as `file` before; ends with the gateway.
pub(crate) fn follow(gateway: Arc<Gateway>, path: PathBuf, file: MembersFile) -> io::Result<()> {
    let mut watcher = FileWatcher::new(path.clone(), file.text, EVERY, Settle::AtOnce);
    spawn_critical("members", gateway.failing(), move || {
        while gateway.stage() < Stage::Closing {
            match watcher.next_change().map(|contents| parse(&path, contents)) {
                Some(Ok(file)) => {
                    gateway.set_members(&file.members);
                    gateway.offer_slots();
                }
                Some(Err(error)) => tracing::warn!(%error, "list of shards unusable; the last one stays in use"),
                None => {}
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_file_and_the_form_it_should_have() {
        let error = read(Path::new("/nowhere/members")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/members") && error.contains("NAME=WS_ADDR,ADMIN_ADDR"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members");
        std::fs::write(&path, "a-0=127.0.0.1:1,127.0.0.1:2\na-1=127.0.0.1:3\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("members: line 2: "), "{error}");
        std::fs::write(&path, "a-0=127.0.0.1:1,127.0.0.1:2\n").unwrap();
        assert_eq!(read(&path).unwrap().members.len(), 1);
    }
}
