//! Connections to another proxy that carry many connections of the lane of HTTP/1 at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connect::{Opened, Transport};
use crate::http::pool::{Life, Pool};
use crate::multiplex::Session;

/// Those to one endpoint.
#[derive(Default)]
pub(super) struct Sessions {
    all: Vec<Held>,
    /// The proxy that answered last knows none.
    has_old_peer: bool,
}

/// Takes no new channel once this is dropped.
struct Held {
    session: Arc<Session>,
    /// When it is to take no new channel; `None`: never.
    retire_at: Option<Instant>,
    opened_at: Instant,
    /// When a channel was last opened, or seen.
    used_at: Instant,
}

impl Held {
    fn is_usable(&self, now: Instant) -> bool {
        self.session.is_open() && self.retire_at.is_none_or(|at| now < at)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.session.retire();
    }
}

impl Sessions {
    /// Drops what is idle for long, retired or closed; whether nothing is left.
    pub(super) fn sweep(&mut self, now: Instant, idle_timeout: Duration) -> bool {
        self.all.retain_mut(|held| {
            if !held.session.is_idle() {
                held.used_at = now;
            }
            held.is_usable(now) && now.duration_since(held.used_at) < idle_timeout
        });
        self.all.is_empty()
    }
}

impl Pool {
    /// A channel of a connection that takes one more, with `opened_since` only of one that was not open before.
    pub fn open_channel(&self, now: Instant, opened_since: Option<Instant>) -> Option<Opened> {
        let mut state = self.state.lock();
        let all = &mut state.sessions.all;
        all.retain(|held| held.is_usable(now));
        // The first that has room: the more of them share one, the more leaves together.
        let mut fit =
            all.iter_mut().filter(|held| opened_since.is_none_or(|since| held.opened_at >= since));
        let (channel, held) = fit.find_map(|held| Some((held.session.open()?, held)))?;
        held.used_at = now;
        Some(Opened { transport: Transport::Channel(channel), retire_at: held.retire_at })
    }

    /// Keeps a new connection. While the process drains it ends with its channels.
    pub fn add_session(&self, session: &Arc<Session>, retire_at: Option<Instant>) {
        let (session, now) = (Arc::clone(session), Instant::now());
        let held = Held { session, retire_at, opened_at: now, used_at: now };
        let mut state = self.state.lock();
        match state.life {
            Life::Empty | Life::Kept => state.sessions.all.push(held),
            Life::Closed => drop(held),
        }
    }

    /// Whether connections are opened for all, so that one is enough: not if whoever answered last knows no channels, nor
    /// while the process drains, when none is kept.
    pub fn shares_sessions(&self) -> bool {
        let state = self.state.lock();
        match state.life {
            Life::Empty | Life::Kept => !state.sessions.has_old_peer,
            Life::Closed => false,
        }
    }

    /// Whether whoever has just answered does.
    pub fn set_old_peer(&self, is_old: bool) {
        self.state.lock().sessions.has_old_peer = is_old;
    }
}
