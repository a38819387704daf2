//! Which addresses are subscribed to, and which of them may be given up: the longest idle first. Pure;
//! the time is an argument. What they mean is in state.rs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// The subscribed addresses with the time each was last in use.
#[derive(Debug)]
pub struct Subscriptions {
    limit: usize,
    last_used: HashMap<SocketAddr, Instant>,
}

/// What asking for an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is subscribed to already.
    Known,
    /// It is new.
    New,
    /// There is no room: one of those in use would have to go.
    Full,
}

impl Subscriptions {
    /// None yet, and at most `limit`.
    pub fn new(limit: usize) -> Self {
        Self { limit, last_used: HashMap::new() }
    }

    /// Somebody asks for an address.
    pub fn ask(&mut self, address: SocketAddr, now: Instant) -> Asked {
        if let Some(last_used) = self.last_used.get_mut(&address) {
            *last_used = now;
            return Asked::Known;
        }
        if self.last_used.len() >= self.limit {
            return Asked::Full;
        }
        self.last_used.insert(address, now);
        Asked::New
    }

    /// Notes which are in use now.
    pub fn touch(&mut self, now: Instant, in_use: impl Fn(&SocketAddr) -> bool) {
        for (address, last_used) in &mut self.last_used {
            if in_use(address) {
                *last_used = now;
            }
        }
    }

    /// Those that nobody used for `limit`, longest idle first.
    pub fn idle(&self, now: Instant, limit: Duration) -> Vec<SocketAddr> {
        let idle_for = |last_used: &Instant| now.saturating_duration_since(*last_used);
        let mut idle: Vec<(Instant, SocketAddr)> = self
            .last_used
            .iter()
            .filter(|(_, last_used)| idle_for(last_used) > limit)
            .map(|(address, last_used)| (*last_used, *address))
            .collect();
        idle.sort_unstable();
        idle.into_iter().map(|(_, address)| address).collect()
    }

    /// Gives one up.
    pub fn remove(&mut self, address: SocketAddr) {
        self.last_used.remove(&address);
    }

    /// Whether an address is subscribed to.
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.last_used.contains_key(&address)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.last_used.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.last_used.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 80))
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_is_given_up_first_and_what_is_in_use_never() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut subscriptions = Subscriptions::new(3);
        assert_eq!(subscriptions.ask(address(1), at(0)), Asked::New);
        assert_eq!(subscriptions.ask(address(2), at(1)), Asked::New);
        assert_eq!(subscriptions.ask(address(3), at(2)), Asked::New);
        assert_eq!(subscriptions.ask(address(1), at(3)), Asked::Known);
        subscriptions.touch(at(9), |used| *used == address(3));
        let limit = Duration::from_secs(5);
        assert_eq!(subscriptions.idle(at(10), limit), [address(2), address(1)]);
        subscriptions.remove(address(2));
        assert_eq!(subscriptions.idle(at(10), limit), [address(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_than_the_limit() {
        let now = Instant::now();
        let mut subscriptions = Subscriptions::new(2);
        subscriptions.ask(address(1), now);
        subscriptions.ask(address(2), now);
        assert_eq!(subscriptions.ask(address(3), now), Asked::Full);
        assert_eq!(subscriptions.ask(address(2), now), Asked::Known);
        assert_eq!(subscriptions.len(), 2);
    }
}
