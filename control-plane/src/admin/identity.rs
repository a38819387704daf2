//! What the admin service says of trust anchors, issuer and rotation.

use std::sync::Arc;
use std::time::SystemTime;

use heddle_proto::admin as wire;
use heddle_runtime::logging::Chain;
use heddle_tls::authority::Authority;
use heddle_tls::authority::description::{self, Description};
use heddle_tls::authority::rotation::Role;
use tonic::Status;

use crate::admin::AdminService;
use crate::identity::custodian::NotRotated;
use crate::identity::holdings::Holding;
use crate::identity::rotation::{Ended, Kind, LeftOut, Rotation, Step};
use crate::translate::pod::Pod;

impl AdminService {
    /// Everything about identities, as of now.
    pub(crate) fn identity_status(&self) -> wire::IdentityStatus {
        let authority = self.authorities.current();
        let view = self.identity.borrow().clone();
        let snapshot = self.snapshots.borrow().clone();
        let connected = self.proxies.all().into_iter().filter(|(_, record)| record.connected);
        let waiting_for = view.waiting_for;
        wire::IdentityStatus {
            trust_domain: authority.trust_domain().to_string(),
            anchors: authority
                .bundle()
                .anchors_der()
                .map(|anchor| self::anchor(anchor, &authority))
                .collect(),
            issuer: issuer(&authority),
            leaf_lifetime_seconds: self.leaf_lifetime.as_secs(),
            rotation: view.rotations.current.map(|current| rotation(&current, waiting_for)),
            last_rotation: view.rotations.last.map(|last| ended(&last)),
            proxies: connected
                .map(|(uid, record)| self.proxy(&uid, &record, snapshot.as_ref()))
                .collect(),
            certificates_issued: self.metrics.certificates_issued.get(),
            certificates_refused: self.metrics.certificates_refused(),
            problem: view.problem,
            kept_in: view.kept_in,
            leads: view.leads,
            lacking_anchors: view.lacking_anchors,
        }
    }

    /// The pods of these names, or which of them are none that have a proxy.
    pub(super) fn meshed_pods(&self, names: &[String]) -> Result<Vec<LeftOut>, Status> {
        let snapshot = self.snapshots.borrow().clone();
        let snapshot = snapshot
            .ok_or_else(|| Status::unavailable("the configuration has not been read yet"))?;
        if names.is_empty() {
            return Err(Status::invalid_argument("which pods are to be left out?"));
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            let is_it = |pod: &&Arc<Pod>| {
                let reference = &pod.reference;
                pod.meshed && name.split_once('/') == Some((&reference.namespace, &reference.name))
            };
            match snapshot.contents.pods.values().find(is_it) {
                Some(pod) => {
                    found.push(LeftOut { pod_uid: pod.uid.to_string(), name: name.clone() });
                }
                None => missing.push(name.as_str()),
            }
        }
        match missing.as_slice() {
            [] => Ok(found),
            missing => {
                let names = missing.join(", ");
                Err(Status::not_found(format!(
                    "there is no pod with a proxy of this name: {names}"
                )))
            }
        }
    }
}

/// Below whom certificates are.
pub(super) fn issuer(authority: &Authority) -> Option<wire::Certificate> {
    description::describe(authority.issuer_der()).map(certificate)
}

/// What a proxy told, beside what counts now.
pub(super) fn held(holding: Option<Holding>, authority: &Authority) -> Option<wire::HeldIdentity> {
    let Holding { bundle, issuer, not_after } = holding?;
    Some(wire::HeldIdentity {
        current_bundle: bundle == authority.bundle().digest(),
        current_issuer: issuer == Some(authority.issuer_digest()),
        not_after,
    })
}

/// What is to be rotated.
pub(super) fn kind(kind: wire::RotationKind) -> Result<Kind, Status> {
    match kind {
        wire::RotationKind::Root => Ok(Kind::Root),
        wire::RotationKind::Issuer => Ok(Kind::Issuer),
        wire::RotationKind::Unspecified => {
            Err(Status::invalid_argument("what is to be rotated: the root or the issuer?"))
        }
    }
}

/// Why no rotation was begun, for whoever asked for it.
pub(super) fn not_rotated(error: &NotRotated) -> Status {
    let text = Chain(error).to_string();
    match error {
        NotRotated::NotBegun(_) | NotRotated::Conflict => Status::failed_precondition(text),
        NotRotated::Store(_) => Status::unavailable(text),
        NotRotated::Own(_) => Status::internal(text),
    }
}

/// Since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn anchor(der: &[u8], authority: &Authority) -> wire::Anchor {
    let (role, has_key) = authority.role_of(der);
    let role = match role {
        Role::Current => wire::anchor::Role::Current,
        Role::Next => wire::anchor::Role::Next,
        Role::Other => wire::anchor::Role::Other,
    };
    let certificate = description::describe(der).map(certificate);
    wire::Anchor { role: role.into(), certificate, has_key }
}

fn certificate(description: Description) -> wire::Certificate {
    let Description { fingerprint, subject, not_before, not_after } = description;
    wire::Certificate {
        fingerprint: fingerprint.to_string(),
        subject,
        not_before: seconds(not_before),
        not_after: seconds(not_after),
    }
}

fn kind_of(kind: Kind) -> i32 {
    match kind {
        Kind::Root => wire::RotationKind::Root,
        Kind::Issuer => wire::RotationKind::Issuer,
    }
    .into()
}

fn rotation(rotation: &Rotation, waiting_for: String) -> wire::Rotation {
    let step = match rotation.step {
        Step::Announced => wire::rotation::Step::Announced,
        Step::Switched => wire::rotation::Step::Switched,
        Step::TurningOver => wire::rotation::Step::TurningOver,
    };
    wire::Rotation {
        kind: kind_of(rotation.kind),
        step: step.into(),
        started: signed(rotation.started),
        since: signed(rotation.since),
        waiting_for,
        without: rotation.without.iter().map(|pod| pod.name.clone()).collect(),
    }
}

fn ended(ended: &Ended) -> wire::EndedRotation {
    let kind = kind_of(ended.kind);
    wire::EndedRotation { kind, started: signed(ended.started), ended: signed(ended.ended) }
}
