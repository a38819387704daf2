//! Connections of the lane to one endpoint that can be used again: a stack, the warmest on top. Nobody looks after one
//! that is idle: that it was closed is found out when it is to be used, or by the sweep.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::balance::endpoint::BalancedEndpoint;
use crate::http::lane::connection::Connection;
use crate::http::pool::{HANDOVER_LIMIT, IDLE_LIMIT, Life, Pool};

/// Those of one endpoint.
#[derive(Default)]
pub(super) struct LaneConnections {
    idle: Vec<Connection>,
    /// Requests that may not open another, the first in front.
    waiting: VecDeque<oneshot::Sender<Connection>>,
}

impl LaneConnections {
    /// Drops what is idle for long, retired or closed; whether nothing is left.
    pub(super) fn sweep(&mut self, now: Instant, idle_timeout: Duration) -> bool {
        self.idle.retain_mut(|connection| {
            now.duration_since(connection.idle_since) < idle_timeout && connection.is_usable(now)
        });
        self.idle.is_empty()
    }

    /// Whether there was one.
    pub(super) fn close_oldest(&mut self) -> bool {
        let is_there = !self.idle.is_empty();
        if is_there {
            drop(self.idle.remove(0));
        }
        is_there
    }

    /// Hands a connection to who has waited longest for one to this endpoint. `wanted` is how many wait for one to any:
    /// if nobody waits for this, it is closed, and makes room for another.
    fn hand_over(&mut self, mut connection: Connection, wanted: usize) {
        self.waiting.retain(|waiting| !waiting.is_closed());
        // Who waits for another endpoint must have a turn, too.
        let is_unfair = wanted > self.waiting.len() && connection.handed_over >= HANDOVER_LIMIT;
        if is_unfair || !connection.is_usable(Instant::now()) {
            return;
        }
        connection.handed_over += 1;
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(connection) {
                Ok(()) => return,
                Err(back) => connection = back,
            }
        }
    }
}

impl Pool {
    /// The warmest connection, if it was idle for less than `idle_limit`. If there are only older ones, the oldest
    /// makes room for the one that is now opened.
    pub fn take(&self, now: Instant, idle_limit: Duration) -> Option<Connection> {
        let mut state = self.state.lock();
        while let Some(mut connection) = state.lane.idle.pop() {
            if !connection.is_usable(now) {
                continue;
            }
            if now.duration_since(connection.idle_since) < idle_limit {
                return Some(connection);
            }
            state.lane.idle.push(connection);
            state.lane.close_oldest();
            return None;
        }
        None
    }

    /// The next connection that is handed over.
    pub fn wait(&self) -> oneshot::Receiver<Connection> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        state.lane.waiting.retain(|waiting| !waiting.is_closed());
        state.lane.waiting.push_back(sender);
        receiver
    }
}

/// Gives a connection back to its endpoint after an answer has ended.
pub fn put_back(endpoint: &BalancedEndpoint, mut connection: Connection, now: Instant) {
    connection.rest();
    connection.idle_since = now;
    let mut state = endpoint.pool.state.lock();
    match endpoint.backend().connections_wanted.len() {
        0 => {
            connection.handed_over = 0;
            if state.life != Life::Closed && state.lane.idle.len() < IDLE_LIMIT {
                state.lane.idle.push(connection);
            }
        }
        wanted => state.lane.hand_over(connection, wanted),
    }
}
