//! For how long a warm connection may be used: never for longer than a new handshake would give the same
//! answer. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// By what a connection was authenticated, and when that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Of the own credentials, read before the handshake: anchors and certificate. After a swap of either
    /// the handshake would be another one.
    pub generation: u64,
    /// No turn begins after this.
    pub until: Instant,
}

impl Term {
    /// Of a connection made now under the credentials `generation`. `until`: when the first certificate
    /// ends that it stands on, or is near that; `None`: never.
    pub fn new(generation: u64, now: Instant, until: Option<Instant>) -> Self {
        let oldest = now + AGE_LIMIT;
        Self { generation, until: until.map_or(oldest, |until| until.min(oldest)) }
    }

    /// Whether a turn may begin.
    pub fn holds(&self, now: Instant, generation: u64) -> bool {
        now < self.until && generation == self.generation
    }
}

/// What the network lets pass is often asked for new connections only: whoever forbids a caller there is
/// not to wait for longer than this for those that are warm.
pub const AGE_LIMIT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_begins_only_while_a_handshake_would_say_the_same() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        for (case, until, later, generation, expected) in [
            ("at once", None, Duration::ZERO, 7, true),
            ("the last moment", None, AGE_LIMIT - second, 7, true),
            ("old", None, AGE_LIMIT, 7, false),
            ("before a certificate ends", Some(now + second), second / 2, 7, true),
            ("after that", Some(now + second), second, 7, false),
            ("a certificate that outlives it", Some(now + AGE_LIMIT * 2), AGE_LIMIT, 7, false),
            ("other credentials", None, Duration::ZERO, 8, false),
        ] {
            let term = Term::new(7, now, until);
            assert_eq!(term.holds(now + later, generation), expected, "case: {case}");
        }
    }
}
