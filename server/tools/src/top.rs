//! `wscluster top`: shows the shards of a running cluster as one gateway sees them, refreshed like top(1).
//!
//! Reads only `/health` of an admin port. On a terminal it redraws one table; elsewhere it prints a table, or the
//! health JSON in one line, per refresh. If the gateway does not answer, it prints the error and tries again.

mod table;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use wscluster_admin::client::AdminClient;
use wscluster_admin::health::GatewayHealth;
use wscluster_api::units::Span;
use wscluster_runtime::args::Output;
use wscluster_runtime::exit::{FAILED, USAGE, fail, report};

use crate::verify::admin_address;

const EXAMPLES: &str = "\
Examples:
  # a local run whose gateway is on port 8080
  wscluster top
  # one table
  wscluster top --admin http://127.0.0.1:9090 --once
  # a gateway on Kubernetes
  kubectl port-forward deploy/prices-gateway 9090 & wscluster top --admin http://127.0.0.1:9090
  # one line of JSON every 5 s, for scripts
  wscluster top --output json --interval 5s

Exit codes: 0 ended by --once or by a signal, 1 --once got no answer, 2 wrong command line.";

/// Escape sequences: cursor to the top left corner, clear the rest of a line, of the screen, and all of it.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";
const CLEAR_ALL: &str = "\x1b[2J";

/// Arguments of `wscluster top`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Admin address of a gateway or of `wscluster local`.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081", env = "WSCLUSTER_ADMIN_URL")]
    admin: String,
    #[arg(hide = true, help = "the URL of top is now given by --admin URL")]
    old_admin: Option<String>,
    /// Time between two requests.
    #[arg(long, value_name = "DURATION", default_value_t = Span::secs(1))]
    interval: Span,
    /// Time for one answer.
    #[arg(long, value_name = "DURATION", default_value_t = Span::secs(3))]
    timeout: Span,
    /// Print one table and end.
    #[arg(long)]
    once: bool,
    /// Format of standard output; JSON is the answer of /health, one line per request.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs `wscluster top`.
pub fn run(args: &Args) -> ExitCode {
    let admin = match admin_address("admin", args.old_admin.as_ref().unwrap_or(&args.admin)) {
        Ok(admin) => admin,
        Err(error) => return fail(USAGE, error),
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(refresh(args, &admin)),
        Err(error) => fail(FAILED, format_args!("failed to start: {error}")),
    }
}

async fn refresh(args: &Args, address: &str) -> ExitCode {
    let admin = AdminClient::new(args.timeout.0);
    let live = args.output == Output::Text && !args.once && std::io::stdout().is_terminal();
    if live {
        print!("{CLEAR_ALL}");
    }
    let mut clock = tokio::time::interval(args.interval.0.max(Duration::from_millis(100)));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let answer = health(args.output, &admin, address).await;
        let has_failed = answer.is_err();
        let written = match answer {
            Ok(text) => show(&text, live),
            Err(error) if live => show(&format!("{error}\n"), live),
            Err(error) => {
                report(error);
                Ok(())
            }
        };
        // Standard output is closed.
        if args.once || written.is_err() {
            return if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    }
}

async fn health(output: Output, admin: &AdminClient, address: &str) -> Result<String, String> {
    let value: serde_json::Value = admin.health(address).await.map_err(|error| error.to_string())?;
    if output == Output::Json {
        return Ok(format!("{value}\n"));
    }
    let health: GatewayHealth = serde_json::from_value(value)
        .map_err(|error| format!("{address} is not the admin address of a gateway or of `wscluster local`: {error}"))?;
    Ok(table::of(&health))
}

fn show(text: &str, live: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if live {
        write!(out, "{HOME}{}{CLEAR_BELOW}", text.replace('\n', CLEAR_LINE))?;
    } else {
        write!(out, "{text}")?;
    }
    out.flush()
}
