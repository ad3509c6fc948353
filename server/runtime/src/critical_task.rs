//! Reports a panic in a thread or task that the process cannot do without. A process that only looks alive is worse
//! than one that exits and is restarted by its supervisor.

use std::io;
use std::thread;

/// Calls its function when a panic drops it.
#[derive(Debug)]
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

/// Runs `work` on a new thread called `name`, and calls `on_panic` if it panics.
pub fn spawn_critical(
    name: &str,
    on_panic: impl Fn() + Send + 'static,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = OnPanic(on_panic);
        work();
    })
}

/// Completes `work`, and calls `on_panic` if it panics. Not called if the task is aborted.
pub async fn critical(on_panic: impl Fn(), work: impl Future<Output = ()>) {
    let _guard = OnPanic(on_panic);
    work.await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    fn counting(panics: &Arc<AtomicU32>) -> impl Fn() + Send + 'static {
        let panics = Arc::clone(panics);
        move || {
            panics.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn reports_a_panicking_thread_and_no_other() {
        let panics = Arc::default();
        spawn_critical("ends", counting(&panics), || {}).unwrap().join().unwrap();
        assert_eq!(panics.load(SeqCst), 0);
        spawn_critical("panics", counting(&panics), || panic!("as it should")).unwrap().join().unwrap_err();
        assert_eq!(panics.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn reports_a_panicking_task_and_not_an_aborted_one() {
        let panics = Arc::default();
        for (does_panic, reported) in [(false, 0), (true, 1)] {
            let task = tokio::spawn(critical(counting(&panics), async move {
                tokio::task::yield_now().await;
                assert!(!does_panic, "as it should");
                std::future::pending::<()>().await;
            }));
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.is_err());
            assert_eq!(panics.load(SeqCst), reported);
        }
    }
}
