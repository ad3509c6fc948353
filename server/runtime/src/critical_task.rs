//! Tells that a thread or task without which the process is of no use has ended by a panic: a process that only seems to work is worse
//! than none, for whoever supervises it starts another one.

use std::io;
use std::thread;

/// Held by what is vital; calls its function when a panic drops it.
#[derive(Debug)]
struct Alarm<F: Fn()>(F);

impl<F: Fn()> Alarm<F> {
    /// Calls `tell` at a panic.
    const fn new(tell: F) -> Self {
        Self(tell)
    }
}

impl<F: Fn()> Drop for Alarm<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

/// Runs `work` on a thread of its own, and calls `tell` if that panics.
pub fn vital(
    name: &str,
    tell: impl Fn() + Send + 'static,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _alarm = Alarm::new(tell);
        work();
    })
}

/// Does `work` as a task, and calls `tell` if that panics.
pub async fn vital_task(tell: impl Fn(), work: impl Future<Output = ()>) {
    let _alarm = Alarm::new(tell);
    work.await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    #[test]
    fn tells_of_a_panic_and_of_nothing_else() {
        let told = Arc::new(AtomicU32::new(0));
        let tell = || {
            let told = Arc::clone(&told);
            move || {
                told.fetch_add(1, SeqCst);
            }
        };
        vital("ends", tell(), || {}).unwrap().join().unwrap();
        assert_eq!(told.load(SeqCst), 0);
        vital("panics", tell(), || panic!("as it should")).unwrap().join().unwrap_err();
        assert_eq!(told.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn tells_of_a_task_that_panics_and_not_of_one_that_is_aborted() {
        let told = Arc::new(AtomicU32::new(0));
        for (panics, times) in [(false, 0), (true, 1)] {
            let tell = {
                let told = Arc::clone(&told);
                move || {
                    told.fetch_add(1, SeqCst);
                }
            };
            let task = tokio::spawn(vital_task(tell, async move {
                tokio::task::yield_now().await;
                assert!(!panics, "as it should");
                std::future::pending::<()>().await;
            }));
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.is_err());
            assert_eq!(told.load(SeqCst), times);
        }
    }
}
