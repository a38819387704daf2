//! Who asks for a certificate: what any proof comes down to. Join tokens are in `join_tokens.rs`; on
//! Kubernetes it will be a TokenReview.

use std::error::Error;

use heddle_model::identity::{PodUid, SpiffeId};

/// Tells by a token which workload asks.
#[tonic::async_trait]
pub trait Attest: Send + Sync + 'static {
    /// Which workload asks, if that is proven and its pod is live.
    async fn attest(&self, token: &str) -> Result<Attested, NotAttested>;
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
