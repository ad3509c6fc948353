//! Errors of the command line and the manifest: each names the problem and the remedy, and no process is left.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Run, kill, manifest, output, output_of, wscluster};

/// Runs `local` on a manifest that it should reject; returns exit code and error.
fn refused(text: &str, more: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.yaml");
    std::fs::write(&file, text).unwrap();
    let (code, out, err) = output(wscluster().args(["local", "--output", "json", "-f"]).arg(&file).args(more));
    let event: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(event["event"], "failed", "programs get the error too");
    let error = event["error"].as_str().unwrap().to_owned();
    assert!(err.contains(&error), "{err}");
    (code, error)
}

#[test]
fn names_field_and_value_of_a_bad_manifest() {
    let good = manifest(2, 10, "");
    let collision = "        - { name: other.trades, channel: \"{key}.trade\" }\n";
    for (text, words) in [
        (good.replace("shards:", "shardz:"), vec!["shardz"]),
        (manifest(2, 0, ""), vec!["spec.capacity", "0", "1"]),
        (manifest(2, 10, collision), vec!["topics[1].channel", "{key}.trade", "topics[0]"]),
        (good.replace("kind: WsCluster", "kind: Deployment"), vec!["Deployment", "WsCluster"]),
        ("- just\n- a list\n".to_owned(), vec!["cluster.yaml"]),
    ] {
        let (code, error) = refused(&text, &[]);
        assert_eq!(code, Some(2), "{error}");
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }
}

#[test]
fn validate_lists_every_error_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (good, bad) = (path("good.yaml"), path("bad.yaml"));
    let (code, _, err) = output(wscluster().args(["init", &good]));
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = output(wscluster().args(["init", &good]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.starts_with("error: ") && err.contains("--force"), "{err}");
    std::fs::write(&bad, manifest(2, 0, "      properties: { no.such: \"1\" }\n")).unwrap();

    let (code, out, err) = output(wscluster().args(["validate", "-f", &good, &bad]));
    assert_eq!((code, out), (Some(2), format!("{good}: valid\n")), "{err}");
    assert!(err.starts_with(&format!("error: {bad}: spec.capacity: 0 is not allowed; ")), "{err}");

    let (code, out, _) = output(wscluster().args(["validate", "-o", "json", "-f", &good, "-f", &bad]));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["valid"]), (Some(2), &false.into()), "{report}");
    let [good, bad] = [&report["manifests"][0], &report["manifests"][1]];
    assert_eq!((&good["valid"], &bad["valid"]), (&true.into(), &false.into()), "{report}");
    assert_eq!((&bad["errors"][0]["field"], &bad["errors"][0]["value"]), (&"spec.capacity".into(), &"0".into()));
}

#[test]
fn names_a_missing_file() {
    let (code, _, err) = output(wscluster().args(["local", "-f", "/nowhere/cluster.yaml"]));
    assert_eq!(code, Some(2));
    assert!(err.contains("failed to read /nowhere/cluster.yaml: No such file"), "{err}");
}

#[test]
fn names_a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = manifest(1, 10, "");
    for option in ["--port", "--admin-port"] {
        let other = if option == "--port" { "--admin-port" } else { "--port" };
        let (code, error) = refused(&text, &[option, &port, other, "0"]);
        assert_eq!(code, Some(1));
        assert!(error.contains(&format!("failed to listen on 127.0.0.1:{port}")), "{error}");
        assert!(error.contains("choose another one"), "{error}");
    }
}

#[test]
fn runs_the_built_in_quickstart_without_a_file() {
    let mut command = wscluster();
    command.args(["local", "--port", "0", "--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    kill(child.id(), Signal::TERM);
    let (code, _, err) = output_of(child);
    assert_eq!(code, Some(0), "{err}");
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["shards"].as_array().unwrap().len(), 3, "{ready}");
    let first = err.lines().next().unwrap();
    assert!(first.contains("manifests/quickstart.yaml") && first.contains("wscluster init"), "{first}");
}

#[test]
fn rejects_one_port_for_clients_and_admin() {
    let text = manifest(1, 10, "  gateway: { service: { port: 19190 } }\n");
    for args in [&["--port", "19191", "--admin-port", "19191"][..], &["--admin-port", "19190"]] {
        let (code, error) = refused(&text, args);
        assert_eq!(code, Some(2), "{error}");
        assert!(
            error.contains(&format!("--admin-port {} is also the port for clients", args[args.len() - 1])),
            "{error}"
        );
    }
}

#[test]
fn explains_the_form_of_an_argument() {
    for (args, words) in [
        (["--host", "localhost"], "write an IP address"),
        (["--grace", "-1s"], "a whole number and a unit"),
        (["--log", "foo=bar=x"], "TARGET=LEVEL"),
    ] {
        let (code, _, err) = output(wscluster().args(["local", "-f", "cluster.yaml"]).args(args));
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(args[1]) && err.contains(words), "{err}");
    }
}

#[test]
fn rejects_the_port_of_another_run() {
    let run = Run::start(&manifest(1, 10, ""), &[]);
    let port = run.ready["gateway"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    // With SO_REUSEPORT on both sides, the kernel would give each run half of the clients.
    let (code, error) = refused(&manifest(1, 10, ""), &["--port", &port]);
    assert_eq!(code, Some(1));
    assert!(error.contains("another process holds the port"), "{error}");
}

#[test]
fn demo_never_writes_to_named_brokers() {
    let (code, error) = refused(&manifest(1, 10, ""), &["--demo", "--brokers", "127.0.0.1:9"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("embedded broker only") && error.contains("127.0.0.1:9"), "{error}");
}

#[test]
fn empty_broker_address_is_rejected_or_ignored() {
    let publish = ["publish", "odin.trades", "1"];
    let (code, _, err) = output(wscluster().args(publish).env("WSCLUSTER_BROKERS", ""));
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("no brokers: give --brokers"), "an empty variable is one that is not set: {err}");
    for part in [&publish[..], &["local", "-f", "cluster.yaml"], &["shard", "-f", "cluster.yaml"]] {
        let (code, _, err) = output(wscluster().args(part).args(["--brokers", ""]));
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("a value is required for '--brokers"), "{err}");
    }
}

#[test]
fn rejects_a_property_that_librdkafka_does_not_know() {
    let (code, error) = refused(&manifest(1, 10, "      properties: { no.such.property: \"1\" }\n"), &["--port", "0"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.starts_with("failed to set up the Kafka client: ") && error.contains("no.such.property"), "{error}");
}

#[test]
fn reports_why_a_child_does_not_start() {
    let security = "      security: { tls: {}, sasl: { mechanism: SCRAM-SHA-256, username: reader, password: { env: \
                    NO_SUCH_PASSWORD } } }\n      brokers: [\"127.0.0.1:9\"]\n";
    // Other children that listen are not reported: `failed` is the only line.
    let many = format!("{security}  gateway: {{ replicas: 8 }}\n");
    let (code, error) = refused(&manifest(1, 10, &many), &["--port", "0"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.starts_with("failed to start prices-0: exit code"), "{error}");
    assert!(error.contains("NO_SUCH_"), "the message of the child: {error}");
}

#[test]
fn names_the_limit_of_open_files_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.yaml");
    std::fs::write(&file, manifest(8, 10, "")).unwrap();
    // The first limits are too low for the parent, the last one for its children.
    for limit in [20, 40, 50] {
        let program = wscluster().get_program().to_owned();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("ulimit -n {limit} && exec \"$0\" local --port 0 -f \"$1\"")])
            .arg(program)
            .arg(&file);
        let (code, _, err) = output(&mut shell);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(&format!("the limit of open files ({limit}) is reached")), "{err}");
        assert!(err.contains("ulimit -n"), "{err}");
    }
}
