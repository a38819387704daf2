//! Which of several control planes writes: the holder of a Lease. The decision is pure; the loop around it
//! asks the API server. All replicas serve proxies; the leader alone writes status, and rotates keys.
//!
//! The holder renews its Lease every few seconds. Others take it over when they saw no renewal for as long
//! as it is valid, by their own clocks: the clocks of two machines are never compared. A holder that cannot
//! renew stops well before that.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::installation::CONTROL_PLANE_LEASE;
use heddle_runtime::backoff::Backoff;
use heddle_runtime::clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Whether this process leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Term>>);

/// The time during which this process leads. Clones are of the same time.
#[derive(Clone, Debug, Default)]
pub struct Term(CancellationToken);

impl Leadership {
    /// Waits until this process leads; `None` when it never will again.
    ///
    /// Cancel safe: yes.
    pub async fn term(&mut self) -> Option<Term> {
        let term = self.0.wait_for(|term| term.as_ref().is_some_and(|term| !term.is_over())).await;
        term.ok().and_then(|term| term.clone())
    }

    /// Whether it does now.
    pub fn is_leading(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|term| !term.is_over())
    }
}

impl Term {
    /// Completes when this process does not lead any more. Whatever it writes as the leader is to be dropped
    /// then at once.
    ///
    /// Cancel safe: yes.
    pub async fn over(&self) {
        self.0.cancelled().await;
    }

    /// Whether it does not lead any more.
    pub fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Takes part in the election.
pub struct Candidate {
    leases: Api<Lease>,
    /// Unique among the replicas.
    name: String,
    term: watch::Sender<Option<Term>>,
    observed: Option<Observed>,
    renewed: Option<Instant>,
}

/// The Lease as it was seen last.
#[derive(Clone, Debug)]
struct Observed {
    lease: Arc<Lease>,
    /// When it was first seen so.
    since: Instant,
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is none: make it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// It is nobody's, or its holder is gone: take it.
    Take,
    /// Somebody else holds it.
    Wait,
}

fn step(name: &str, observed: Option<&Observed>, now: Instant) -> Step {
    let Some(Observed { lease, since }) = observed else { return Step::Create };
    let spec = lease.spec.as_ref();
    match spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default() {
        "" => Step::Take,
        holder if holder == name => Step::Renew,
        _ => {
            let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
            let valid = u64::try_from(seconds).map_or(LEASE_DURATION, Duration::from_secs);
            if now.duration_since(*since) >= valid { Step::Take } else { Step::Wait }
        }
    }
}

impl Candidate {
    /// Of the Lease in the mesh's namespace; `name` is unique among the replicas: that of the pod.
    pub fn new(client: Client, namespace: &str, name: String) -> (Self, Leadership) {
        let (term, leadership) = watch::channel(None);
        let leases = Api::namespaced(client, namespace);
        let candidate = Self { leases, name, term, observed: None, renewed: None };
        (candidate, Leadership(leadership))
    }

    /// Takes part until the drain; then lets the Lease go, so that another need not wait.
    pub async fn run(mut self, drain: CancellationToken) {
        let mut backoff = Backoff::new(RETRY, RETRY);
        loop {
            tokio::select! {
                () = drain.cancelled() => break,
                () = self.attempt() => {}
            }
            self.end_if_late();
            let left = self.renewed.map_or(RETRY, |renewed| {
                (renewed + RENEW_DEADLINE).saturating_duration_since(Instant::now())
            });
            let pause = if self.is_leading() { RETRY.min(left) } else { backoff.next_delay() };
            tokio::select! {
                () = drain.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            self.end_if_late();
        }
        let led = self.is_leading();
        self.end();
        if led {
            match timeout(REQUEST_TIMEOUT, self.release()).await {
                Ok(Ok(())) => info!("leadership given up"),
                Ok(Err(error)) => warn!(%error, "leadership cannot be given up; it runs out"),
                Err(_) => warn!("leadership cannot be given up in time; it runs out"),
            }
        }
    }

    /// One look at the Lease, and what follows. While this process leads, it takes no longer than it may.
    async fn attempt(&mut self) {
        let begun = Instant::now();
        let deadline = self.renewed.map_or(begun + REQUEST_TIMEOUT, |renewed| {
            (renewed + RENEW_DEADLINE).min(begun + REQUEST_TIMEOUT)
        });
        match tokio::time::timeout_at(deadline, self.ask(begun)).await {
            Ok(Ok(true)) => self.begin(begun),
            Ok(Ok(false)) => self.end(),
            Ok(Err(error)) => warn!(%error, "the Lease cannot be read or written; trying again"),
            Err(_) => warn!("the API server does not answer about the Lease; trying again"),
        }
    }

    /// Whether the Lease is ours, once what can be done was done.
    async fn ask(&mut self, now: Instant) -> Result<bool, kube::Error> {
        let lease = self.leases.get_opt(CONTROL_PLANE_LEASE).await?;
        self.observe(lease, now);
        let written = match step(&self.name, self.observed.as_ref(), now) {
            Step::Wait => return Ok(false),
            Step::Create => {
                let lease = self.lease(None, now_micro());
                self.leases.create(&PostParams::default(), &lease).await
            }
            Step::Renew | Step::Take => {
                let former = self.observed.as_ref().map(|observed| Arc::clone(&observed.lease));
                let lease = self.lease(former.as_deref(), now_micro());
                self.leases.replace(CONTROL_PLANE_LEASE, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.observe(Some(lease), now);
                Ok(true)
            }
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == CONFLICT => {
                debug!("the Lease was written by another");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let known = self.observed.as_ref().map(|observed| version(&observed.lease));
        match lease {
            Some(lease) if known.as_ref() == Some(&version(&lease)) => {}
            Some(lease) => {
                self.observed = Some(Observed { lease: Arc::new(lease), since: now });
            }
            None => self.observed = None,
        }
    }

    /// The Lease as it should be, held by this process.
    fn lease(&self, former: Option<&Lease>, now: MicroTime) -> Lease {
        let spec = former.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_ours = spec.holder_identity.as_deref() == Some(&self.name);
        let transitions = spec.lease_transitions.unwrap_or_default();
        let transitions = match (former, is_ours) {
            (None, _) => 0,
            (Some(_), true) => transitions,
            (Some(_), false) => transitions.saturating_add(1),
        };
        let acquire_time = spec.acquire_time.clone().filter(|_| is_ours);
        let name = Some(CONTROL_PLANE_LEASE.to_owned());
        Lease {
            metadata: former.map_or_else(
                || ObjectMeta { name, ..ObjectMeta::default() },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.name.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                lease_transitions: Some(transitions),
                acquire_time: acquire_time.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                ..spec
            }),
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(CONTROL_PLANE_LEASE).await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.name) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(now_micro());
        self.leases.replace(CONTROL_PLANE_LEASE, &PostParams::default(), &lease).await.map(drop)
    }

    fn is_leading(&self) -> bool {
        self.term.borrow().is_some()
    }

    /// The Lease was ours at a moment no earlier than `renewed`.
    fn begin(&mut self, renewed: Instant) {
        self.renewed = Some(renewed);
        if !self.is_leading() {
            info!("this control plane leads");
            self.term.send_replace(Some(Term::default()));
        }
    }

    fn end(&mut self) {
        self.renewed = None;
        if let Some(term) = self.term.send_replace(None) {
            term.0.cancel();
            info!("this control plane does not lead any more");
        }
    }

    fn end_if_late(&mut self) {
        let late = |renewed: Instant| renewed.elapsed() >= RENEW_DEADLINE;
        if self.renewed.is_some_and(late) {
            warn!("the Lease could not be renewed in time");
            self.end();
        }
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("name", &self.name).finish_non_exhaustive()
    }
}

fn now_micro() -> MicroTime {
    MicroTime(Timestamp::try_from(clock::now()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// How long others wait for a sign of the holder. Like those of Kubernetes' own controllers, as are the
/// other two.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for as long stops: before others may begin.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at the Lease.
const RETRY: Duration = Duration::from_secs(2);
/// How long the API server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// What the API server says when another wrote in between.
const CONFLICT: u16 = 409;

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(holder: &str, since: Instant) -> Observed {
        let lease = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        Observed { lease: Arc::new(lease), since }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_when_its_holder_gave_no_sign() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        for (case, seen, now, expected) in [
            ("there is none", None, begin, Step::Create),
            ("ours", Some(observed("a", begin)), after(1), Step::Renew),
            ("ours, and long ago", Some(observed("a", begin)), after(99), Step::Renew),
            ("given up", Some(observed("", begin)), begin, Step::Take),
            ("another's", Some(observed("b", begin)), after(14), Step::Wait),
            ("another's who is gone", Some(observed("b", begin)), after(15), Step::Take),
        ] {
            assert_eq!(step("a", seen.as_ref(), now), expected, "case: {case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_ends_before_others_may_begin() {
        let client = crate::test_client::answering(|_| crate::test_client::never());
        let (mut candidate, mut leadership) = Candidate::new(client, "mesh", "a".to_owned());
        assert!(!leadership.is_leading());
        candidate.begin(Instant::now());
        let term = leadership.term().await.unwrap();
        assert!(leadership.is_leading());
        let drain = CancellationToken::new();
        let begun = Instant::now();
        tokio::select! {
            () = candidate.run(drain) => panic!("the election goes on"),
            () = term.over() => {}
        }
        assert!(begun.elapsed() >= RENEW_DEADLINE - RETRY && begun.elapsed() <= RENEW_DEADLINE);
        assert!(!leadership.is_leading());
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_holders_is_counted() {
        let client = crate::test_client::answering(|_| crate::test_client::never());
        let (candidate, _leadership) = Candidate::new(client, "mesh", "a".to_owned());
        let first = candidate.lease(None, now_micro());
        let again = candidate.lease(Some(&first), now_micro());
        let transitions = |lease: &Lease| lease.spec.as_ref().unwrap().lease_transitions.unwrap();
        assert_eq!((transitions(&first), transitions(&again)), (0, 0));
        let others = Lease::clone(&observed("b", Instant::now()).lease);
        assert_eq!(transitions(&candidate.lease(Some(&others), now_micro())), 1);
    }
}
