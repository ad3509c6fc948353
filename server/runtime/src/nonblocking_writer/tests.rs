//! Nobody waits for a reader, and what is lost is told.

use std::io::{BufRead as _, BufReader, PipeReader};
use std::time::Instant;

use super::*;

/// More than a pipe holds.
const LIMIT: usize = 256 << 10;

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn spool() -> (Spool, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let notice = Box::new(|lost: u64| format!("{lost} lost"));
    (Spool::start(writer, LIMIT, notice).unwrap(), reader)
}

/// Says numbers until two buffers are full; how many there were.
fn overfill(spool: &Spool) -> usize {
    let lines = 2 * LIMIT;
    (0..lines).for_each(|n| spool.line(&n.to_string()));
    assert!(!spool.is_drained());
    lines
}

#[test]
fn says_where_lines_are_missing_and_how_many() {
    let (spool, reader) = spool();
    let said = overfill(&spool);
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
    assert!(spool.flush(PATIENCE));
    spool.line("after");
    assert_eq!(lines.next().unwrap(), "after");
}

#[test]
fn does_not_wait_for_ever_at_the_end() {
    let (spool, mut reader) = spool();
    overfill(&spool);
    assert!(!spool.flush(Duration::from_millis(1)), "nobody reads");
    thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    assert!(spool.flush(PATIENCE), "whoever reads gets everything");
}

#[test]
fn goes_on_when_the_reader_is_gone() {
    let (spool, reader) = spool();
    drop(reader);
    let end = Instant::now() + PATIENCE;
    for _ in 0..10 {
        spool.line("x");
        while !spool.is_drained() {
            assert!(Instant::now() < end, "it stopped");
            thread::yield_now();
        }
    }
}

/// As a pipe that opens and closes: a FIFO.
struct Flaky(Arc<Mutex<(bool, Vec<u8>)>>);

impl Write for Flaky {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
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
fn tells_the_next_reader_what_the_last_one_missed() {
    let state = Arc::new(Mutex::new((false, Vec::new())));
    let spool = Spool::start(Flaky(Arc::clone(&state)), LIMIT, Box::new(|lost| format!("{lost} lost"))).unwrap();
    for line in ["a", "b"] {
        spool.line(line);
        assert!(spool.flush(PATIENCE));
    }
    state.lock().unwrap().0 = true;
    spool.line("c");
    assert!(spool.flush(PATIENCE));
    assert_eq!(String::from_utf8_lossy(&state.lock().unwrap().1), "2 lost\nc\n");
}
