//! What the load generator is to do: parsed once, from the command line.

use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

/// How requests are spaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The time from one request to the next; zero: as fast as answers come (closed loop).
    pub spacing: Duration,
    /// How many requests there are to be; `None`: no end.
    pub requests: Option<NonZeroU64>,
}

/// Which protocol the requests are sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1 with connections kept open.
    Http1,
    /// HTTP/2 without TLS, begun at once ("prior knowledge").
    Http2,
}

/// Everything that is settled before the first request.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where requests go.
    pub target: Target,
    /// Requests per second over all connections; `None`: as fast as answers come.
    pub rate: Option<Rate>,
    /// How many connections, each with one request at a time.
    pub connections: NonZeroU32,
    /// Ends after this many requests.
    pub requests: Option<NonZeroU64>,
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// The protocol.
    pub http_version: HttpVersion,
    /// How long one request may take, its connection included.
    pub timeout: Duration,
    /// Waits this long for a first good answer; what fails meanwhile does not count.
    pub wait_for_target: Option<Duration>,
}

impl Plan {
    /// How the requests are spaced and when they end.
    pub fn pace(&self) -> Pace {
        let spacing = self.rate.map_or(Duration::ZERO, |rate| rate.spacing());
        Pace { spacing, requests: self.requests }
    }
}

/// Requests per second; more than zero, at most [`Rate::MAX`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// The highest rate taken; one process does not send faster.
    pub const MAX: f64 = 1_000_000.0;

    fn spacing(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            // A rate below this would wait longer than a Duration can say.
            Ok(rate) if (1e-6..=Self::MAX).contains(&rate) => Ok(Self(rate)),
            Ok(_) | Err(_) => Err(format!("want requests per second, 0.000001 to {}", Self::MAX)),
        }
    }
}

/// An `http://` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As given.
    pub uri: Uri,
    /// The name or address to connect to.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "want a URL such as http://frontend:8080/";
        let uri: Uri = text.parse().map_err(|error| format!("{error}; {wanted}"))?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(format!("{wanted}; other schemes than http are not spoken"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(wanted)?;
        // Brackets belong to the URL, not to the address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self { uri, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_http_url() {
        for (text, expected) in [
            ("http://frontend:8080/", Some(("frontend", 8080))),
            ("http://frontend", Some(("frontend", 80))),
            ("http://[fd43::1]:81/x?y", Some(("fd43::1", 81))),
            ("https://frontend/", None),
            ("frontend:8080", None),
            ("/", None),
            ("", None),
        ] {
            let target = text.parse::<Target>().ok();
            let parts = target.as_ref().map(|target| (target.host.as_str(), target.port));
            assert_eq!(parts, expected, "case: {text}");
        }
    }

    #[test]
    fn a_rate_is_more_than_nothing() {
        for (text, good) in [
            ("100", true),
            ("0.5", true),
            ("0", false),
            ("-1", false),
            ("NaN", false),
            ("inf", false),
        ] {
            assert_eq!(text.parse::<Rate>().is_ok(), good, "case: {text}");
        }
        assert_eq!("200".parse::<Rate>().unwrap().spacing(), Duration::from_millis(5));
    }
}
