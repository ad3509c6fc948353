//! One upgraded connection: reads, answers pings, sends on time, and leaves as planned. It owns no read buffer: the
//! connections of a thread share one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use wscluster_ws::close::NORMAL;
use wscluster_ws::decode::{Decoder, Role};
use wscluster_ws::frame::{Opcode, client_frame, close_payload};

use super::failure::{Failure, Phase};
use super::ground_truth::ClientLog;
use super::inbox::{Inbox, subscription};
use super::worker::LoadWorker;
use super::worker_plan::{Control, Sending};

/// Largest message accepted.
const MAX_MESSAGE: u32 = 16 << 20;

/// How long a closing handshake may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The hold is over.
    Finished,
    /// The client is replaced at this instant.
    Churned(Instant),
    /// A storm cuts the connection at this instant.
    Stormed(Instant),
    /// The run ends early.
    Stopped,
    /// The connection failed.
    Lost(Failure),
}

/// An upgraded connection.
pub(super) struct Session {
    worker: Rc<LoadWorker>,
    stream: TcpStream,
    decoder: Decoder,
    /// State of the client's side.
    pub(super) inbox: Inbox,
    k: u32,
    opened: Instant,
    next_send: Option<Instant>,
    next_slow_read: Option<Instant>,
    control: watch::Receiver<Control>,
}

impl Session {
    /// A session on client `k`'s upgraded socket.
    pub(super) fn new(worker: Rc<LoadWorker>, k: u32, stream: TcpStream, inbox: Inbox, opened: Instant) -> Self {
        let plan = &worker.plan;
        // Clients send at different points of the interval. Multiples of the golden ratio spread any number of clients.
        let next_send =
            plan.sending.interval().map(|i| opened + i.mul_f64(((f64::from(k) + 1.0) * 0.618_033_988_75).fract()));
        let next_slow_read = inbox.slow.then_some(opened);
        let decoder = Decoder::new(Role::Client, MAX_MESSAGE);
        let control = worker.control.clone();
        Self { worker, stream, decoder, inbox, k, opened, next_send, next_slow_read, control }
    }

    /// Runs until the plan or the server ends the connection. `settled` is called after the settle time.
    pub(super) async fn run(&mut self, mut rest: Vec<u8>, mut settled: impl FnMut(&mut Inbox)) -> End {
        if self.inbox.phase == Phase::Subscribe {
            let message = subscription(&self.inbox.log, &self.worker.plan.channels);
            self.push(Opcode::Text, message.as_bytes());
        }
        self.inbox.tick();
        self.decode(&mut rest);
        let mut changed = pin!(next_change(self.control.clone()));
        let mut timer = pin!(sleep_until(Instant::now().into()));
        loop {
            if let Some(end) = self.inbox.end.take() {
                return End::Lost(end);
            }
            if !self.inbox.out.is_empty()
                && let Err(failure) = self.flush().await
            {
                return End::Lost(failure);
            }
            let (due, cause) = self.next_due();
            timer.as_mut().reset(due.into());
            tokio::select! {
                biased;
                mut control = &mut changed => {
                    if control.borrow_and_update().stop {
                        return End::Stopped;
                    }
                    changed.set(next_change(control));
                }
                () = &mut timer => match self.on_time(due, cause) {
                    Some(end) => return end,
                    None if cause == Cause::Settled => settled(&mut self.inbox),
                    None => {}
                },
                result = poll_fn(|cx| self.poll_input(cx)) => {
                    if let Err(error) = result {
                        return End::Lost(Failure::of_io(&error, self.inbox.phase));
                    }
                }
            }
        }
    }

    /// The next thing to do, and when.
    fn next_due(&self) -> (Instant, Cause) {
        let plan = &self.worker.plan;
        let control = *self.control.borrow();
        let hold = control.hold.map(|at| self.worker.clock.instant(at));
        let in_hold = hold.map(|hold| (hold, self.opened.saturating_duration_since(hold)));
        let storm = in_hold.and_then(|(hold, from)| Some(hold + plan.schedule.next_storm(from)?));
        let churn = in_hold.and_then(|(hold, from)| Some(hold + plan.schedule.next_churn(self.k, from)?));
        [
            (hold.map(|hold| hold + plan.schedule.hold + plan.linger), Cause::Finished),
            ((self.inbox.phase == Phase::Subscribe).then(|| self.opened + plan.timeout), Cause::NotSubscribed),
            ((self.inbox.phase == Phase::Settle).then(|| self.opened + plan.settle), Cause::Settled),
            (churn, Cause::Churned),
            (storm, Cause::Stormed),
            (self.next_send, Cause::Send),
            (self.next_slow_read, Cause::SlowRead),
        ]
        .into_iter()
        .filter_map(|(at, cause)| Some((at?, cause)))
        .min_by_key(|(at, _)| *at)
        .unwrap_or_else(|| (Instant::now() + Duration::from_hours(1), Cause::Nothing))
    }

    fn on_time(&mut self, due: Instant, cause: Cause) -> Option<End> {
        match cause {
            Cause::Nothing => None,
            Cause::Finished => Some(End::Finished),
            Cause::NotSubscribed if self.inbox.phase != Phase::Subscribe => None,
            Cause::NotSubscribed => Some(End::Lost(Failure::Timeout(Phase::Subscribe))),
            Cause::Churned => Some(End::Churned(due)),
            Cause::Stormed => Some(End::Stormed(due)),
            Cause::Settled => {
                self.inbox.phase = Phase::Hold;
                None
            }
            Cause::Send => {
                self.send();
                None
            }
            Cause::SlowRead => match self.read_slowly() {
                Ok(()) => None,
                Err(error) => Some(End::Lost(Failure::of_io(&error, self.inbox.phase))),
            },
        }
    }

    fn send(&mut self) {
        let plan = &self.worker.plan;
        let text = match plan.sending {
            Sending::Nothing => return,
            Sending::Echoes(_) => "x".repeat(plan.payload),
            Sending::Heartbeats(_) => {
                const FRAME: usize = r#"{"type":"heartbeat","data":{"pad":""}}"#.len();
                let pad = "x".repeat(plan.payload.saturating_sub(FRAME));
                format!(r#"{{"type":"heartbeat","data":{{"pad":"{pad}"}}}}"#)
            }
        };
        // An open loop here as well: the next message is due one interval after this one was, and is timed from then.
        if let (Some(due), Some(interval)) = (self.next_send, plan.sending.interval()) {
            self.inbox.unanswered.push_back(due);
            self.next_send = Some(due + interval);
        }
        self.worker.stats.borrow_mut().messages.sent += 1;
        self.push(Opcode::Text, text.as_bytes());
    }

    fn push(&mut self, opcode: Opcode, payload: &[u8]) {
        self.inbox.out.extend_from_slice(&client_frame(opcode, payload, rand::random()));
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let out = std::mem::take(&mut self.inbox.out);
        let phase = self.inbox.phase;
        let written = timeout(self.worker.plan.timeout, self.stream.write_all(&out)).await;
        written.map_err(|_| Failure::Timeout(phase))?.map_err(|error| Failure::of_io(&error, phase))
    }

    /// Reads all available bytes. Ready at the end of the stream, when there is something to send, or when the next
    /// timer has changed.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.next_slow_read.is_some() {
            return Poll::Pending;
        }
        let phase = self.inbox.phase;
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let mut buf = ReadBuf::new(scratch);
                // Tokio clears readiness after a short read, which saves the system call that finds the socket empty.
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
                self.input(buf.filled_mut());
                if self.inbox.end.is_some() || !self.inbox.out.is_empty() || self.inbox.phase != phase {
                    return Poll::Ready(Ok(()));
                }
            }
        })
    }

    fn input(&mut self, bytes: &mut [u8]) {
        if bytes.is_empty() {
            self.inbox.end = Some(Failure::Eof(self.inbox.phase));
            return;
        }
        self.inbox.tick();
        self.decode(bytes);
    }

    fn decode(&mut self, bytes: &mut [u8]) {
        let Self { worker, decoder, inbox, .. } = self;
        let (mut reader, mut stats) = (worker.reader.borrow_mut(), worker.stats.borrow_mut());
        stats.messages.received_bytes += bytes.len() as u64;
        if let Err(_violation) = decoder.decode(bytes, &mut |event| inbox.take(&event, &mut reader, &mut stats)) {
            inbox.end = Some(Failure::Protocol(inbox.phase));
        }
    }

    /// Reads the bytes of one second for a slow client. After the server has closed, it reads everything, to find the
    /// Close frame.
    fn read_slowly(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.next_slow_read = Some(now + Duration::from_secs(1));
        let mut left = self.worker.plan.slow_rate;
        SCRATCH.with_borrow_mut(|scratch| {
            while left > 0 && self.inbox.end.is_none() {
                let most = scratch.len().min(left);
                match self.stream.try_read(&mut scratch[..most]) {
                    Ok(n) => {
                        left -= n;
                        self.input(&mut scratch[..n]);
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e),
                }
                let mut look = pin!(self.stream.ready(Interest::READABLE));
                let ready = look.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
                if matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed()) {
                    left = usize::MAX;
                }
            }
            Ok(())
        })
    }

    /// Leaves with a closing handshake. The server ends the TCP connection (RFC 6455 §7.1.1), so `TIME_WAIT` is not on
    /// this side.
    ///
    /// A slow client sends no Close. It reads the accumulated messages, because a Close frame of the server comes after
    /// them.
    pub(super) async fn leave(mut self) -> (ClientLog, Option<Failure>) {
        let slow = self.next_slow_read.take().is_some();
        if !slow {
            self.push(Opcode::Close, &close_payload(NORMAL, ""));
        }
        let goodbye = async {
            let out = std::mem::take(&mut self.inbox.out);
            self.stream.write_all(&out).await?;
            // Records in flight still count. The answer to our Close, or the end of the stream, ends the wait.
            while self.inbox.end.is_none() {
                poll_fn(|cx| self.poll_input(cx)).await?;
                self.inbox.out.clear();
            }
            if matches!(self.inbox.end, Some(Failure::Close(..))) {
                let mut byte = [0];
                while tokio::io::AsyncReadExt::read(&mut self.stream, &mut byte).await? > 0 {}
            }
            Ok::<_, io::Error>(())
        };
        if let Ok(Err(error)) = timeout(CLOSE_TIME, goodbye).await
            && self.inbox.end.is_none()
        {
            self.inbox.end = Some(Failure::of_io(&error, self.inbox.phase));
        }
        (self.inbox.log, self.inbox.end.filter(|_| slow))
    }

    /// Resets the connection without a Close frame, like a lost network.
    pub(super) fn cut(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

async fn next_change(mut control: watch::Receiver<Control>) -> watch::Receiver<Control> {
    // The sender outlives all clients.
    let _ = control.changed().await;
    control
}

/// Why the timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Nothing,
    Finished,
    NotSubscribed,
    Settled,
    Churned,
    Stormed,
    Send,
    SlowRead,
}
