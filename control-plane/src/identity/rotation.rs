//! How far a rotation is, and whether its next step may be taken. Pure; the steps themselves are in the tls
//! crate, and they are taken by `custodian.rs`.
//!
//! A trust anchor: announced (in the bundle) → every connected proxy has acknowledged the bundle → the issuer
//! is a new one, below it → every control plane uses it → certificates of the issuer of before have run out →
//! the anchor of before is dropped. An issuer alone skips what is about the bundle.
//!
//! What a proxy says of itself is waited for only while nothing else can tell, and somebody may leave it out:
//! the end follows from what this mesh has signed, and from the clock.

use std::fmt;
use std::time::{Duration, SystemTime};

use heddle_model::identity::PodUid;
use heddle_runtime::duration::Text;
use heddle_tls::digest::Digest;
use serde::{Deserialize, Serialize};

/// What is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The trust anchor, and the issuer with it.
    Root,
    /// The issuer.
    Issuer,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The new trust anchor is in the bundle.
    Announced,
    /// The issuer is a new one.
    Switched,
    /// Every control plane uses it.
    TurningOver,
}

/// A rotation that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// What is replaced.
    pub kind: Kind,
    /// What has been done so far.
    pub step: Step,
    /// In seconds since 1970.
    pub started: u64,
    /// When this step was done, in seconds since 1970.
    pub since: u64,
    /// How long the longest certificate lives that the issuer of before may have signed, in seconds; `None`:
    /// the issuer is that of before, or it was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_leaf: Option<u64>,
    /// Whose acknowledgement is not waited for, since somebody said so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<LeftOut>,
}

/// A pod whose proxy is not waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// The pod; another one of its name is waited for.
    pub pod_uid: String,
    /// Its namespace and name, for people.
    pub name: String,
}

/// A rotation that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// What was replaced.
    pub kind: Kind,
    /// In seconds since 1970.
    pub started: u64,
    /// In seconds since 1970.
    pub ended: u64,
}

/// What is kept of rotations, so that whoever leads next goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotations {
    /// The one under way.
    #[serde(default)]
    pub current: Option<Rotation>,
    /// The one that ended last.
    #[serde(default)]
    pub last: Option<Ended>,
    /// How long certificates of the issuer of the moment live at most, in seconds. It is kept before any
    /// lives as long, so that whoever lowers the setting does not make those of before forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_leaf: Option<u64>,
}

/// What one control plane knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Of the trust bundle that it hands out, in hexadecimal digits.
    pub bundle: String,
    /// Of the issuer that it signs with, in hexadecimal digits.
    pub issuer: String,
    /// How many proxies are connected to it.
    pub connected: usize,
    /// Those of them that did not acknowledge that bundle.
    pub unacknowledged: Several,
    /// Those of them whose certificate is of another issuer.
    pub earlier_issuer: Several,
}

/// How many, and a few of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Several {
    /// How many.
    pub count: usize,
    /// A few of them.
    pub names: Vec<String>,
}

/// One control plane, and what it told lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its pod.
    pub name: String,
    /// `None`: nothing.
    pub report: Option<Report>,
}

/// What the decision is made from.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Of the trust bundle of the moment.
    pub bundle: Digest,
    /// Of the issuer of the moment.
    pub issuer: Digest,
    /// New proxies are given that bundle, in every namespace.
    pub anchors_published: bool,
    /// All control planes that serve proxies.
    pub replicas: Vec<Replica>,
    /// How long certificates of workloads live.
    pub leaf_lifetime: Duration,
    /// The wall clock.
    pub now: SystemTime,
    /// For how long everything that this step waits for has been as it should.
    pub calm_for: Duration,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing, before this has happened.
    Wait(Waiting),
    /// Make the new issuer.
    Switch,
    /// Begin to wait for certificates to run out.
    TurnOver,
    /// Drop the anchor of before, if there is one.
    End,
}

/// What a step waits for; as text, what is read after "waits for".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// One that did not tell what its proxies hold.
    Report(String),
    /// One that does not hand out the bundle of the moment.
    Bundle(String),
    /// One that does not sign with the issuer of the moment.
    Issuer(String),
    /// Where new proxies begin.
    TrustAnchors,
    /// Proxies that have to acknowledge the bundle.
    Acknowledgements(Several, usize),
    /// Proxies that are just now between two connections.
    Calm(Duration),
    /// Certificates that were issued before; and proxies that have not renewed theirs, of how many.
    Expiry(Duration, Several, usize),
}

/// Decides on the next move.
pub fn next(rotation: &Rotation, facts: &Facts) -> Move {
    if let Some(waiting) = outstanding(rotation.step, facts) {
        return Move::Wait(waiting);
    }
    match rotation.step {
        Step::Announced => match CALM.checked_sub(facts.calm_for) {
            Some(left) if !left.is_zero() => Move::Wait(Waiting::Calm(left)),
            Some(_) | None => Move::Switch,
        },
        Step::Switched => Move::TurnOver,
        Step::TurningOver => match expiry(rotation, facts) {
            Some(left) => {
                let (late, connected) = gathered(facts, |report| &report.earlier_issuer);
                Move::Wait(Waiting::Expiry(left, late, connected))
            }
            None => Move::End,
        },
    }
}

/// What is not as it should be for the next step, time apart.
pub fn outstanding(step: Step, facts: &Facts) -> Option<Waiting> {
    match step {
        Step::Announced => of_replicas(facts).or_else(|| {
            if !facts.anchors_published {
                return Some(Waiting::TrustAnchors);
            }
            let (proxies, connected) = gathered(facts, |report| &report.unacknowledged);
            (proxies.count > 0).then_some(Waiting::Acknowledgements(proxies, connected))
        }),
        Step::Switched => of_replicas(facts),
        // Every control plane has taken the new issuer, and one that starts anew finds no other. Whoever
        // still shows a certificate of the one of before, or says so, cannot when that has run out.
        Step::TurningOver => None,
    }
}

/// What is not as it should be with the control planes.
fn of_replicas(facts: &Facts) -> Option<Waiting> {
    let (bundle, issuer) = (facts.bundle.to_string(), facts.issuer.to_string());
    facts.replicas.iter().find_map(|replica| {
        let name = || replica.name.clone();
        match &replica.report {
            None => Some(Waiting::Report(name())),
            Some(report) if report.bundle != bundle => Some(Waiting::Bundle(name())),
            Some(report) if report.issuer != issuer => Some(Waiting::Issuer(name())),
            Some(_) => None,
        }
    })
}

/// Some proxies of all control planes, and how many are connected.
fn gathered(facts: &Facts, pick: fn(&Report) -> &Several) -> (Several, usize) {
    let reports = || facts.replicas.iter().filter_map(|replica| replica.report.as_ref());
    let names = reports().flat_map(|report| pick(report).names.iter().cloned());
    let names = names.take(NAMES_LIMIT).collect();
    let count = reports().map(|report| pick(report).count).sum();
    (Several { count, names }, reports().map(|report| report.connected).sum())
}

/// What is left until no certificate can be valid that the issuer of before has signed.
fn expiry(rotation: &Rotation, facts: &Facts) -> Option<Duration> {
    let longest = rotation.longest_leaf.map_or(facts.leaf_lifetime, Duration::from_secs);
    let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(rotation.since))?;
    let end = since.checked_add(longest)?.checked_add(MARGIN)?;
    end.duration_since(facts.now).ok().filter(|left| !left.is_zero())
}

impl Rotation {
    /// One that begins with its first step; `longest_leaf` is that of the issuer of before.
    pub fn begun(kind: Kind, longest_leaf: Option<u64>, now: SystemTime) -> Self {
        let now = seconds(now);
        let (step, longest_leaf) = match kind {
            // The issuer of before signs on.
            Kind::Root => (Step::Announced, None),
            Kind::Issuer => (Step::Switched, longest_leaf),
        };
        Self { kind, step, started: now, since: now, longest_leaf, without: Vec::new() }
    }

    /// Whether this pod's proxy is not waited for.
    pub fn leaves_out(&self, pod_uid: &PodUid) -> bool {
        self.without.iter().any(|left_out| left_out.pod_uid == pod_uid.as_str())
    }

    /// How long it has been at its step.
    pub fn lasts(&self, now: SystemTime) -> Duration {
        Duration::from_secs(seconds(now).saturating_sub(self.since))
    }

    /// The same one, a step on.
    #[must_use]
    pub fn at(&self, step: Step, now: SystemTime) -> Self {
        Self { step, since: seconds(now), ..self.clone() }
    }

    /// The same one, done.
    pub fn ended(&self, now: SystemTime) -> Ended {
        Ended { kind: self.kind, started: self.started, ended: seconds(now) }
    }
}

/// Since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Several {
    /// Takes note of one more.
    pub fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.names.len() < NAMES_LIMIT {
            self.names.push(name());
        }
    }
}

impl fmt::Display for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(", "))?;
        if self.count > self.names.len() { f.write_str(", ...") } else { Ok(()) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Issuer => "issuer",
        })
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |time: &Duration| Text(Duration::from_secs(time.as_secs().max(1)));
        match self {
            Self::Report(name) => write!(
                f,
                "control plane {name} to tell what its proxies hold (it has told nothing for a minute, \
                 or its clock differs)"
            ),
            Self::Bundle(name) => write!(f, "control plane {name} to hand out the trust anchors"),
            Self::Issuer(name) => write!(f, "control plane {name} to use the issuer"),
            Self::TrustAnchors => f.write_str("the trust anchors to be written to every namespace"),
            Self::Acknowledgements(proxies, of) => {
                let count = proxies.count;
                write!(f, "{count} of {of} proxies to acknowledge the trust anchors: {proxies}")
            }
            Self::Calm(left) => {
                write!(f, "{} in which every proxy has them", whole(left))
            }
            Self::Expiry(left, late, of) => {
                write!(f, "{} until certificates of before have run out", whole(left))?;
                match late.count {
                    0 => Ok(()),
                    count => write!(f, "; {count} of {of} proxies have not renewed theirs: {late}"),
                }
            }
        }
    }
}

/// Longer than a proxy is away between two connections; see proxy/src/discovery/client.rs.
const CALM: Duration = Duration::from_secs(15);
/// For requests that were under way when the last control plane switched.
const MARGIN: Duration = Duration::from_secs(10);
/// Enough to begin to look.
const NAMES_LIMIT: usize = 5;

#[cfg(test)]
mod tests;
