//! Keeps the requests of one client with one endpoint: a cookie or header names it, with a number that
//! tells nobody where it is. Source: Gateway API, GEP-1619. Pure: the time is passed in.
//!
//! Any proxy can read what another has written, and nothing secret is in it: who forges one chooses
//! an endpoint, or none.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heddle_model::policy::{SessionKind, SessionPersistence};
use http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

use crate::balance::hash::cookie;

/// A request's session.
#[derive(Clone, Debug)]
pub struct Session {
    rules: Arc<SessionPersistence>,
    /// What the client holds, unless it is over.
    held: Option<Token>,
}

/// What the client holds. Times are in whole seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    endpoint: u64,
    issued: u64,
    used: u64,
}

impl Session {
    /// Reads the client's part. What makes no sense, or is over, is as nothing.
    pub fn of(rules: Arc<SessionPersistence>, headers: &HeaderMap, now: SystemTime) -> Self {
        let text = match rules.kind {
            SessionKind::SessionCookie | SessionKind::PermanentCookie => {
                cookie(headers, &rules.name)
            }
            SessionKind::Header => headers.get(&rules.name).map(HeaderValue::as_bytes),
        };
        let held = text.and_then(Token::parse).filter(|token| token.is_live(&rules, seconds(now)));
        Self { rules, held }
    }

    /// The number of the endpoint that it is with.
    pub fn endpoint(&self) -> Option<u64> {
        self.held.map(|token| token.endpoint)
    }

    /// Tells the client, if it does not hold it yet, that its session is with this endpoint.
    pub fn tell(&self, endpoint: u64, headers: &mut HeaderMap, now: SystemTime) {
        let now = seconds(now);
        let token = match self.held {
            Some(held) if held.endpoint == endpoint => Token { used: now, ..held },
            Some(_) | None => Token { endpoint, issued: now, used: now },
        };
        let SessionPersistence { name, kind, absolute_timeout, idle_timeout } = &*self.rules;
        let is_held = self.held.is_some_and(|held| held.endpoint == endpoint);
        let attributes = match kind {
            SessionKind::Header => {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::try_from(name), HeaderValue::try_from(token.to_string()))
                {
                    headers.insert(name, value);
                }
                return;
            }
            SessionKind::SessionCookie | SessionKind::PermanentCookie
                if is_held && idle_timeout.is_none() =>
            {
                return;
            }
            SessionKind::SessionCookie => String::new(),
            SessionKind::PermanentCookie => {
                let age = now.saturating_sub(token.issued);
                let left = absolute_timeout.map(|limit| limit.as_secs().saturating_sub(age));
                let most = left.into_iter().chain(idle_timeout.map(|limit| limit.as_secs())).min();
                most.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default()
            }
        };
        let text = format!("{name}={token}; Path=/; HttpOnly{attributes}");
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(SET_COOKIE, value);
        }
    }
}

impl Token {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= TOKEN_LIMIT_BYTES)?;
        let mut numbers = text.split('-').map(|part| {
            let is_ours = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            is_ours.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        });
        let (endpoint, issued, used) = (numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(Self { endpoint, issued, used })
    }

    fn is_live(&self, rules: &SessionPersistence, now: u64) -> bool {
        let is_within = |since: u64, limit: Option<Duration>| {
            // The clocks of two proxies may differ.
            since <= now.saturating_add(CLOCK_SKEW_SECONDS)
                && limit.is_none_or(|limit| now.saturating_sub(since) < limit.as_secs().max(1))
        };
        is_within(self.issued, rules.absolute_timeout) && is_within(self.used, rules.idle_timeout)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}-{:x}", self.endpoint, self.issued, self.used)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Three numbers of 16 digits.
const TOKEN_LIMIT_BYTES: usize = 50;
const CLOCK_SKEW_SECONDS: u64 = 60;

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 0x6000_0000;

    fn rules(
        kind: SessionKind,
        absolute: Option<u64>,
        idle: Option<u64>,
    ) -> Arc<SessionPersistence> {
        Arc::new(SessionPersistence {
            name: "session".to_owned(),
            kind,
            absolute_timeout: absolute.map(Duration::from_secs),
            idle_timeout: idle.map(Duration::from_secs),
        })
    }

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START + second)
    }

    fn with_cookie(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(text).unwrap())])
    }

    /// What a client that holds `cookie` is told at `second`, when `endpoint` answers.
    fn told(rules: &Arc<SessionPersistence>, cookie: &str, endpoint: u64, second: u64) -> String {
        let session = Session::of(Arc::clone(rules), &with_cookie(cookie), at(second));
        let mut headers = HeaderMap::new();
        session.tell(endpoint, &mut headers, at(second));
        headers.get(SET_COOKIE).map_or("", |value| value.to_str().unwrap()).to_owned()
    }

    #[test]
    fn a_client_is_told_once_and_again_when_it_matters() {
        use SessionKind::{PermanentCookie, SessionCookie};

        let held = "a=1; session=000000000000000a-60000000-60000000";
        for (case, rules, cookie, second, expected) in [
            (
                "new",
                rules(SessionCookie, None, None),
                "",
                0,
                "session=000000000000000a-60000000-60000000; Path=/; HttpOnly",
            ),
            ("held", rules(SessionCookie, None, None), held, 9, ""),
            (
                "held, and over when idle",
                rules(SessionCookie, None, Some(60)),
                held,
                9,
                "session=000000000000000a-60000000-60000009; Path=/; HttpOnly",
            ),
            (
                "another endpoint",
                rules(SessionCookie, None, None),
                "session=000000000000000b-60000000-60000000",
                9,
                "session=000000000000000a-60000009-60000009; Path=/; HttpOnly",
            ),
            (
                "permanent",
                rules(PermanentCookie, Some(100), None),
                "",
                0,
                "session=000000000000000a-60000000-60000000; Path=/; HttpOnly; Max-Age=100",
            ),
            (
                "permanent, some time later",
                rules(PermanentCookie, Some(100), Some(60)),
                held,
                59,
                "session=000000000000000a-60000000-6000003b; Path=/; HttpOnly; Max-Age=41",
            ),
        ] {
            assert_eq!(told(&rules, cookie, 10, second), expected, "case: {case}");
        }
    }

    #[test]
    fn a_session_is_over_after_its_time() {
        for (case, absolute, idle, second, expected) in [
            ("no limits", None, None, 1_000_000, true),
            ("before the absolute limit", Some(100), None, 99, true),
            ("at the absolute limit", Some(100), None, 100, false),
            ("before the idle limit", None, Some(50), 79, true),
            ("at the idle limit", None, Some(50), 80, false),
        ] {
            let rules = rules(SessionKind::SessionCookie, absolute, idle);
            // Used half a minute after its beginning.
            let headers = with_cookie("session=000000000000000a-60000000-6000001e");
            let session = Session::of(rules, &headers, at(second));
            assert_eq!(session.endpoint().is_some(), expected, "case: {case}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_session() {
        for text in [
            "",
            "a",
            "10.0.0.1:80",
            "000000000000000a-60000000",
            "000000000000000a-60000000-60000000-0",
            "000000000000000A-60000000-60000000",
            "+a-60000000-60000000",
            "0000000000000000a-60000000-60000000-000000000000000000000000000",
            "000000000000000a-60000000-7fffffff",
            "1000000000000000a-60000000-60000000",
        ] {
            let headers = with_cookie(&format!("session={text}"));
            let rules = rules(SessionKind::SessionCookie, None, None);
            assert_eq!(Session::of(rules, &headers, at(0)).endpoint(), None, "of {text:?}");
        }
    }

    #[test]
    fn a_header_is_told_with_each_response() {
        let rules = rules(SessionKind::Header, None, None);
        let mut headers = HeaderMap::new();
        Session::of(Arc::clone(&rules), &headers, at(0)).tell(10, &mut headers, at(0));
        assert_eq!(headers["session"], "000000000000000a-60000000-60000000");
        let again = Session::of(rules, &headers, at(5));
        assert_eq!(again.endpoint(), Some(10));
        again.tell(10, &mut headers, at(5));
        assert_eq!(headers["session"], "000000000000000a-60000000-60000005");
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(endpoint: u64, issued: u64, used: u64) {
            let token = Token { endpoint, issued, used };
            prop_assert_eq!(Token::parse(token.to_string().as_bytes()), Some(token));
        }

        #[test]
        fn any_text_is_read_without_harm(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(token) = Token::parse(&text) {
                prop_assert!(text.iter().filter(|byte| **byte == b'-').count() == 2, "{token}");
            }
        }
    }
}
