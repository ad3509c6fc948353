//! What every process of wscluster needs, whatever its part.
//!
//! - [`sockets`], [`socket_activation`], [`fds`]: listening sockets and the budget of file descriptors.
//! - [`logs`], [`nonblocking_writer`]: log lines that never block whoever writes them.
//! - [`process`], [`critical_task`]: signals, resource usage, and threads whose end is the end of the process.
//! - [`child_process`]: starts a part of wscluster as a child process.
//! - [`drain`]: the pace at which connections are moved away.
//! - [`backoff`]: waits between attempts.
//! - [`args`]: arguments that several subcommands share.

pub mod args;
pub mod backoff;
pub mod child_process;
pub mod critical_task;
pub mod drain;
pub mod fds;
pub mod logs;
pub mod nonblocking_writer;
pub mod process;
pub mod socket_activation;
pub mod sockets;
