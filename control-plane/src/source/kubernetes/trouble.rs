//! What is said when the API server does not tell of a kind: a metric for as long as it lasts, and a warning
//! that comes again, with what would do; and how long is waited before it is asked again.

use std::time::Duration;

use heddle_runtime::backoff::Backoff;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::source::kubernetes::kind::Kind;
use crate::source::kubernetes::requests::WatchError;

/// What has gone wrong with one watch.
#[derive(Debug)]
pub struct Trouble {
    kind: &'static Kind,
    failing: Gauge,
    since: Option<Instant>,
    warned: Option<Instant>,
    forgotten: Option<Instant>,
    retry: Backoff,
    relist: Backoff,
}

impl Trouble {
    /// Nothing yet.
    pub fn new(kind: &'static Kind, failing: Gauge) -> Self {
        failing.set(0);
        Self {
            kind,
            failing,
            since: None,
            warned: None,
            forgotten: None,
            retry: Backoff::new(RETRY_FIRST, RETRY_LONGEST),
            relist: Backoff::new(RELIST_FIRST, RELIST_LONGEST),
        }
    }

    /// Says that the API server does not tell. Returns how long to wait before it is asked again.
    pub fn failed(&mut self, error: &WatchError, now: Instant) -> Duration {
        self.failing.set(1);
        let since = *self.since.get_or_insert(now);
        let kind = self.kind.kind;
        let chain = chain(error);
        if self.warned.is_none_or(|warned| now.duration_since(warned) >= WARN_AGAIN) {
            self.warned = Some(now);
            let seconds = now.duration_since(since).as_secs();
            let advice = advice(error, self.kind);
            warn!(
                error = chain,
                kind, seconds, advice, "watch failed; what is known stays, and it is tried again"
            );
        } else {
            debug!(error = chain, kind, "watch failed again");
        }
        self.retry.next_delay()
    }

    /// Says that the API server has forgotten where a watch was. That is life, unless it goes on so: a list
    /// costs it much. Returns how long to wait before the next.
    pub fn forgotten(&mut self, error: &WatchError, now: Instant) -> Duration {
        let again = self.forgotten.is_some_and(|last| now.duration_since(last) < CALM);
        self.forgotten = Some(now);
        if again {
            self.failed(error, now);
        } else {
            self.relist.reset();
            info!(kind = self.kind.kind, "the API server has forgotten the watch; listing again");
        }
        self.relist.next_delay()
    }

    /// The API server tells.
    pub fn over(&mut self) {
        self.failing.set(0);
        self.retry.reset();
        if self.since.take().is_some() {
            info!(kind = self.kind.kind, "watch goes on");
        }
    }
}

impl Drop for Trouble {
    /// Nothing fails that is not tried.
    fn drop(&mut self) {
        self.failing.set(0);
    }
}

/// With its causes.
fn chain(error: &WatchError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// What would do.
fn advice(error: &WatchError, kind: &Kind) -> String {
    let resource = match kind.group() {
        "" => kind.plural.to_owned(),
        group => format!("{}.{group}", kind.plural),
    };
    match error.status().map(|status| status.code) {
        Some(401) => "the API server does not take the control plane's token: look at its service account, and \
                      at the API server's log"
            .to_owned(),
        Some(403) => format!(
            "the control plane's ClusterRole lacks list and watch of {resource}: `meshctl install --apply` or the \
             chart brings it; `kubectl auth can-i watch {resource} -A --as=USER` with the user of the error tells"
        ),
        Some(404) => format!(
            "the API server does not serve {resource}: `kubectl get crd {resource}` tells whether it is defined"
        ),
        Some(429 | 500..=599) => "the API server is busy, or not well: `kubectl get --raw '/readyz?verbose'` \
                                  tells"
            .to_owned(),
        Some(_) | None => "look whether the API server can be reached from the control plane's pods (NetworkPolicy, \
                           proxies between them)"
            .to_owned(),
    }
}

/// How often a warning comes again while it holds.
const WARN_AGAIN: Duration = Duration::from_secs(180);
/// After a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// An API server that comes back is found within this.
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Before the first list after one that was forgotten: all kinds and all replicas hear of it together.
const RELIST_FIRST: Duration = Duration::from_secs(1);
/// Before another list, if none can be followed.
const RELIST_LONGEST: Duration = Duration::from_secs(60);
/// How long a list must be good for, so that the next one is nothing to speak of.
const CALM: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::source::kubernetes::kind;

    fn status(code: u16) -> WatchError {
        WatchError::Client(kube::Error::Api(Box::new(Status { code, ..Status::default() })))
    }

    #[test]
    fn a_failure_says_what_would_do() {
        let route = kind::find("HTTPRoute").unwrap();
        for (case, error, expected) in [
            ("no right", status(403), "list and watch of httproutes.gateway.networking.k8s.io"),
            (
                "no right",
                status(403),
                "kubectl auth can-i watch httproutes.gateway.networking.k8s.io -A",
            ),
            ("no token", status(401), "token"),
            ("no such kind", status(404), "kubectl get crd httproutes.gateway.networking.k8s.io"),
            ("busy", status(429), "readyz"),
            ("unwell", status(503), "readyz"),
            ("out of reach", WatchError::TimedOut, "NetworkPolicy"),
        ] {
            assert!(advice(&error, route).contains(expected), "case: {case}");
        }
        assert!(advice(&status(403), kind::find("Pod").unwrap()).contains("watch pods -A"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_while_it_lasts_and_warned_of_again() {
        let gauge = Gauge::default();
        let mut trouble = Trouble::new(kind::find("Pod").unwrap(), gauge.clone());
        let begin = Instant::now();
        assert!(trouble.failed(&status(403), begin) <= RETRY_FIRST);
        assert_eq!((gauge.get(), trouble.warned), (1, Some(begin)));
        trouble.failed(&status(403), begin + WARN_AGAIN / 2);
        assert_eq!(trouble.warned, Some(begin));
        trouble.failed(&status(403), begin + WARN_AGAIN);
        assert_eq!(trouble.warned, Some(begin + WARN_AGAIN));
        trouble.over();
        assert_eq!(gauge.get(), 0);
        trouble.failed(&status(500), begin + 2 * WARN_AGAIN);
        drop(trouble);
        assert_eq!(gauge.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_forgotten_again_and_again_lists_ever_more_rarely() {
        let gauge = Gauge::default();
        let mut trouble = Trouble::new(kind::find("Pod").unwrap(), gauge.clone());
        let mut now = Instant::now();
        let gone = status(410);
        assert!(trouble.forgotten(&gone, now) <= RELIST_FIRST);
        assert_eq!(gauge.get(), 0, "once is life");
        let mut lists = 0;
        let end = now + Duration::from_secs(3600);
        while now < end {
            now += trouble.forgotten(&gone, now);
            // The list is good each time, and the watch after it is not.
            trouble.over();
            lists += 1;
        }
        // A tenth of the longest pause is the shortest.
        assert!((60..=610).contains(&lists), "{lists} lists in an hour");
        assert!(trouble.forgotten(&gone, now + CALM) <= RELIST_FIRST, "that was long ago");
    }
}
