//! How far a rotation is, and whether its next step may be taken. Pure; the steps themselves are in the tls
//! crate, and they are taken by `keeper.rs`.
//!
//! A trust anchor: announced (in the bundle) → every connected proxy has acknowledged the bundle → the issuer
//! is a new one, below it → every control plane uses it → certificates of the issuer of before have run out →
//! the anchor of before is dropped. An issuer alone skips what is about the bundle.

use std::fmt;
use std::time::{Duration, SystemTime};

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
    /// Certificates that were issued before.
    Expiry(Duration),
    /// Proxies that hold on to one.
    Renewals(Several, usize),
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
            Some(left) => Move::Wait(Waiting::Expiry(left)),
            None => Move::End,
        },
    }
}

/// What is not as it should be for the next step, time apart.
pub fn outstanding(step: Step, facts: &Facts) -> Option<Waiting> {
    let mut connected = 0;
    let mut reports = Vec::new();
    for replica in &facts.replicas {
        let Some(report) = &replica.report else {
            return Some(Waiting::Report(replica.name.clone()));
        };
        if report.bundle != facts.bundle.to_string() {
            return Some(Waiting::Bundle(replica.name.clone()));
        }
        if report.issuer != facts.issuer.to_string() {
            return Some(Waiting::Issuer(replica.name.clone()));
        }
        connected += report.connected;
        reports.push(report);
    }
    let all = |pick: fn(&Report) -> &Several| {
        let count: usize = reports.iter().map(|report| pick(report).count).sum();
        let names = reports.iter().flat_map(|report| pick(report).names.iter().cloned());
        (count > 0).then(|| Several { count, names: names.take(NAMES_LIMIT).collect() })
    };
    match step {
        Step::Announced if !facts.anchors_published => Some(Waiting::TrustAnchors),
        Step::Announced => all(|report| &report.unacknowledged)
            .map(|proxies| Waiting::Acknowledgements(proxies, connected)),
        Step::Switched => None,
        // While certificates run out they are renewed; only who holds on is worth a word.
        Step::TurningOver => all(|report| &report.earlier_issuer)
            .map(|proxies| Waiting::Renewals(proxies, connected)),
    }
}

/// What is left until no certificate can be valid that the issuer of before has signed.
fn expiry(rotation: &Rotation, facts: &Facts) -> Option<Duration> {
    let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(rotation.since))?;
    let end = since.checked_add(facts.leaf_lifetime)?.checked_add(MARGIN)?;
    end.duration_since(facts.now).ok().filter(|left| !left.is_zero())
}

impl Rotation {
    /// One that begins with this step.
    pub fn begun(kind: Kind, now: SystemTime) -> Self {
        let now = seconds(now);
        let step = match kind {
            Kind::Root => Step::Announced,
            Kind::Issuer => Step::Switched,
        };
        Self { kind, step, started: now, since: now }
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
            Self::Report(name) => write!(f, "control plane {name} to tell what its proxies hold"),
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
            Self::Expiry(left) => {
                write!(f, "{} until certificates of before have run out", whole(left))
            }
            Self::Renewals(proxies, of) => {
                write!(f, "{} of {of} proxies to renew their certificate: {proxies}", proxies.count)
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
