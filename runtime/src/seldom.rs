//! A future that is polled when it was woken, and not each time that what stands beside it is: what many tasks wait for
//! beside their work, such as the end of the process, costs them nothing then.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// See the module.
#[derive(Debug)]
pub struct Seldom<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
    /// What the bell wakes: it is told only of another one.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    /// It stays when it was woken.
    task: Mutex<Option<Waker>>,
}

impl Bell {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing is done under the lock that could panic.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F> Seldom<F> {
    /// Polls `future` the first time, and from then on when it was woken.
    pub fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(None) });
        let waker = Waker::from(Arc::clone(&bell));
        Self { future: Box::pin(future), bell, waker, task: None }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, waker, task } = &mut *self;
        // Before it is looked at whether it rang, or a ring in between would wake nobody.
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
            let before = std::mem::replace(&mut *bell.task(), task.clone());
            drop(before);
        }
        // Looking is cheaper than taking, and there is rarely anything to take.
        if !bell.rung.load(Ordering::Acquire) || !bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
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

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_ring_wakes_the_task_that_polled_last() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let inner = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&inner);
        let mut seldom = Seldom::new(std::future::poll_fn(move |context| {
            *kept.lock().unwrap() = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        let ring = || inner.lock().unwrap().clone().unwrap().wake();
        for (task, rings) in [(&first, 3), (&second, 2), (&first, 1)] {
            let before = task.0.load(Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(task));
            for _ring in 0..rings {
                assert!(seldom.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
                ring();
            }
            assert_eq!(task.0.load(Ordering::Relaxed) - before, rings);
        }
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
