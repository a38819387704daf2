//! A future that is polled when it was woken, and not each time that what stands beside it is: what many tasks wait for
//! beside their work, such as the end of the process, costs them nothing then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// See the module.
#[derive(Debug)]
pub struct Seldom<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F> Seldom<F> {
    /// Polls `future` the first time, and from then on when it was woken.
    pub fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { future: Box::pin(future), bell, waker }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Before it is looked at whether it rang, or a ring in between would wake nobody.
        self.bell.task.register(context.waker());
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let Self { future, waker, .. } = &mut *self;
        future.as_mut().poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_was_woken_and_only_then() {
        let (token, polls) = (CancellationToken::new(), AtomicUsize::new(0));
        let mut waiting = Box::pin(token.cancelled());
        let counted = std::future::poll_fn(|context| {
            polls.fetch_add(1, Ordering::Relaxed);
            waiting.as_mut().poll(context)
        });
        let mut seldom = Seldom::new(counted);
        for _poll in 0..10 {
            assert!((&mut seldom).now_or_never().is_none());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        token.cancel();
        assert!((&mut seldom).now_or_never().is_some());
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_task_that_waits_for_it_is_woken() {
        let token = CancellationToken::new();
        let waiting = tokio::time::timeout(
            std::time::Duration::from_secs(20),
            Seldom::new(token.cancelled()),
        );
        let cancel = async {
            tokio::task::yield_now().await;
            token.cancel();
        };
        assert!(tokio::join!(waiting, cancel).0.is_ok());
    }
}
