//! `wscluster`: one binary, one subcommand a part of the system.

mod cli;

use std::process::ExitCode;

/// Small aligned blocks of many sizes, one set per connection: glibc spends 1.30 KiB on an idle tunnel, this 0.8.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run()
}
