//! How long to wait before trying again: exponential, with full jitter, so that many who failed at
//! once do not return at once.

use std::time::Duration;

use rand::Rng;

/// The waits between attempts at one thing.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Waits grow from at most `first` to at most `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, ceiling: first }
    }

    /// The next wait: between a tenth of the present ceiling and all of it; the ceiling then doubles.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.ceiling.mul_f64(rand::rng().random_range(0.1..=1.0));
        self.ceiling = self.ceiling.saturating_mul(2).min(self.longest);
        delay
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_over() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, longest);
        for ceiling_ms in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay();
            assert!(delay <= Duration::from_millis(ceiling_ms), "{delay:?} over {ceiling_ms} ms");
            assert!(delay >= Duration::from_millis(ceiling_ms / 10), "{delay:?} is no wait");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= first);
    }
}
