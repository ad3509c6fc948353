//! The pace of drains, in virtual time.

use std::sync::Mutex;

use proptest::prelude::*;
use wscluster_api::units::Span;

use super::*;

/// Holds connections, and records evictions and phases with their times.
struct Fake {
    lag: Duration,
    open: Mutex<Vec<u32>>,
    gone: Mutex<Vec<Instant>>,
    phases: Mutex<Vec<(DrainPhase, Instant)>>,
}

impl Fake {
    fn new(open: &[u32], lag: Duration) -> Arc<Self> {
        let open = Mutex::new(open.to_vec());
        Arc::new(Self { lag, open, gone: Mutex::default(), phases: Mutex::default() })
    }

    fn phases(&self) -> Vec<DrainPhase> {
        self.phases.lock().unwrap().iter().map(|(phase, _)| *phase).collect()
    }

    fn left(&self) -> u32 {
        self.open.lock().unwrap().iter().sum()
    }
}

impl Holds for Fake {
    fn enter(&self, phase: DrainPhase) {
        self.phases.lock().unwrap().push((phase, Instant::now()));
    }

    fn lag(&self) -> Duration {
        self.lag
    }

    fn open(&self) -> Vec<u32> {
        self.open.lock().unwrap().clone()
    }

    fn evict(&self, thread: usize, count: u32, _: &RetryAfter) {
        let open = &mut self.open.lock().unwrap()[thread];
        let count = count.min(*open);
        *open -= count;
        self.gone.lock().unwrap().extend((0..count).map(|_| Instant::now()));
    }
}

fn drain(evict_rate: u32, deadline: Duration) -> Drain {
    Drain { evict_rate, deadline: Span(deadline), ..Drain::default() }
}

const LONG: Duration = Duration::from_secs(100_000);

fn start(holder: &Arc<Fake>) -> Drains<Fake> {
    let (drains, run) = Drains::new(Arc::clone(holder), Drain::default());
    tokio::spawn(run);
    drains
}

async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn keeps_to_its_rate_in_every_second() {
    for rate in [1, 7, 100, 5_000] {
        let total = rate * 20;
        let holder = Fake::new(&[total / 2, total - total / 2], Duration::ZERO);
        let began = Instant::now();
        let drains = start(&holder);
        drains.begin(drain(rate, LONG)).unwrap();
        while holder.left() > 0 {
            wait(STEP).await;
        }
        let gone = holder.gone.lock().unwrap();
        let most =
            (0..gone.len()).map(|at| gone[at..].partition_point(|time| *time < gone[at] + Duration::from_secs(1)));
        let most = most.max().unwrap();
        assert!(most as f64 <= 1.2 * f64::from(rate) + 2.0, "{most} in a second instead of {rate}");
        let took = began.elapsed().as_secs_f64();
        assert!((18.0..23.0).contains(&took), "{rate} a second took {took} s for {total}");
    }
}

#[tokio::test(start_paused = true)]
async fn makes_no_burst_after_a_delay() {
    let holder = Fake::new(&[100_000], Duration::ZERO);
    let drains = start(&holder);
    drains.begin(drain(100, LONG)).unwrap();
    wait(Duration::from_secs(1)).await;
    let before = holder.gone.lock().unwrap().len();
    tokio::time::advance(Duration::from_mins(1)).await;
    wait(STEP).await;
    let burst = holder.gone.lock().unwrap().len() - before;
    assert!(burst <= 30, "{burst} at once");
}

#[tokio::test(start_paused = true)]
async fn closes_the_rest_at_a_deadline_that_counts_from_the_start() {
    let holder = Fake::new(&[500, 500], Duration::from_secs(4));
    let drains = start(&holder);
    drains.begin(drain(10, Duration::from_secs(10))).unwrap();
    wait(Duration::from_millis(9_900)).await;
    let left = holder.left();
    assert!((930..960).contains(&left), "{left}");
    wait(Duration::from_millis(150)).await;
    assert_eq!(holder.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn announces_waits_and_then_refuses() {
    let holder = Fake::new(&[10], Duration::from_secs(4));
    let drains = start(&holder);
    drains.begin(drain(1_000, LONG)).unwrap();
    assert_eq!(holder.phases(), [DrainPhase::Announced]);
    wait(Duration::from_millis(3_990)).await;
    assert_eq!((holder.phases(), holder.left()), (vec![DrainPhase::Announced], 10));
    // Connections accepted last are left alone for a moment.
    wait(Duration::from_millis(1_490)).await;
    assert_eq!((holder.phases(), holder.left()), (vec![DrainPhase::Announced, DrainPhase::Refusing], 10));
    wait(Duration::from_secs(1)).await;
    assert_eq!(holder.left(), 0);
    // A second drain needs no further announcement.
    drains.begin_last(drain(1_000, LONG));
    wait(STEP).await;
    assert_eq!(holder.phases()[2..], [DrainPhase::Announced, DrainPhase::Ending]);
}

#[tokio::test(start_paused = true)]
async fn can_be_cancelled_and_started_again() {
    let holder = Fake::new(&[1_000], Duration::from_secs(1));
    let drains = start(&holder);
    drains.begin(drain(100, LONG)).unwrap();
    wait(Duration::from_millis(4_500)).await;
    drains.cancel().unwrap();
    let left = holder.left();
    assert!((750..850).contains(&left), "{left}");
    wait(Duration::from_secs(9)).await;
    assert_eq!(holder.left(), left);
    drains.begin(drain(100, LONG)).unwrap();
    wait(Duration::from_secs(30)).await;
    assert_eq!(holder.left(), 0);
    assert_eq!(
        holder.phases(),
        [DrainPhase::Announced, DrainPhase::Refusing, DrainPhase::Open, DrainPhase::Announced, DrainPhase::Refusing]
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_one_is_final() {
    let holder = Fake::new(&[1_000], Duration::ZERO);
    let drains = start(&holder);
    drains.begin_last(drain(10, LONG));
    assert_eq!(drains.clone().cancel(), Err(Ending));
    assert_eq!(drains.begin(drain(10, LONG)), Err(Ending));
    wait(STEP).await;
    assert_eq!(holder.phases(), [DrainPhase::Announced, DrainPhase::Ending]);
}

fn some(count: u32, evict_rate: u32) -> EvictRequest {
    EvictRequest { count, evict_rate, retry_after: RetryAfter::default() }
}

#[tokio::test(start_paused = true)]
async fn evicts_some_at_their_rate_and_goes_on_accepting() {
    let holder = Fake::new(&[300, 700], Duration::from_secs(4));
    let drains = start(&holder);
    drains.evict(some(100, 10)).unwrap();
    wait(Duration::from_secs(5)).await;
    let left = holder.left();
    assert!((945..=955).contains(&left), "{left}");
    wait(Duration::from_secs(100)).await;
    assert_eq!((holder.left(), holder.phases()), (900, vec![]));
    // More than there are: later connections are not evicted.
    drains.evict(some(5_000, 1_000)).unwrap();
    wait(Duration::from_secs(7)).await;
    assert_eq!(holder.left(), 0);
    holder.open.lock().unwrap()[0] = 10;
    wait(Duration::from_secs(2)).await;
    assert_eq!((holder.left(), holder.phases()), (10, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_drain_takes_over_from_an_eviction_and_not_the_other_way_round() {
    let holder = Fake::new(&[1_000], Duration::ZERO);
    let drains = start(&holder);
    drains.evict(some(500, 1)).unwrap();
    wait(Duration::from_secs(1)).await;
    drains.begin(drain(100, LONG)).unwrap();
    assert_eq!(drains.evict(some(1, 1)), Err(Draining));
    wait(Duration::from_millis(6_500)).await;
    assert!((450..=520).contains(&holder.left()), "{}", holder.left());
    drains.cancel().unwrap();
    let left = holder.left();
    wait(Duration::from_secs(5)).await;
    assert_eq!(holder.left(), left, "the eviction is not resumed");
    drains.evict(some(1, 1)).unwrap();
    wait(Duration::from_secs(5)).await;
    assert_eq!(holder.left(), left - 1);
    drains.begin_last(drain(10, LONG));
    assert_eq!(drains.evict(some(1, 1)), Err(Draining));
}

proptest! {
    #[test]
    fn draws_only_threads_that_hold_some(open in prop::collection::vec(0..5_u32, 0..6)) {
        match draw(&open) {
            Some(thread) => prop_assert!(open[thread] > 0),
            None => prop_assert!(open.iter().all(|open| *open == 0)),
        }
    }

    #[test]
    fn hints_lie_in_their_range(min in 0..1_000_u64, more in 0..1_000_u64) {
        let range = RetryAfter { min: Span::millis(min), max: Span::millis(min + more) };
        prop_assert!((min..=min + more).contains(&hint_ms(&range)));
    }
}
