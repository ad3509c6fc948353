//! The printed definition and the file that is committed.

use std::io::Read as _;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_wscluster-operator");

#[test]
fn the_committed_file_is_what_crd_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/wscluster.yaml");
    let committed = std::fs::read_to_string(path).unwrap();
    let printed = Command::new(BINARY).arg("crd").output().unwrap();
    assert!(printed.status.success());
    assert!(committed.as_bytes() == printed.stdout, "crds/wscluster.yaml is out of date; run `just generate`");
}

#[test]
fn ends_quietly_when_nobody_reads_on() {
    let mut child = Command::new(BINARY).arg("crd").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One byte, then the pipe is closed with far more left than it holds.
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    let end = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&end.stderr), "");
    assert!(end.status.success(), "{}", end.status);
}

#[test]
fn fails_when_the_definition_cannot_be_written() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let end = Command::new(BINARY).arg("crd").stdout(full).output().unwrap();
    assert!(!end.status.success());
    assert!(String::from_utf8_lossy(&end.stderr).contains("failed to write the definition: No space left"));
}

#[test]
fn explains_itself() {
    let help = Command::new(BINARY).args(["crd", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("kubectl apply --server-side -f -"));
}
