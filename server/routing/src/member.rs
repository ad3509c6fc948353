//! Names and addresses of shards, and the text form in which a list of them is given: one `NAME=WS_ADDR,ADMIN_ADDR` a
//! line.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// A shard that clients may be routed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, e.g. `prices-1`.
    pub name: String,
    /// WebSocket port.
    pub ws: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("{text:?} is not a shard; write NAME=HOST:PORT,HOST:PORT (WebSocket, then admin)");
        let (name, addresses) = text.split_once('=').ok_or_else(wanted)?;
        let (ws, admin) = addresses.split_once(',').ok_or_else(wanted)?;
        let address = |text: &str| text.trim().parse().map_err(|_| wanted());
        match name.trim() {
            "" => Err(wanted()),
            name => Ok(Self { name: name.to_owned(), ws: address(ws)?, admin: address(admin)? }),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={},{}", self.name, self.ws, self.admin)
    }
}

/// Why a list of members is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// A line is not a member.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong, and the right form.
        reason: String,
    },
    /// A name occurs twice.
    #[error("shard {0:?} is named twice; each shard has its own name")]
    Twice(String),
}

/// Parses a list with one member per line. Empty lines are ignored, and an empty list is valid.
pub fn parse_members(text: &str) -> Result<Vec<Member>, MembersError> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())).filter(|(_, line)| !line.is_empty());
    let member = |(line, text): (usize, &str)| text.parse().map_err(|reason| MembersError::Line { line, reason });
    let members = lines.map(member).collect::<Result<Vec<_>, _>>()?;
    check_names(&members)?;
    Ok(members)
}

/// The list that [`parse_members`] reads as `members`.
pub fn write_members(members: &[Member]) -> String {
    members.iter().flat_map(|member| [member.to_string(), "\n".to_owned()]).collect()
}

/// Refuses a name that occurs twice.
pub fn check_names(members: &[Member]) -> Result<(), MembersError> {
    let twice = |(at, member): &(usize, &Member)| members[..*at].iter().any(|other| other.name == member.name);
    match members.iter().enumerate().find(twice) {
        Some((_, member)) => Err(MembersError::Twice(member.name.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_shard_a_line() {
        let members = parse_members("a-0=127.0.0.1:1,127.0.0.1:2\n\na-1=127.0.0.1:3,[::1]:4\n").unwrap();
        let names: Vec<_> = members.iter().map(|member| (&*member.name, member.admin.port())).collect();
        assert_eq!(names, [("a-0", 2), ("a-1", 4)]);
        assert_eq!(parse_members(&write_members(&members)), Ok(members));
        assert_eq!(parse_members(""), Ok(vec![]), "an empty list is valid");
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let error = parse_members("a-0=127.0.0.1:1,127.0.0.1:2\na-1=127.0.0.1:3\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2: ") && error.contains("write NAME=HOST:PORT,HOST:PORT"), "{error}");
        let error = parse_members("a-0=127.0.0.1:1,127.0.0.1:2\na-0=127.0.0.1:3,127.0.0.1:4\n").unwrap_err();
        assert_eq!(error.to_string(), "shard \"a-0\" is named twice; each shard has its own name");
    }
}
