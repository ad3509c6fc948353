//! `process_*`, named as Prometheus clients name them, and `wscluster_build_info`.

use std::fmt::Error;

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType::{Counter, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::reference::{self, Note, note};

/// Adds `wscluster_build_info{version,revision}` and `process_*` to `registry`.
pub fn register_process(registry: &mut Registry, version: &'static str, revision: &str) {
    registry.register_collector(Box::new(BuildInfo { version, revision: revision.to_owned() }));
    registry.register_collector(Box::new(ProcessCollector));
}

/// The rows of `docs/metrics.md` for them, or which of them do not fit the code.
pub fn process_reference() -> Result<String, String> {
    let mut registry = Registry::default();
    register_process(&mut registry, "", "");
    reference::table(&registry, NOTES)
}

const NOTES: &[Note] = &[
    Note {
        name: "wscluster_build_info",
        question: "Which version runs, with which revision of its configuration?",
        labels: &["version", "revision"],
    },
    note("process_cpu_seconds_total", "How much CPU does the process use?"),
    note("process_resident_memory_bytes", "How much memory does it use?"),
    note("process_virtual_memory_bytes", "How much address space does it use?"),
    note("process_open_fds", "How many descriptors are open?"),
    note("process_max_fds", "How many may be open?"),
    note("process_start_time_seconds", "When did the process start?"),
];

#[derive(Debug)]
struct BuildInfo {
    version: &'static str,
    revision: String,
}

impl Collector for BuildInfo {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Version of the program and revision of its configuration; the value is always 1";
        let mut gauge = encoder.encode_descriptor("wscluster_build_info", help, None, Gauge)?;
        let labels = [("version", self.version), ("revision", self.revision.as_str())];
        gauge.encode_family(&labels)?.encode_gauge(&1_u64)
    }
}

#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        // A process that may not read its own /proc has no such metrics.
        let Ok(process) = Process::myself() else { return Ok(()) };
        let Ok(stat) = process.stat() else { return Ok(()) };
        let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        encoder
            .encode_descriptor("process_cpu", "CPU time of all threads", Some(&Unit::Seconds), Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&cpu, None)?;
        if let Ok(boot) = procfs::boot_time_secs() {
            let since_epoch = boot as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64;
            let help = "Start of the process, seconds since 1970-01-01 UTC";
            encoder
                .encode_descriptor("process_start_time", help, Some(&Unit::Seconds), Gauge)?
                .encode_gauge(&since_epoch)?;
        }
        for (name, help, bytes) in [
            ("process_resident_memory", "Resident memory", stat.rss_bytes().get()),
            ("process_virtual_memory", "Virtual memory", stat.vsize),
        ] {
            encoder.encode_descriptor(name, help, Some(&Unit::Bytes), Gauge)?.encode_gauge(&bytes)?;
        }
        if let Ok(open) = process.fd_count() {
            encoder
                .encode_descriptor("process_open_fds", "Open file descriptors", None, Gauge)?
                .encode_gauge(&(open as u64))?;
        }
        if let Ok(LimitValue::Value(most)) = process.limits().map(|limits| limits.max_open_files.soft_limit) {
            encoder
                .encode_descriptor("process_max_fds", "Limit of open file descriptors", None, Gauge)?
                .encode_gauge(&most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_this_process_under_the_names_of_prometheus_clients() {
        let mut registry = Registry::default();
        register_process(&mut registry, "1.2.3", "abc");
        let text = crate::metrics::text(&registry);
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
            line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
        };
        assert_eq!(value("wscluster_build_info{version=\"1.2.3\",revision=\"abc\"} ") as u32, 1);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        assert!(value("process_start_time_seconds ") > 1.7e9);
        assert!(value("process_resident_memory_bytes ") > 100_000.0);
        assert!(value("process_virtual_memory_bytes ") > 100_000.0);
        assert!(value("process_open_fds ") >= 3.0 && value("process_max_fds ") >= value("process_open_fds "));
    }
}
