//! Who asks for a certificate: what any proof comes down to. Join tokens are in `join_tokens.rs`, tokens
//! of Kubernetes in `token_review.rs`.

use std::error::Error;
use std::net::IpAddr;

use heddle_model::identity::{PodUid, SpiffeId};

/// Tells by a token which workload asks.
#[tonic::async_trait]
pub trait Attest: Send + Sync + 'static {
    /// Which workload asks, if that is proven, its pod is live, and the pod has the address that the
    /// request comes `from`; a pod whose addresses are not known yet has to ask again.
    async fn attest(&self, token: &str, from: IpAddr) -> Result<Attested, NotAttested>;
}

/// A workload that proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// Its service account's identity.
    pub identity: SpiffeId,
    /// Its pod.
    pub pod_uid: PodUid,
}

/// Why nothing was proven.
#[derive(Debug, thiserror::Error)]
pub enum NotAttested {
    /// Nobody was given this token.
    #[error("the token is not known")]
    UnknownToken,
    /// It does not prove what it should.
    #[error("the token is refused: {why}")]
    RefusedToken {
        /// What it lacks.
        why: String,
    },
    /// Its workload is gone, or not there yet.
    #[error(
        "there is no live pod {pod_uid} in namespace {namespace} with service account {service_account}"
    )]
    NoLivePod {
        /// As the token says.
        namespace: String,
        /// As the token says.
        service_account: String,
        /// As the token says.
        pod_uid: PodUid,
    },
    /// Somebody else has its token.
    #[error("pod {pod_uid} does not have the address {from} that its token was used from")]
    OtherAddress {
        /// As the token says.
        pod_uid: PodUid,
        /// Where the request came from.
        from: IpAddr,
    },
    /// One caller asks too much at once.
    #[error("too many requests for certificates come from {from} at once")]
    TooMany {
        /// Where they come from.
        from: IpAddr,
    },
    /// It cannot be told now.
    #[error("workloads cannot be attested at present: {what}")]
    Unavailable {
        /// What is amiss.
        what: &'static str,
        /// As the system says.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}
