//! Shared by all processes of wscluster.
//!
//! - [`sockets`], [`socket_activation`], [`fds`], [`places`]: listening sockets, the budget of file descriptors, and
//!   places that silent clients cannot keep.
//! - [`logs`], [`nonblocking_writer`], [`log_limit`]: log lines that never block their writer, and limits for floods
//!   of them.
//! - [`shutdown`], [`drain`]: the end of a process, and the pace at which connections are moved away.
//! - [`critical_task`]: threads and tasks whose panic is the end of the process.
//! - [`process`], [`child_process`], [`restarts`], [`usage`]: parent and child processes, and the CPU and memory that
//!   they use.
//! - [`backoff`]: waits between attempts. [`file_watcher`]: files that may change while the process runs.
//! - [`args`], [`exit`]: arguments that several subcommands share, exit codes, and the report of an error.

pub mod args;
pub mod backoff;
pub mod child_process;
pub mod critical_task;
pub mod drain;
pub mod exit;
pub mod fds;
pub mod file_watcher;
pub mod log_limit;
pub mod logs;
pub mod nonblocking_writer;
pub mod places;
pub mod process;
pub mod restarts;
pub mod shortage;
pub mod shutdown;
pub mod socket_activation;
pub mod sockets;
pub mod usage;
