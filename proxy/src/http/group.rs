//! Runs the futures of one connection in the connection's own task: each is polled only when it was
//! woken itself, and what one of them wakes runs before the task gives way. A task for each would cost
//! its memory, its places in the runtime's and in our lists, and a turn of the scheduler, or another
//! thread's, for every step; and what several streams have to say would leave in a write for each.
//!
//! The price: the streams of one connection share a core, and one that panics takes its connection
//! along.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::task::coop::has_budget_remaining;

/// Futures that run in one task, each with something that is known of it.
pub struct Group<T> {
    shared: Arc<Shared<T>>,
    slots: Vec<Slot<T>>,
    vacant: Vec<usize>,
    /// Those whose turn it is, the last first.
    batch: Vec<usize>,
}

/// Adds futures to a group, from within it or from elsewhere. Clones are of the same group.
pub struct Spawner<T>(Arc<Shared<T>>);

/// What ended [`Group::run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<M, U> {
    /// What the group is for has ended so.
    Ended(M),
    /// What was waited for has happened.
    Happened(U),
}

struct Shared<T>(Mutex<State<T>>);

struct State<T> {
    /// Who was woken and was not polled since.
    ready: Vec<usize>,
    joining: Vec<Member<T>>,
    phase: Phase,
    /// Of the task.
    owner: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The task looks for who is ready before it waits.
    Running,
    /// The task has to be woken.
    Waiting,
    /// The group is gone.
    Closed,
}

struct Slot<T> {
    signal: Arc<Signal<T>>,
    waker: Waker,
    member: Option<Member<T>>,
}

struct Member<T> {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    tag: T,
}

/// Whoever has this waker is in this slot, or was: a future is polled for nothing then.
struct Signal<T> {
    shared: Arc<Shared<T>>,
    index: usize,
    is_ready: AtomicBool,
}

impl<T: Send + 'static> Wake for Signal<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::AcqRel) {
            self.shared.change(|state| state.ready.push(self.index));
        }
    }
}

impl<T> Shared<T> {
    /// Changes something that the task has to look at.
    fn change(&self, change: impl FnOnce(&mut State<T>)) {
        let owner = {
            let mut state = self.0.lock();
            change(&mut state);
            match state.phase {
                Phase::Running | Phase::Closed => None,
                Phase::Waiting => {
                    state.phase = Phase::Running;
                    state.owner.take()
                }
            }
        };
        if let Some(owner) = owner {
            owner.wake();
        }
    }
}

impl<T> Clone for Spawner<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Spawner<T> {
    /// Runs `future` until it ends or the group does; `tag` is what is known of it.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static, tag: T) {
        let mut member = Some(Member { future: Box::pin(future), tag });
        self.0.change(|state| match state.phase {
            Phase::Running | Phase::Waiting => state.joining.extend(member.take()),
            Phase::Closed => {}
        });
        // One that came too late is dropped here, outside the lock.
        drop(member);
    }
}

impl<T: Send + 'static> Group<T> {
    /// Without members.
    pub fn new() -> Self {
        let state =
            State { ready: Vec::new(), joining: Vec::new(), phase: Phase::Running, owner: None };
        let mut group = Self {
            shared: Arc::new(Shared(Mutex::new(state))),
            slots: Vec::new(),
            vacant: Vec::new(),
            batch: Vec::new(),
        };
        for _reserved in [MAIN, UNTIL] {
            group.add_slot();
        }
        group
    }

    /// For who adds members.
    pub fn spawner(&self) -> Spawner<T> {
        Spawner(Arc::clone(&self.shared))
    }

    /// Whether all members have ended.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == self.vacant.len() + RESERVED && self.shared.0.lock().joining.is_empty()
    }

    /// Runs `main` and the members until `main` ends or `until` does. Members go on with the next call.
    ///
    /// Cancel safe, as far as `main` and `until` are.
    pub async fn run<M: Future, U: Future>(
        &mut self,
        mut main: Pin<&mut M>,
        mut until: Pin<&mut U>,
    ) -> Turn<M::Output, U::Output> {
        self.wake(UNTIL);
        self.wake(MAIN);
        poll_fn(|context| self.poll(context, main.as_mut(), until.as_mut())).await
    }

    /// Runs until all members have ended.
    pub async fn finish(mut self) {
        poll_fn(|context| {
            let (main, until) = (pin!(pending::<()>()), pin!(pending::<()>()));
            let _nothing = self.poll(context, main, until);
            if self.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Drops those members of which `stays` is false.
    pub fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let leaves = slot.member.as_ref().is_some_and(|member| !stays(&member.tag));
            if leaves {
                slot.member = None;
                self.vacant.push(index);
            }
        }
    }

    fn poll<M: Future, U: Future>(
        &mut self,
        context: &mut Context<'_>,
        mut main: Pin<&mut M>,
        mut until: Pin<&mut U>,
    ) -> Poll<Turn<M::Output, U::Output>> {
        self.shared.0.lock().phase = Phase::Running;
        let mut polls = 0;
        for _round in 0..ROUND_LIMIT {
            if !self.next_batch(context.waker()) {
                return Poll::Pending;
            }
            while polls < POLL_LIMIT
                && has_budget_remaining()
                && let Some(index) = self.batch.pop()
            {
                polls += 1;
                let Some(slot) = self.slots.get_mut(index) else { continue };
                slot.signal.is_ready.swap(false, Ordering::AcqRel);
                let mut context = Context::from_waker(&slot.waker);
                match index {
                    MAIN => {
                        if let Poll::Ready(ended) = main.as_mut().poll(&mut context) {
                            return Poll::Ready(Turn::Ended(ended));
                        }
                    }
                    UNTIL => {
                        if let Poll::Ready(happened) = until.as_mut().poll(&mut context) {
                            return Poll::Ready(Turn::Happened(happened));
                        }
                    }
                    _ => {
                        let Some(member) = &mut slot.member else { continue };
                        if member.future.as_mut().poll(&mut context).is_ready() {
                            slot.member = None;
                            self.vacant.push(index);
                        }
                    }
                }
            }
            if !self.batch.is_empty() {
                break;
            }
        }
        // Others have a turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Finds out whose turn it is; if it is nobody's, the task waits, and false is returned.
    fn next_batch(&mut self, owner: &Waker) -> bool {
        let joining = {
            let mut state = self.shared.0.lock();
            if self.batch.is_empty() {
                std::mem::swap(&mut self.batch, &mut state.ready);
                // Who was woken first is polled first.
                self.batch.reverse();
            }
            if self.batch.is_empty() && state.joining.is_empty() {
                state.phase = Phase::Waiting;
                state.owner = Some(owner.clone());
                return false;
            }
            std::mem::take(&mut state.joining)
        };
        for member in joining.into_iter().rev() {
            let index = self.vacant.pop().unwrap_or_else(|| self.add_slot());
            if let Some(slot) = self.slots.get_mut(index) {
                slot.member = Some(member);
                // Whoever was in this slot may have been woken just now.
                if !slot.signal.is_ready.swap(true, Ordering::AcqRel) {
                    self.batch.push(index);
                }
            }
        }
        true
    }

    fn wake(&self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            slot.waker.wake_by_ref();
        }
    }

    fn add_slot(&mut self) -> usize {
        let index = self.slots.len();
        let shared = Arc::clone(&self.shared);
        let signal = Arc::new(Signal { shared, index, is_ready: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&signal));
        self.slots.push(Slot { signal, waker, member: None });
        index
    }
}

impl<T: Send + 'static> Default for Group<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Group<T> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.shared.0.lock();
            state.phase = Phase::Closed;
            std::mem::take(&mut state.joining)
        };
        // They may hold a spawner, or wake somebody.
        drop(left);
    }
}

/// The slot of what the group is for.
const MAIN: usize = 0;
/// The slot of what is waited for beside it.
const UNTIL: usize = 1;
const RESERVED: usize = 2;
/// How often those who were woken meanwhile are polled, before others than this task have a turn; the
/// runtime's own measure of fairness comes first, unless somebody wakes himself without an end.
const ROUND_LIMIT: usize = 64;
/// How many members are polled before others than this task have a turn: who is answered by the proxy itself takes nothing
/// of the runtime's measure.
const POLL_LIMIT: usize = 512;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Runs a group in a task of its own until its main future ends; the rest is dropped.
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    fn start(mut group: Group<usize>, end: oneshot::Receiver<()>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let turn = group.run(pin!(end), pin!(pending::<()>())).await;
            assert!(matches!(turn, Turn::Ended(_)));
        })
    }

    #[tokio::test]
    async fn members_talk_to_each_other_and_to_other_tasks() {
        let group = Group::new();
        let spawner = group.spawner();
        let (to_first, mut first) = mpsc::channel::<u32>(1);
        let (to_second, mut second) = mpsc::channel::<u32>(1);
        let (to_test, mut test) = mpsc::channel::<u32>(1);
        let inner = spawner.clone();
        spawner.spawn(
            async move {
                let forward = async move {
                    while let Some(number) = second.recv().await {
                        to_test.send(number + 1).await.unwrap();
                    }
                };
                inner.spawn(forward, 2);
                while let Some(number) = first.recv().await {
                    to_second.send(number * 10).await.unwrap();
                }
            },
            1,
        );
        let (_end, ended) = oneshot::channel();
        let task = start(group, ended);
        // More than the runtime lets one task do in a turn.
        for number in 0..1000 {
            timeout(DEADLINE, to_first.send(number)).await.unwrap().unwrap();
            assert_eq!(timeout(DEADLINE, test.recv()).await.unwrap(), Some(number * 10 + 1));
        }
        task.abort();
    }

    #[tokio::test]
    async fn a_member_is_polled_when_it_is_woken_and_not_when_another_is() {
        let group = Group::new();
        let polls = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&polls);
        let quiet = poll_fn(move |_context| {
            counted.fetch_add(1, Ordering::SeqCst);
            Poll::Pending
        });
        let (wakes, mut woken) = mpsc::channel::<oneshot::Sender<()>>(1);
        group.spawner().spawn(quiet, 1);
        let busy = async move {
            while let Some(answer) = woken.recv().await {
                answer.send(()).unwrap();
            }
        };
        group.spawner().spawn(busy, 2);
        let (_end, ended) = oneshot::channel();
        let task = start(group, ended);
        for _time in 0..10 {
            let (answer, answered) = oneshot::channel();
            wakes.send(answer).await.unwrap();
            timeout(DEADLINE, answered).await.unwrap().unwrap();
        }
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        task.abort();
    }

    #[tokio::test]
    async fn one_that_always_wakes_itself_lets_others_run() {
        let group = Group::new();
        let restless = poll_fn(|context: &mut Context<'_>| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        group.spawner().spawn(restless, 1);
        let (end, ended) = oneshot::channel();
        let task = start(group, ended);
        tokio::task::yield_now().await;
        end.send(()).unwrap();
        timeout(DEADLINE, task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn more_than_have_a_turn_at_once_all_get_one_and_so_do_those_who_join_in_their_places() {
        let group = Group::new();
        let spawner = group.spawner();
        let (mut gates, mut ends) = (Vec::new(), Vec::new());
        for number in 0..4 * POLL_LIMIT {
            let (gate, opened) = oneshot::channel::<()>();
            let (later_gate, opened_later) = oneshot::channel::<()>();
            let (end, ended) = oneshot::channel::<()>();
            let inner = spawner.clone();
            let member = async move {
                opened.await.unwrap();
                let successor = async move {
                    opened_later.await.unwrap();
                    end.send(()).unwrap();
                };
                inner.spawn(successor, number);
            };
            spawner.spawn(member, number);
            gates.push(gate);
            ends.push((later_gate, ended));
        }
        let (_end, ended) = oneshot::channel();
        let task = start(group, ended);
        for gate in gates {
            gate.send(()).unwrap();
        }
        for (later_gate, ended) in ends {
            later_gate.send(()).unwrap();
            timeout(DEADLINE, ended).await.unwrap().unwrap();
        }
        task.abort();
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    #[tokio::test]
    async fn who_is_not_retained_is_dropped_and_the_others_are_finished() {
        let mut group = Group::new();
        let mut gates = Vec::new();
        let mut ends = Vec::new();
        for number in 0..4_usize {
            let (gate, opened) = oneshot::channel::<()>();
            let (end, ended) = oneshot::channel::<usize>();
            gates.push(gate);
            ends.push(ended);
            let member = async move {
                opened.await.unwrap();
                end.send(number).unwrap();
            };
            group.spawner().spawn(member, number);
        }
        let turn = group.run(pin!(pending::<()>()), pin!(tokio::task::yield_now())).await;
        assert_eq!(turn, Turn::Happened(()));
        group.retain(|number| number % 2 == 0);
        assert!(!group.is_empty());
        let finished = tokio::spawn(group.finish());
        for gate in gates {
            let _ = gate.send(());
        }
        timeout(DEADLINE, finished).await.unwrap().unwrap();
        for (number, end) in ends.into_iter().enumerate() {
            let expected = (number % 2 == 0).then_some(number);
            assert_eq!(timeout(DEADLINE, end).await.unwrap().ok(), expected);
        }
    }

    #[tokio::test]
    async fn what_joins_a_group_that_is_gone_is_dropped() {
        let group = Group::new();
        let spawner = group.spawner();
        let (alive, mut before) = oneshot::channel::<()>();
        let inner = spawner.clone();
        let holds_the_group = async move {
            drop(inner);
            drop(alive);
        };
        spawner.spawn(holds_the_group, 1);
        assert_eq!(before.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(group);
        assert_eq!(before.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let (alive, mut after) = oneshot::channel::<()>();
        spawner.spawn(async move { drop(alive) }, 1);
        assert_eq!(after.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
