//! Warm connections between two turns, by whom they are with. Pure but for its lock: what is asked of a
//! connection, and what time it is, are arguments. Who opens and looks after them is in dial.rs.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use heddle_model::policy::KeepAlive;
use heddle_tls::connect::PeerTarget;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::warm::term::Term;

/// Whom a connection is with: who had to answer, in which pod, at which port, and where that is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Who had to answer there.
    pub target: PeerTarget,
    /// Where the pod is.
    pub ip: IpAddr,
}

/// A connection between two turns.
#[derive(Debug)]
pub struct Kept<S> {
    /// The connection.
    pub stream: S,
    /// For how long it may be used.
    pub term: Term,
    /// How TCP looks after it, and how long it may be idle.
    pub keep_alive: KeepAlive,
}

/// All that are kept.
pub struct Pool<S> {
    state: Mutex<State<S>>,
    limits: PoolLimits,
    /// Shows how many are kept.
    shown: Gauge,
}

/// How many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Of one peer; zero: none.
    pub of_peer: usize,
    /// Of all peers together; zero: none.
    pub in_all: usize,
}

impl PoolLimits {
    /// `of_peer` connections to one peer, and in all [`KEPT_LIMIT`], or fewer where the process may have
    /// but few files open: as many as `connection_limit` connections have sockets for, and half a socket for
    /// each is put by for pools. No more than half of that is for warm connections.
    pub fn new(of_peer: usize, connection_limit: usize) -> Self {
        Self { of_peer, in_all: KEPT_LIMIT.min(connection_limit / CONNECTIONS_PER_KEPT) }
    }
}

struct State<S> {
    idle: HashMap<Peer, Vec<Idle<S>>>,
    count: usize,
    life: Life,
}

struct Idle<S> {
    kept: Kept<S>,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Holds nothing, so that no task looks after it.
    Empty,
    /// A task closes what is idle for long.
    Looked,
    /// The process drains: nothing is kept.
    Closed,
}

/// What became of a connection that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// It waits for its next turn.
    Kept,
    /// The same, and it is the first: somebody has to look after the pool from now on.
    First,
    /// It is closed.
    Closed,
}

/// At which moment, and under which credentials.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time.
    pub now: Instant,
    /// Of the credentials; see [`Term::generation`].
    pub generation: u64,
}

impl<S> Pool<S> {
    /// Keeps as many as `limits` allow, and shows in `shown` how many those are.
    pub fn new(limits: PoolLimits, shown: Gauge) -> Self {
        let state = State { idle: HashMap::new(), count: 0, life: Life::Empty };
        Self { state: Mutex::new(state), limits, shown }
    }

    fn show(&self, state: &State<S>) {
        self.shown.set(i64::try_from(state.count).unwrap_or(i64::MAX));
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.state.lock().count
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The connection to a peer that was used last. Those that may not be used any more, or are not
    /// still, are closed on the way.
    pub fn take(
        &self,
        peer: &Peer,
        moment: Moment,
        is_still: impl Fn(&mut S) -> bool,
    ) -> Option<Kept<S>> {
        let mut state = self.state.lock();
        let State { idle, count, .. } = &mut *state;
        let known = idle.get_mut(peer)?;
        let mut found = None;
        while let Some(mut last) = known.pop() {
            *count -= 1;
            if last.is_usable(moment) && is_still(&mut last.kept.stream) {
                found = Some(last.kept);
                break;
            }
        }
        if known.is_empty() {
            idle.remove(peer);
        }
        self.show(&state);
        found
    }

    /// Closes all connections to a peer: one that was taken turned out to be lost.
    pub fn forget(&self, peer: &Peer) {
        let mut state = self.state.lock();
        let gone = state.idle.remove(peer).unwrap_or_default();
        state.count -= gone.len();
        self.show(&state);
        drop(state);
        drop(gone);
    }

    /// Keeps a connection after its turn.
    pub fn give_back(&self, peer: Peer, kept: Kept<S>, moment: Moment) -> Given {
        let idle = Idle { kept, since: moment.now };
        let mut state = self.state.lock();
        let PoolLimits { of_peer, in_all } = self.limits;
        let keeps_none = state.life == Life::Closed || of_peer == 0 || in_all == 0;
        if keeps_none || !idle.is_usable(moment) {
            return Given::Closed;
        }
        if state.count >= in_all {
            state.close_oldest();
        }
        let known = state.idle.entry(peer).or_default();
        if known.len() >= of_peer {
            // Those below it are older, and their time ends sooner.
            drop(known.remove(0));
            known.push(idle);
        } else {
            known.push(idle);
            state.count += 1;
        }
        self.show(&state);
        if state.life == Life::Empty {
            state.life = Life::Looked;
            return Given::First;
        }
        Given::Kept
    }

    /// Closes what may not be used any more, or is not still; true if nothing is left, and who looked
    /// after it may stop.
    pub fn sweep(&self, moment: Moment, is_still: impl Fn(&mut S) -> bool) -> bool {
        let mut state = self.state.lock();
        for known in state.idle.values_mut() {
            known.retain_mut(|idle| idle.is_usable(moment) && is_still(&mut idle.kept.stream));
        }
        state.idle.retain(|_peer, known| !known.is_empty());
        state.count = state.idle.values().map(Vec::len).sum();
        self.show(&state);
        if state.count == 0 {
            state.life = Life::Empty;
        }
        state.count == 0
    }

    /// Closes all.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        let gone = std::mem::take(&mut state.idle);
        state.count = 0;
        self.show(&state);
        drop(state);
        drop(gone);
    }

    /// The same, and keeps none from now on.
    pub fn close(&self) {
        self.state.lock().life = Life::Closed;
        self.clear();
    }
}

impl<S> State<S> {
    fn close_oldest(&mut self) {
        let since = |known: &Vec<Idle<S>>| known.first().map(|idle| idle.since);
        let oldest = self.idle.iter_mut().min_by_key(|(_peer, known)| since(known));
        let Some((_peer, known)) = oldest.filter(|(_peer, known)| !known.is_empty()) else {
            return;
        };
        drop(known.remove(0));
        self.count -= 1;
        if known.is_empty() {
            self.idle.retain(|_peer, known| !known.is_empty());
        }
    }
}

impl<S> Idle<S> {
    fn is_usable(&self, Moment { now, generation }: Moment) -> bool {
        let limit = self.kept.keep_alive.idle_timeout.min(IDLE_TIMEOUT_LIMIT);
        self.kept.term.holds(now, generation) && now.duration_since(self.since) < limit
    }
}

impl<S> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Less than [`crate::listen::INBOUND_IDLE_TIMEOUT`], after which the other side closes: so that no turn
/// begins on a connection that is just being closed. Policies can have it shorter.
pub const IDLE_TIMEOUT_LIMIT: Duration = Duration::from_secs(110);
const _: () = assert!(
    IDLE_TIMEOUT_LIMIT.as_secs() < crate::listen::INBOUND_IDLE_TIMEOUT.as_secs(),
    "the side that opens turns closes first"
);
/// Idle connections to one peer, if nothing else is set: so many of the application's may begin at once
/// without a handshake.
pub const KEPT_FOR_PEER: usize = 128;
/// Idle connections to all peers together; then the one that was idle for longest makes room.
pub const KEPT_LIMIT: usize = 512;
/// See [`PoolLimits::new`].
const CONNECTIONS_PER_KEPT: usize = 4;

#[cfg(test)]
mod tests;
