//! The output of `crd` and `fields`, and the committed files.

use std::io::Read as _;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_wscluster-operator");

#[test]
fn the_committed_files_are_up_to_date() {
    for (command, file) in
        [("crd", "crds/wscluster.yaml"), ("crd", "charts/wscluster/files/wscluster.yaml"), ("fields", "docs/fields.md")]
    {
        let committed = std::fs::read_to_string(format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let printed = Command::new(BINARY).arg(command).output().unwrap();
        assert!(printed.status.success());
        assert!(committed.as_bytes() == printed.stdout, "{file} is out of date; run `just generate`");
    }
}

#[test]
fn ends_quietly_when_the_reader_closes_the_pipe() {
    let mut child = Command::new(BINARY).arg("crd").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Read one byte, then close the pipe while more is left than it can buffer.
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
    assert!(String::from_utf8_lossy(&end.stderr).contains("failed to write to standard output: No space left"));
}

#[test]
fn help_has_an_example() {
    let help = Command::new(BINARY).args(["crd", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("kubectl apply --server-side -f -"));
}
