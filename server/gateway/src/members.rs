//! Shards that a file names, one `NAME=WS_ADDR,ADMIN_ADDR` a line: whoever runs them replaces the file (by a rename, so that it is
//! never half written) when they change, and the gateway follows within a moment.
//!
//! A file that cannot be read or understood changes nothing: the last list stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use wscluster_routing::table::Member;
use wscluster_runtime::critical_task::spawn_critical;

use super::state::{Gateway, Stage};

/// Between two looks at the file.
const EVERY: Duration = Duration::from_millis(100);

/// Why a list of members is of no use.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// The file.
    #[error("failed to read {path}, which should hold one NAME=WS_ADDR,ADMIN_ADDR a line: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it.
    #[error("line {line} of {path}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A name.
    #[error("shard {0:?} is named twice; each shard has its own name")]
    Twice(String),
}

/// What a file says: its text, and the members.
#[derive(Debug)]
pub struct Listed {
    text: String,
    /// The shards.
    pub members: Vec<Member>,
}

/// The members in `path`.
pub fn read(path: &Path) -> Result<Listed, MembersError> {
    let text = std::fs::read_to_string(path).map_err(|source| MembersError::Read { path: path.into(), source })?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())).filter(|(_, line)| !line.is_empty());
    let member = |(line, text): (usize, &str)| {
        text.parse().map_err(|reason| MembersError::Line { path: path.into(), line, reason })
    };
    let members = lines.map(member).collect::<Result<Vec<_>, _>>()?;
    unique(&members)?;
    Ok(Listed { text, members })
}

/// Whether each has its own name.
pub fn unique(members: &[Member]) -> Result<(), MembersError> {
    let twice = |(at, member): &(usize, &Member)| members[..*at].iter().any(|other| other.name == member.name);
    match members.iter().enumerate().find(twice) {
        Some((_, member)) => Err(MembersError::Twice(member.name.clone())),
        None => Ok(()),
    }
}

/// Keeps the table of `gateway` as `path` says, which said `listed` before; ends with the gateway.
pub fn follow(gateway: Arc<Gateway>, path: PathBuf, listed: Listed) -> io::Result<()> {
    let mut text = listed.text;
    let mut failed = false;
    spawn_critical("members", gateway.failing(), move || {
        while gateway.stage() < Stage::Closing {
            thread::sleep(EVERY);
            match read(&path) {
                Ok(listed) => {
                    failed = false;
                    if listed.text != text {
                        gateway.set_members(&listed.members);
                        gateway.offer_slots();
                        text = listed.text;
                    }
                }
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(%error, "members stay as they are");
                }
                Err(_) => {}
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Result<Listed, MembersError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn reads_one_shard_a_line() {
        let listed = listed("a-0=127.0.0.1:1,127.0.0.1:2\n\na-1=127.0.0.1:3,[::1]:4\n").unwrap();
        let names: Vec<_> = listed.members.iter().map(|member| (&*member.name, member.admin.port())).collect();
        assert_eq!(names, [("a-0", 2), ("a-1", 4)]);
        assert_eq!(super::tests::listed("").unwrap().members, [], "no shard yet is a list too");
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let error = listed("a-0=127.0.0.1:1,127.0.0.1:2\na-1=127.0.0.1:3\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2 of ") && error.contains("write NAME=HOST:PORT,HOST:PORT"), "{error}");
        let error = listed("a-0=127.0.0.1:1,127.0.0.1:2\na-0=127.0.0.1:3,127.0.0.1:4\n").unwrap_err();
        assert_eq!(error.to_string(), "shard \"a-0\" is named twice; each shard has its own name");
        let error = read(Path::new("/nowhere/members")).unwrap_err().to_string();
        assert!(error.contains("NAME=WS_ADDR,ADMIN_ADDR"), "{error}");
    }
}
