//! A connection between two proxies that carries many connections of HTTP/1 at once: *channels*. What all of them have
//! to say at a time leaves in one record of TLS and one call of the kernel, and is read by one at the other end. Each
//! channel is to its owner what a connection of its own would be.
//!
//! frame.rs is what is on the wire, entry.rs what is known of a channel, state.rs of all of them, channel.rs an end of one, and driver.rs
//! the connection itself. The reasons are in `docs/adr/0017-connections-of-http1-share-one.md`.

pub mod channel;
pub mod driver;
mod entry;
pub mod frame;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::multiplex::channel::Channel;
use crate::multiplex::state::{Life, State};

/// What the channels of a connection have in common.
#[derive(Debug)]
pub struct Session {
    state: Mutex<State>,
    /// Somebody has told that it was lost.
    is_loss_told: AtomicBool,
    /// Counts what is read and written.
    moves: AtomicU64,
}

/// Who opens channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This side does.
    Client,
    /// The other side does.
    Server,
}

impl Session {
    /// Of a connection that has no channels yet.
    pub fn new(role: Role) -> Arc<Self> {
        let (state, is_loss_told) = (Mutex::new(State::new(role)), AtomicBool::new(false));
        Arc::new(Self { state, is_loss_told, moves: AtomicU64::new(0) })
    }

    /// Opens a channel; `None`: it takes no more.
    pub fn open(self: &Arc<Self>) -> Option<Channel> {
        let id = self.change(State::open)?;
        Some(Channel::new(Arc::clone(self), id))
    }

    /// How many channels it has; `None`: it takes no more.
    pub fn load(&self) -> Option<usize> {
        let state = self.state.lock();
        (state.life == Life::Open && state.open < CHANNEL_LIMIT).then_some(state.open)
    }

    /// Whether it takes channels, now or when others have ended.
    pub fn is_open(&self) -> bool {
        self.state.lock().life == Life::Open
    }

    /// Whether nobody on this side has a channel of it.
    pub fn is_idle(&self) -> bool {
        self.state.lock().held == 0
    }

    /// Another number once anything was read or written.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    fn count_move(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// It takes no new channel, and ends after those that it has. Where the other side opens them, it is told, and
    /// opens none once it has said that it knows.
    pub fn retire(&self) {
        self.change(State::retire);
    }

    /// Whether a channel's failure tells something that is not known yet: a connection is lost once, however many
    /// channels it had. One that broke off alone has failed by itself.
    pub fn is_news(&self) -> bool {
        self.state.lock().life != Life::Closed || !self.is_loss_told.swap(true, Ordering::Relaxed)
    }

    /// Nothing is carried any more.
    fn close(&self) {
        let (left, wakers) = self.state.lock().close();
        drop(left);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    /// Changes something, and wakes the connection's task if it waits and there is something to do.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (changed, waker) = {
            let mut state = self.state.lock();
            let changed = change(&mut state);
            (changed, state.task_to_wake())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        changed
    }
}

/// Channels at once on one connection; as many as HTTP/2 has streams. Whoever has more opens another connection. Both sides
/// rely on it: another number is another protocol.
pub const CHANNEL_LIMIT: usize = 250;

#[cfg(test)]
mod tests;
