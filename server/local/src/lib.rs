//! `wscluster local`: runs a `WsCluster` manifest, as used on Kubernetes, as processes of one machine.
//!
//! Each shard and each gateway is a child process, started from this executable with the subcommand that Kubernetes
//! would run in a pod. The parent process plays the parts of the operator and the kubelet, and hosts an embedded
//! Kafka broker if the manifest names no brokers.
//!
//! - [`Args`] and [`run`]: the command line and its exit code; `run.rs` sets up one run, `event_loop.rs` drives it,
//!   `shutdown.rs` ends it.
//! - **What should run**: `manifest_watcher.rs` reads edits, `edit_rules.rs` rejects those that need a restart,
//!   `revision.rs` computes what each process is started with, `reconciler.rs` carries out the plan of
//!   [`wscluster_plan`] for shards (`observe.rs` is its input) and of `rollout.rs` for gateways.
//! - **Child processes**: `fleet.rs` starts, replaces and removes them; `supervise.rs` restarts one that ends or
//!   hangs; `program.rs` builds its command line; `reserved_ports.rs`, `listen_sockets.rs` and `run_folder.rs` are
//!   its ports, sockets and files.
//! - **What runs**: `health_poller.rs` asks every child, `state.rs` keeps the answers, `state/health.rs` derives
//!   `/health` from them, `admin.rs` serves it, and `page.rs` the
//!   page for browsers.
//! - **Output**: `screen.rs` writes everything; `event.rs`, `ready_message.rs` and `traffic.rs` are what it writes.
//! - **The demo**: `demo.rs` publishes trades; `sample.rs` finds a topic and channel to try.

mod admin;
mod args;
mod command;
mod demo;
mod edit_rules;
mod event;
mod event_loop;
mod fleet;
mod health_poller;
mod listen_sockets;
mod manifest_watcher;
mod observe;
mod page;
mod program;
mod ready_message;
mod reconciler;
mod reserved_ports;
mod revision;
mod rollout;
mod run;
mod run_folder;
mod sample;
mod screen;
mod shutdown;
mod state;
mod supervise;
mod traffic;

pub use self::args::Args;
pub use self::command::{quickstart, run};
