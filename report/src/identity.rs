//! Trust anchors, issuer and rotation for machines: the JSON of `meshctl identity -o json`. Its fields are
//! stable.

use heddle_proto::admin;
use schemars::JsonSchema;
use serde::Serialize;

use crate::merge;

/// What the mesh's identities rest on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct IdentityReport {
    /// Of all identities.
    pub trust_domain: String,
    /// Where the keys are kept.
    pub kept_in: String,
    /// Whom everybody trusts; the current one first.
    pub anchors: Vec<Anchor>,
    /// Who signs.
    pub issuer: Certificate,
    /// How long a certificate lives.
    pub leaf_lifetime_seconds: u64,
    /// What is under way; null: nothing.
    pub rotation: Option<Rotation>,
    /// What ended last; null: nothing so far.
    pub last_rotation: Option<EndedRotation>,
    /// What the proxies go by.
    pub proxies: ProxyCounts,
    /// Certificates issued since the control planes started.
    pub certificates_issued: u64,
    /// Requests refused since then.
    pub certificates_refused: u64,
    /// Namespaces in which the trust anchors cannot be kept, each with the reason.
    pub lacking_anchors: Vec<String>,
    /// Who was asked.
    pub control_planes: Vec<ControlPlane>,
}

/// A certificate of the authority's.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Certificate {
    /// SHA-256, in hexadecimal digits.
    pub fingerprint: String,
    /// For people.
    pub subject: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// One trust anchor.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Anchor {
    /// `current`, `next` or `other`.
    pub role: &'static str,
    /// Whether its key is kept with it.
    pub has_key: bool,
    /// Itself.
    #[serde(flatten)]
    pub certificate: Certificate,
}

/// The steps of a rotation, in order; one of the issuer begins with the second.
pub const STEPS: [&str; 3] = ["announced", "switched", "turning-over"];

/// A rotation that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rotation {
    /// `root` or `issuer`.
    pub kind: &'static str,
    /// `announced`, `switched` or `turning-over`.
    pub step: &'static str,
    /// Seconds since 1970.
    pub started: i64,
    /// When the step began.
    pub since: i64,
    /// What it waits for, in words.
    pub waiting_for: String,
    /// Pods whose proxies are not waited for, as `namespace/name`.
    pub without: Vec<String>,
}

/// A rotation that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EndedRotation {
    /// `root` or `issuer`.
    pub kind: &'static str,
    /// Seconds since 1970.
    pub started: i64,
    /// Seconds since 1970.
    pub ended: i64,
}

/// What connected proxies go by, as they told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProxyCounts {
    /// All of them.
    pub connected: usize,
    /// Hold the trust bundle of the moment.
    pub current_bundle: usize,
    /// Have a certificate of the present issuer.
    pub current_issuer: usize,
    /// Have one of an earlier issuer.
    pub other_issuer: usize,
    /// Told nothing so far.
    pub unknown: usize,
}

/// One control plane.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ControlPlane {
    /// Its pod; empty for a local mesh.
    pub pod: String,
    /// Whether it is the one that rotates.
    pub leads: bool,
    /// Why what is kept is not what it uses; empty: it is.
    pub problem: String,
    /// Of the issuer that it signs with.
    pub issuer_fingerprint: String,
}

impl IdentityReport {
    /// What several control planes say together. The one that leads knows best what is under way.
    pub fn new(answers: Vec<(String, admin::IdentityStatus)>) -> Self {
        let control_planes = answers.iter().map(|(pod, said)| ControlPlane {
            pod: pod.clone(),
            leads: said.leads,
            problem: said.problem.clone(),
            issuer_fingerprint: said
                .issuer
                .as_ref()
                .map(|issuer| issuer.fingerprint.clone())
                .unwrap_or_default(),
        });
        let control_planes = control_planes.collect();
        let all = answers.iter().flat_map(|(_, said)| said.proxies.iter().cloned());
        let proxies = count(&merge::proxies(all));
        let sum = |field: fn(&admin::IdentityStatus) -> u64| {
            answers.iter().map(|(_, said)| field(said)).sum()
        };
        let certificates_issued = sum(|said| said.certificates_issued);
        let certificates_refused = sum(|said| said.certificates_refused);
        let leader = answers.iter().position(|(_, said)| said.leads).unwrap_or(0);
        let said = answers.into_iter().nth(leader).map(|(_, said)| said).unwrap_or_default();
        Self {
            trust_domain: said.trust_domain,
            kept_in: said.kept_in,
            anchors: said.anchors.into_iter().map(Anchor::from).collect(),
            issuer: said.issuer.map(Certificate::from).unwrap_or_default(),
            leaf_lifetime_seconds: said.leaf_lifetime_seconds,
            rotation: said.rotation.map(Rotation::from),
            last_rotation: said.last_rotation.map(EndedRotation::from),
            proxies,
            certificates_issued,
            certificates_refused,
            lacking_anchors: said.lacking_anchors,
            control_planes,
        }
    }

    /// Whether somebody should look: something kept is not used, or about to expire.
    pub fn is_troubled(&self, now: i64) -> bool {
        let soon = |certificate: &Certificate| certificate.not_after - now < SOON_SECONDS;
        self.control_planes.iter().any(|one| !one.problem.is_empty())
            || !self.lacking_anchors.is_empty()
            || self
                .anchors
                .iter()
                .any(|anchor| anchor.role == "current" && soon(&anchor.certificate))
            || soon(&self.issuer)
    }
}

fn count(proxies: &[admin::Proxy]) -> ProxyCounts {
    let mut counts = ProxyCounts::default();
    for proxy in proxies.iter().filter(|proxy| proxy.connected) {
        counts.connected += 1;
        let Some(identity) = &proxy.identity else {
            counts.unknown += 1;
            continue;
        };
        counts.current_bundle += usize::from(identity.current_bundle);
        counts.current_issuer += usize::from(identity.current_issuer);
        counts.other_issuer += usize::from(!identity.current_issuer);
    }
    counts
}

impl From<admin::Certificate> for Certificate {
    fn from(certificate: admin::Certificate) -> Self {
        let admin::Certificate { fingerprint, subject, not_before, not_after } = certificate;
        Self { fingerprint, subject, not_before, not_after }
    }
}

impl From<admin::Anchor> for Anchor {
    fn from(anchor: admin::Anchor) -> Self {
        use admin::anchor::Role;
        let role = match anchor.role() {
            Role::Current => "current",
            Role::Next => "next",
            Role::Other | Role::Unspecified => "other",
        };
        let certificate = anchor.certificate.map(Certificate::from).unwrap_or_default();
        Self { role, has_key: anchor.has_key, certificate }
    }
}

fn kind(kind: admin::RotationKind) -> &'static str {
    match kind {
        admin::RotationKind::Root => "root",
        admin::RotationKind::Issuer => "issuer",
        admin::RotationKind::Unspecified => "unknown",
    }
}

impl From<admin::Rotation> for Rotation {
    fn from(rotation: admin::Rotation) -> Self {
        use admin::rotation::Step;
        let step = match rotation.step() {
            Step::Announced => "announced",
            Step::Switched => "switched",
            Step::TurningOver => "turning-over",
            Step::Unspecified => "unknown",
        };
        let kind = kind(rotation.kind());
        let admin::Rotation { started, since, waiting_for, without, .. } = rotation;
        Self { kind, step, started, since, waiting_for, without }
    }
}

impl From<admin::EndedRotation> for EndedRotation {
    fn from(rotation: admin::EndedRotation) -> Self {
        let kind = kind(rotation.kind());
        Self { kind, started: rotation.started, ended: rotation.ended }
    }
}

/// An issuer is rotated at half of its life, and an anchor well before its end.
const SOON_SECONDS: i64 = 30 * 86_400;
