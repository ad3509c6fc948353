//! Writing never blocks, and lost lines are reported.

use std::io::{BufRead as _, BufReader, PipeReader};
use std::time::Instant;

use super::*;

/// More than a pipe holds.
const LIMIT: usize = 256 << 10;

/// Reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(30);

fn writer() -> (NonblockingWriter, PipeReader) {
    let (reader, pipe) = io::pipe().unwrap();
    let notice = Box::new(|lost: u64| format!("{lost} lost"));
    (NonblockingWriter::start(pipe, LIMIT, notice).unwrap(), reader)
}

/// Writes numbers until two buffers are full; returns how many.
fn overfill(writer: &NonblockingWriter) -> usize {
    let lines = 2 * LIMIT;
    (0..lines).for_each(|n| writer.line(&n.to_string()));
    assert!(!writer.is_drained());
    lines
}

#[test]
fn reports_where_lines_are_missing_and_how_many() {
    let (writer, reader) = writer();
    let said = overfill(&writer);
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let (mut next, mut missing) = (0, 0);
    while next < said {
        let line = lines.next().unwrap();
        if let Some(lost) = line.strip_suffix(" lost") {
            let lost: usize = lost.parse().unwrap();
            (next, missing) = (next + lost, missing + lost);
        } else {
            assert_eq!(line, next.to_string(), "in order, and whole");
            next += 1;
        }
    }
    assert_eq!(next, said);
    assert!(missing > 0, "more fits than should");
    assert!(writer.flush(PATIENCE));
    writer.line("after");
    assert_eq!(lines.next().unwrap(), "after");
}

#[test]
fn flush_gives_up_on_a_stalled_reader() {
    let (writer, mut reader) = writer();
    overfill(&writer);
    assert!(!writer.flush(Duration::from_millis(1)), "nothing is read");
    thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    assert!(writer.flush(PATIENCE), "a reader gets everything");
}

#[test]
fn goes_on_when_the_reader_has_gone() {
    let (writer, reader) = writer();
    drop(reader);
    let end = Instant::now() + PATIENCE;
    for _ in 0..10 {
        writer.line("x");
        while !writer.is_drained() {
            assert!(Instant::now() < end, "it stopped");
            thread::yield_now();
        }
    }
}

/// Behaves like a FIFO, whose readers come and go.
struct Flaky(Arc<Mutex<(bool, Vec<u8>)>>);

impl Write for Flaky {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if !state.0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn reports_to_the_next_reader_what_the_last_one_missed() {
    let state = Arc::new(Mutex::new((false, Vec::new())));
    let writer =
        NonblockingWriter::start(Flaky(Arc::clone(&state)), LIMIT, Box::new(|lost| format!("{lost} lost"))).unwrap();
    for line in ["a", "b"] {
        writer.line(line);
        assert!(writer.flush(PATIENCE));
    }
    state.lock().0 = true;
    writer.line("c");
    assert!(writer.flush(PATIENCE));
    assert_eq!(String::from_utf8_lossy(&state.lock().1), "2 lost\nc\n");
}
