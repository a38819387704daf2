//! Connections of HTTP/2 to one endpoint that the lane uses, each for the requests of many clients.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::http::mux::outbox::{News, Outbox};
use crate::http::mux::upstream::Upstream;
use crate::http::pool::{Life, Pool, SHARED_LIMIT};

/// Those of one endpoint.
#[derive(Default)]
pub(super) struct Upstreams {
    all: Vec<Held>,
    is_opening: bool,
    /// Clients' streams that wait for the one that is being opened.
    waiting: Vec<(Arc<Outbox>, u32)>,
}

/// What becomes of a request that found no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It waits: another is being opened.
    Waits,
    /// The same, once whoever asked begins to open it.
    Opens,
    /// There are as many as may be.
    None,
}

/// Takes no new request once this is dropped.
struct Held {
    upstream: Arc<Upstream>,
    /// When it is to take no new request; `None`: never.
    retire_at: Option<Instant>,
    opened_at: Instant,
    /// When a request was last given to it.
    used_at: Instant,
}

impl Held {
    fn is_usable(&self, now: Instant) -> bool {
        self.upstream.is_open() && self.retire_at.is_none_or(|at| now < at)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.upstream.retire();
    }
}

impl Upstreams {
    /// Drops what is idle for long, retired or closed; whether nothing is left.
    pub(super) fn sweep(&mut self, now: Instant, idle_timeout: Duration) -> bool {
        self.all.retain(|held| {
            let is_in_use = !held.upstream.is_idle();
            held.is_usable(now) && (is_in_use || now.duration_since(held.used_at) < idle_timeout)
        });
        self.all.is_empty() && !self.is_opening
    }

    /// There will be no connection any more.
    pub(super) fn tell_waiting(self) {
        for (client, stream) in self.waiting {
            client.tell(News::Opened(stream));
        }
    }

    /// Closes one that has no request; whether there was one.
    pub(super) fn close_idle(&mut self) -> bool {
        let idle = self.all.iter().position(|held| held.upstream.is_idle());
        idle.map(|index| self.all.remove(index)).is_some()
    }
}

impl Pool {
    /// The connection with the fewest requests, with `opened_since` only one that was not open before; `None`: there is
    /// none that takes one more.
    pub fn take_upstream(
        &self,
        now: Instant,
        opened_since: Option<Instant>,
    ) -> Option<Arc<Upstream>> {
        let mut state = self.state.lock();
        let all = &mut state.upstreams.all;
        all.retain(|held| held.is_usable(now));
        let is_new = |held: &&mut Held| opened_since.is_none_or(|since| held.opened_at >= since);
        let fit = all.iter_mut().filter(is_new);
        let loads = fit.filter_map(|held| Some((held.upstream.load()?, held)));
        let (_load, chosen) = loads.min_by_key(|(load, _held)| *load)?;
        chosen.used_at = now;
        Some(Arc::clone(&chosen.upstream))
    }

    /// Has a client's stream wait for another connection.
    pub fn wait_for_upstream(&self, client: &Arc<Outbox>, stream: u32) -> Wait {
        let mut state = self.state.lock();
        let may_open = match state.life {
            Life::Empty | Life::Kept => true,
            Life::Closed => false,
        };
        let upstreams = &mut state.upstreams;
        if !may_open || upstreams.all.len() >= SHARED_LIMIT {
            return Wait::None;
        }
        upstreams.waiting.push((Arc::clone(client), stream));
        match std::mem::replace(&mut upstreams.is_opening, true) {
            true => Wait::Waits,
            false => Wait::Opens,
        }
    }

    /// It is open, until `retire_at`; `None`: it could not be opened. Who waits is told to look.
    pub fn add_upstream(&self, opened: Option<(Arc<Upstream>, Option<Instant>)>) {
        let waiting = {
            let mut state = self.state.lock();
            state.upstreams.is_opening = false;
            if let Some((upstream, retire_at)) = opened {
                let now = Instant::now();
                let held = Held { upstream, retire_at, opened_at: now, used_at: now };
                match state.life {
                    Life::Empty | Life::Kept => state.upstreams.all.push(held),
                    Life::Closed => drop(held),
                }
            }
            std::mem::take(&mut state.upstreams.waiting)
        };
        for (client, stream) in waiting {
            client.tell(News::Opened(stream));
        }
    }
}
