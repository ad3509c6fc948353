//! `wscluster local` and `wscluster verify` as processes, with real sockets and an embedded broker.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod command_line;
mod delivery;
mod drains;
mod edits;
mod hanging;
mod inherited;
mod run;
mod stopping;
mod storm;
mod supervision;
mod unread;
mod verify;
