//! As many as may be at once, and who waits for one to end: first come, first served, and no more
//! than a limit. What is waited for, and for how long, is in balancer.rs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of slots, which may change while they are in use.
pub struct Slots {
    free: Arc<Semaphore>,
    size: Mutex<usize>,
    /// Slots in use that are to go when they are given back.
    surplus: AtomicUsize,
}

/// One of them, until dropped.
pub struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Arc<Slots>,
}

impl Slots {
    /// All free.
    pub fn new(size: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(size));
        Arc::new(Self { free, size: Mutex::new(size), surplus: AtomicUsize::new(0) })
    }

    /// Changes how many there are. Those in use stay so.
    pub fn resize(&self, size: usize) {
        let mut held = self.size.lock();
        if size < *held {
            let gone = *held - size;
            let taken = self.free.forget_permits(gone);
            self.surplus.fetch_add(gone - taken, Ordering::Relaxed);
        } else {
            let more = size - *held;
            let kept = (0..more).take_while(|_one| self.take_surplus()).count();
            self.free.add_permits(more - kept);
        }
        *held = size;
    }

    /// A slot, if one is free and nobody waits for it.
    pub fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot { permit: Some(permit), slots: Arc::clone(self) })
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// A slot, after those who came before got theirs. Cancel safe: the place in the queue is lost.
    pub async fn take(self: &Arc<Self>) -> Slot {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Slot { permit, slots: Arc::clone(self) }
    }

    fn take_surplus(&self) -> bool {
        let less = |surplus: usize| surplus.checked_sub(1);
        self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.slots.take_surplus()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("free", &self.free.available_permits())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

/// Counts those who wait.
#[derive(Debug, Default)]
pub struct Queue(AtomicUsize);

/// A place in the queue, until dropped.
#[derive(Debug)]
pub struct Waiter<'a>(&'a Queue);

impl Queue {
    /// A place, if fewer than `limit` are taken.
    pub fn enter(&self, limit: usize) -> Option<Waiter<'_>> {
        let waiter = Waiter(self);
        (self.0.fetch_add(1, Ordering::Relaxed) < limit).then_some(waiter)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_comes_first_is_served_first() {
        let slots = Slots::new(1);
        let held = slots.try_take().unwrap();
        let mut first = Box::pin(slots.take());
        let mut second = Box::pin(slots.take());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(held);
        assert!(slots.try_take().is_none(), "who comes late does not pass those who wait");
        assert!(second.as_mut().now_or_never().is_none());
        assert!(first.as_mut().now_or_never().is_some());
        assert!(second.as_mut().now_or_never().is_some());
    }

    #[test]
    fn the_queue_is_bounded() {
        let queue = Queue::default();
        let (first, second) = (queue.enter(2), queue.enter(2));
        assert!(first.is_some() && second.is_some());
        assert!(queue.enter(2).is_none());
        drop(first);
        assert!(queue.enter(2).is_some());
        drop(second);
        assert!(queue.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Give(prop::sample::Index),
        Resize(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Take),
            any::<prop::sample::Index>().prop_map(Step::Give),
            (0_usize..6).prop_map(Step::Resize),
        ]
    }

    proptest! {
        #[test]
        fn as_many_are_taken_as_there_are(steps in proptest::collection::vec(step(), 0..100)) {
            let (slots, mut size, mut held) = (Slots::new(3), 3, Vec::new());
            for step in steps {
                match step {
                    Step::Take => {
                        let taken = slots.try_take();
                        prop_assert_eq!(taken.is_some(), held.len() < size);
                        held.extend(taken);
                    }
                    Step::Give(which) if !held.is_empty() => drop(held.remove(which.index(held.len()))),
                    Step::Give(_) => {}
                    Step::Resize(to) => {
                        slots.resize(to);
                        size = to;
                    }
                }
            }
        }
    }
}
