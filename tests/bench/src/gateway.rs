//! `bench-gateway`: compares one gateway worker with HAProxy and nginx: same CPU, same backends, same offered rates.
//!
//! Memory is measured first, on fresh processes. Then all three run side by side. Only the measured one has load, and
//! their order rotates from round to round.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;

use crate::backend::{Address, Push, Sent};
use crate::child::Child;
use crate::cpu::{self, Cpu};
use crate::error::{Doing as _, Result};
use crate::fleet::{Door, Fleet, handshakes};
use crate::ours::Binary;
use crate::proxies::{Kind, Proxy};
use crate::report::{Report, Target, median, round, spread};
use crate::{bail, fleet};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Rounds; every figure is the median over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tunnels while messages are relayed.
    #[arg(long, default_value_t = 1_000)]
    tunnels: usize,
    /// Messages per second and tunnel.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Echoes per second and tunnel.
    #[arg(long, default_value_t = 10.0)]
    echo_rate: f64,
    /// Payload bytes of a message.
    #[arg(long, default_value_t = 128)]
    len: usize,
    /// Seconds of each relay and echo measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Handshakes of each measurement, offered at 1,000 per second.
    #[arg(long, default_value_t = 4_000)]
    handshakes: usize,
    /// Idle tunnels whose resident memory is compared.
    #[arg(long, num_args = 2, default_values_t = [2_000, 8_000])]
    idle: Vec<usize>,
    /// Proxies to compare.
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL.map(Choice))]
    only: Vec<Choice>,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

/// Handshakes per second: far below the capacity of any proxy, so that none queues.
const HANDSHAKE_RATE: f64 = 1_000.0;

/// CPU and memory of one proxy in one round.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sample {
    handshake_ms: f64,
    relay_us: f64,
    echo_us: f64,
}

type Pick = fn(&Sample) -> f64;

/// Samples of one proxy over all rounds.
#[derive(Debug, Serialize)]
struct Figures {
    name: &'static str,
    idle_kib: f64,
    rss_mib: f64,
    idle_cpu_percent: f64,
    rounds: Vec<Sample>,
}

impl Figures {
    fn of(&self, pick: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.rounds.iter().map(pick).collect()
    }
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    crate::machine::two_cpus()?;
    let report = Report::begin("gateway");
    cpu::pin_to(crate::CLIENT_CPU)?;
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let binary = Binary::find(args.wscluster.clone())?;
    let kinds: Vec<Kind> = args.only.iter().map(|choice| choice.0).collect();
    for &kind in &kinds {
        report.peer(kind.name(), kind.version(&binary)?);
    }
    let (mut backend, addresses) = start_backend(3).await?;
    let mut all = vec![];
    for &kind in &kinds {
        report.progress(format_args!("{}: memory of idle tunnels", kind.name()));
        let proxy = Proxy::start(kind, &addresses, crate::SUBJECT_CPU, &binary).await?;
        let (idle_kib, rss_mib) = idle_memory(&proxy, args.idle[0], args.idle[1]).await?;
        proxy.stop().await;
        all.push(Figures { name: kind.name(), idle_kib, rss_mib, idle_cpu_percent: 0.0, rounds: vec![] });
    }
    let mut proxies = vec![];
    for &kind in &kinds {
        proxies.push(Proxy::start(kind, &addresses, crate::SUBJECT_CPU, &binary).await?);
    }
    for (proxy, figures) in proxies.iter().zip(&mut all) {
        let before = Cpu::of(proxy.pid)?;
        sleep(Duration::from_secs(2)).await;
        figures.idle_cpu_percent = 100.0 * Cpu::of(proxy.pid)?.since(&before).total().as_secs_f64() / 2.0;
    }
    for turn in 0..args.rounds {
        for i in 0..proxies.len() {
            let who = (turn + i) % proxies.len();
            let sample = measure(args, &proxies[who], &mut backend).await?;
            report.progress(format_args!("round {}: {:18} {sample:.3?}", turn + 1, all[who].name));
            all[who].rounds.push(sample);
        }
    }
    for proxy in proxies {
        proxy.stop().await;
    }
    backend.stop().await;
    write(&mut report, args, &all);
    report.finish()
}

/// Starts the backend with `listeners` listeners.
pub async fn start_backend(listeners: usize) -> Result<(Child, Vec<Address>)> {
    let this = std::env::current_exe().doing("find this program")?.display().to_string();
    let mut child =
        Child::start("backend", Some(crate::CLIENT_CPU), &this, &["backend", "--listeners", &listeners.to_string()])?;
    let addresses = child.line(Duration::from_secs(5)).await?;
    Ok((child, addresses))
}

/// KiB per idle tunnel, measured between `few` and `many` of them, and resident MiB at `many`.
async fn idle_memory(proxy: &Proxy, few: usize, many: usize) -> Result<(f64, f64)> {
    let mut fleet = Fleet::new(Door::at(proxy.addr));
    let mut resident = [0; 2];
    for (bytes, more) in resident.iter_mut().zip([few, many - few]) {
        fleet.add(more, 2_000.0).await?;
        sleep(Duration::from_secs(1)).await;
        *bytes = cpu::rss_bytes(proxy.pid)?;
    }
    let added = resident[1].saturating_sub(resident[0]) as f64;
    Ok((added / 1_024.0 / (many - few) as f64, resident[1] as f64 / f64::from(1 << 20)))
}

async fn measure(args: &Args, proxy: &Proxy, backend: &mut Child) -> Result<Sample> {
    let door = Door::at(proxy.addr);
    let used = async |before: &Cpu| Ok::<_, crate::error::Error>(Cpu::of(proxy.pid)?.since(before).total());
    let before = Cpu::of(proxy.pid)?;
    handshakes(&door, args.handshakes, HANDSHAKE_RATE).await?;
    let handshake_ms = used(&before).await?.as_secs_f64() * 1e3 / args.handshakes as f64;

    let mut fleet = Fleet::new(door);
    fleet.add(args.tunnels, HANDSHAKE_RATE).await?;
    sleep(Duration::from_millis(200)).await;

    let records = (args.rate * args.seconds) as usize;
    let expected = (records * args.tunnels) as u64;
    let push = Push { records, per_second: Some(args.rate), burst: 1, len: args.len, spread: true };
    let before = Cpu::of(proxy.pid)?;
    let patience = Duration::from_secs_f64(args.seconds * 3.0 + 10.0);
    let done: Sent = backend.ask(&json!(push), patience).await?;
    if done.sent != expected || !fleet.received(expected, Duration::from_secs(5)).await {
        bail!("{}: {} of {expected} messages came, {done:?}", proxy.kind.name(), fleet.counts().messages.get());
    }
    let relay_us = used(&before).await?.as_secs_f64() * 1e6 / expected as f64;

    let echoes = (args.echo_rate * args.seconds) as usize * args.tunnels;
    let so_far = fleet.counts().messages.get();
    let before = Cpu::of(proxy.pid)?;
    let sent = fleet.send(echoes, args.echo_rate * args.tunnels as f64, args.len).await?;
    if sent != echoes as u64 || !fleet.received(so_far + sent, Duration::from_secs(5)).await {
        bail!("{}: {} of {echoes} echoes came", proxy.kind.name(), fleet.counts().messages.get() - so_far);
    }
    let echo_us = used(&before).await?.as_secs_f64() * 1e6 / echoes as f64;
    drop(fleet);
    sleep(Duration::from_millis(300)).await;
    Ok(Sample { handshake_ms, relay_us, echo_us })
}

fn write(report: &mut Report, args: &Args, all: &[Figures]) {
    let picks: [(&str, Pick); 3] =
        [("handshake", |s| s.handshake_ms), ("relayed message", |s| s.relay_us), ("echo", |s| s.echo_us)];
    let rows = all.iter().map(|figures| {
        let mut row = vec![figures.name.to_owned()];
        row.extend(picks.iter().map(|(_, pick)| spread(&figures.of(pick))));
        let memory = [figures.idle_kib, figures.rss_mib, figures.idle_cpu_percent];
        row.extend(memory.map(round));
        row
    });
    let columns = [
        "proxy, one worker on one CPU",
        "CPU-s per 1,000 handshakes (open + close)",
        "CPU-s per 1 M relayed messages",
        "CPU-s per 1 M echoes",
        "KiB per idle tunnel",
        "MiB resident with all tunnels",
        "CPU % without clients",
    ];
    let title = format!(
        "Median (lowest–highest) of {} interleaved rounds; {} B messages over {} tunnels, {}/s a tunnel relayed and {}/s \
         echoed; handshakes at {HANDSHAKE_RATE}/s; memory from {} to {} idle tunnels.",
        args.rounds, args.len, args.tunnels, args.rate, args.echo_rate, args.idle[0], args.idle[1]
    );
    report.table(&title, &columns, rows.collect());
    report.data("figures", all);
    if let Some(ours) = all.iter().find(|figures| figures.name == Kind::Wscluster.name()) {
        let peers: Vec<_> = all.iter().filter(|figures| figures.name != ours.name).collect();
        for ((what, pick), limit) in picks.iter().zip([0.9, 0.9, 1.0]) {
            let best = peers.iter().map(|peer| median(&peer.of(pick))).fold(f64::INFINITY, f64::min);
            let ratio = median(&ours.of(pick)) / best;
            report.goal(format!("CPU per {what} ÷ that of the better peer"), Target::AtMost(limit), ratio);
        }
        report.goal("KiB per idle tunnel", Target::AtMost(1.5), ours.idle_kib);
        report.goal("stretch: KiB per idle tunnel", Target::AtMost(0.8), ours.idle_kib);
    }
    report.note("The proxy has CPU 0 to itself; clients and the three backends share CPU 1.");
    report.note("Health checks of the peers are off; our gateway polls the health of its three shards all the time.");
    report.note("Messages are sent one by one, each at its own time, not in batches.");
}

/// A [`Kind`] that prints as it is typed.
#[derive(Clone, Copy, Debug)]
pub struct Choice(Kind);

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use clap::ValueEnum as _;
        f.write_str(self.0.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl std::str::FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        use clap::ValueEnum as _;
        Kind::from_str(text, true).map(Self)
    }
}
