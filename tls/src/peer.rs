//! Who is at the other end of a connection. How that is proven is in `verify.rs`.

use std::fmt;

use heddle_model::identity::{InvalidIdentity, PodUid, SpiffeId, TrustDomain};

/// A workload as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIdentity {
    /// The certificate's one URI name.
    pub identity: SpiffeId,
    /// The pod that the certificate's one DNS name binds it to.
    pub pod_uid: PodUid,
}

impl PeerIdentity {
    /// The control plane itself, whom every proxy knows by this name alone.
    ///
    /// Fails for no trust domain; the error is that of the parsers it goes through.
    pub fn control_plane(trust_domain: &TrustDomain) -> Result<Self, InvalidIdentity> {
        Ok(Self {
            identity: SpiffeId::new(
                trust_domain.clone(),
                CONTROL_PLANE_NAMESPACE,
                CONTROL_PLANE_SERVICE_ACCOUNT,
            )?,
            pod_uid: CONTROL_PLANE_POD_UID.parse()?,
        })
    }

    /// The DNS name that a certificate for this workload carries.
    pub fn dns_name(&self) -> String {
        self.pod_uid.dns_name(self.identity.trust_domain())
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in pod {}", self.identity, self.pod_uid)
    }
}

/// The namespace in the control plane's identity.
pub const CONTROL_PLANE_NAMESPACE: &str = "heddle-system";
/// The service account in the control plane's identity.
pub const CONTROL_PLANE_SERVICE_ACCOUNT: &str = "heddle-control-plane";
/// All replicas of the control plane share one name, so that a proxy need not know their pods.
pub const CONTROL_PLANE_POD_UID: &str = "control-plane";
