//! What the two ends of one HTTP/1 server connection tell each other: io.rs, which reads requests
//! beneath hyper, and server.rs, which answers them above it. Nothing of it comes from the wire.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::http::gate::refusal::Refusal;

/// The requests of one connection, in their order; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Exchanges(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Requests that were handed to hyper.
    begun: u64,
    /// Requests that hyper handed on.
    called: u64,
    /// Answers of which nothing is left to send.
    ended: u64,
    /// The request, by its number, in whose place something else was handed on.
    refused: Option<(u64, Refusal)>,
    /// The timer that ended the connection, as a metric label.
    limit: Option<&'static str>,
    /// The last request that asked for a tunnel, by its number.
    asked: u64,
    tunnel: Tunnel,
}

/// How far a request for a tunnel has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tunnel {
    #[default]
    None,
    /// Asked for; whether the client went on without waiting.
    Asked {
        is_early: bool,
    },
    Agreed,
    Declined,
    /// Declined to a client that went on: what it sent is not read as anything.
    Dropped,
}

/// What the answer to a request is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As it is.
    Pass,
    /// As it is, and the last one.
    PassAndClose,
    /// Nobody asked for the tunnel that it agrees to.
    Unasked,
}

/// One request and its answer; it ends when it is dropped.
#[derive(Debug)]
pub struct Exchange {
    exchanges: Exchanges,
    number: u64,
}

impl Exchanges {
    /// Hyper hands on the next request: the exchange, and why it is not to be forwarded.
    pub fn call(&self) -> (Exchange, Option<Refusal>) {
        let mut state = self.0.lock();
        state.called += 1;
        let number = state.called;
        let refused = state.refused.filter(|(refused, _refusal)| *refused == number);
        (Exchange { exchanges: self.clone(), number }, refused.map(|(_number, refusal)| refusal))
    }

    /// The head of a request is handed to hyper; whether it asks for a tunnel.
    pub(super) fn begin(&self, tunnel: bool) {
        let mut state = self.0.lock();
        state.begun += 1;
        if tunnel {
            state.asked = state.begun;
            state.tunnel = Tunnel::Asked { is_early: false };
        }
    }

    /// The client went on although it has asked for a tunnel.
    pub(super) fn go_on(&self) {
        let mut state = self.0.lock();
        if let Tunnel::Asked { is_early } = &mut state.tunnel {
            *is_early = true;
        }
    }

    /// Something else is handed to hyper in the place of the next request.
    pub(super) fn refuse(&self, refusal: Refusal) {
        let mut state = self.0.lock();
        state.begun += 1;
        state.refused = Some((state.begun, refusal));
    }

    /// A timer has run out, which ends the connection.
    pub(super) fn reach(&self, limit: &'static str) {
        self.0.lock().limit.get_or_insert(limit);
    }

    /// The timer that ended the connection, as a metric label.
    pub fn limit(&self) -> Option<&'static str> {
        self.0.lock().limit
    }

    pub(super) fn tunnel(&self) -> Tunnel {
        self.0.lock().tunnel
    }

    /// Whether no request waits for its answer, or for the end of it.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.begun == state.ended
    }
}

/// Travels with a request, for whoever opens its tunnel.
#[derive(Clone, Debug)]
pub struct Permit {
    exchanges: Exchanges,
    number: u64,
}

impl Permit {
    /// The backend agrees; fails if the client has not waited for that.
    pub fn agree(&self) -> Result<(), Refusal> {
        let mut state = self.exchanges.0.lock();
        if state.asked != self.number {
            return Ok(());
        }
        if let Tunnel::Asked { is_early } = state.tunnel {
            state.tunnel = if is_early { Tunnel::Dropped } else { Tunnel::Agreed };
            if is_early {
                return Err(Refusal::EarlyBytes);
            }
        }
        Ok(())
    }
}

impl Exchange {
    /// For the request's tunnel, if it gets one.
    pub fn permit(&self) -> Permit {
        Permit { exchanges: self.exchanges.clone(), number: self.number }
    }

    /// There is an answer; whether it agrees to a tunnel.
    pub fn answer(&self, agrees: bool) -> Answer {
        let mut state = self.exchanges.0.lock();
        let asked = if state.asked == self.number { state.tunnel } else { Tunnel::None };
        match (asked, agrees) {
            (Tunnel::Agreed, _) | (Tunnel::None | Tunnel::Declined | Tunnel::Dropped, false) => {
                Answer::Pass
            }
            (Tunnel::Asked { is_early: false }, false) => {
                state.tunnel = Tunnel::Declined;
                Answer::Pass
            }
            (Tunnel::Asked { is_early: true }, false) => {
                state.tunnel = Tunnel::Dropped;
                Answer::PassAndClose
            }
            // Whoever opens a tunnel asks for the permit.
            (Tunnel::None | Tunnel::Asked { .. } | Tunnel::Declined | Tunnel::Dropped, true) => {
                Answer::Unasked
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.exchanges.0.lock().ended += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_opened_only_to_who_asked_and_waited() {
        for (case, asks, goes_on, agrees, permit, answer, tunnel) in [
            ("agreed", true, false, true, Ok(()), Answer::Pass, Tunnel::Agreed),
            ("declined", true, false, false, Ok(()), Answer::Pass, Tunnel::Declined),
            (
                "agreed, and early",
                true,
                true,
                true,
                Err(Refusal::EarlyBytes),
                Answer::Unasked,
                Tunnel::Dropped,
            ),
            (
                "declined, and early",
                true,
                true,
                false,
                Ok(()),
                Answer::PassAndClose,
                Tunnel::Dropped,
            ),
            ("not asked for", false, false, true, Ok(()), Answer::Unasked, Tunnel::None),
            ("a request", false, false, false, Ok(()), Answer::Pass, Tunnel::None),
        ] {
            let exchanges = Exchanges::default();
            exchanges.begin(asks);
            let (exchange, refusal) = exchanges.call();
            assert_eq!(refusal, None, "case: {case}");
            if goes_on {
                exchanges.go_on();
            }
            if agrees {
                assert_eq!(exchange.permit().agree(), permit, "case: {case}");
            }
            assert_eq!(exchange.answer(agrees), answer, "case: {case}");
            assert_eq!(exchanges.tunnel(), tunnel, "case: {case}");
        }
    }

    #[test]
    fn the_answer_before_a_request_for_a_tunnel_says_nothing_of_it() {
        let exchanges = Exchanges::default();
        exchanges.begin(false);
        exchanges.begin(true);
        let (first, _none) = exchanges.call();
        assert_eq!(first.answer(false), Answer::Pass);
        assert_eq!(exchanges.tunnel(), Tunnel::Asked { is_early: false });
        let (second, _none) = exchanges.call();
        assert_eq!(second.answer(false), Answer::Pass);
        assert_eq!(exchanges.tunnel(), Tunnel::Declined);
    }

    #[test]
    fn a_stand_in_is_known_by_its_number() {
        let exchanges = Exchanges::default();
        exchanges.begin(false);
        exchanges.refuse(Refusal::Host);
        assert!(!exchanges.is_idle());
        let (first, none) = exchanges.call();
        let (second, refused) = exchanges.call();
        assert_eq!((none, refused), (None, Some(Refusal::Host)));
        drop(first);
        assert!(!exchanges.is_idle());
        drop(second);
        assert!(exchanges.is_idle());
    }
}
