//! The service `heddle.identity.v1`: certificates for workloads that prove who they are (`attest.rs`,
//! `join_tokens.rs`), and the trust bundle. The authority itself is kept in `keeper.rs`.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use heddle_proto::identity as wire;
use heddle_proto::identity::identity_server::{Identity, IdentityServer};
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_tls::authority::IssueError;
use heddle_tls::bundle::Bundle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{error, info, warn};

use crate::identity::attest::{Attest, NotAttested};
use crate::identity::keeper::Authorities;
use crate::metrics::Metrics;

pub mod attest;
pub mod join_tokens;
pub mod keeper;

/// The service.
pub struct IdentityService {
    /// Proves who asks.
    pub attest: Box<dyn Attest>,
    /// Signs.
    pub authorities: Authorities,
    /// Of the certificates it issues.
    pub leaf_lifetime: Duration,
    /// What is counted.
    pub metrics: Metrics,
    /// When streams end.
    pub drain: CancellationToken,
}

impl IdentityService {
    /// The service, ready to be served.
    pub fn server(self) -> IdentityServer<Self> {
        IdentityServer::new(self).max_decoding_message_size(MESSAGE_LIMIT_BYTES)
    }

    async fn certify(
        &self,
        request: wire::CertifyRequest,
    ) -> Result<wire::CertifyResponse, Status> {
        let attested = self.attest.attest(&request.token).await.map_err(not_attested)?;
        let authority = self.authorities.current();
        let chain_der = authority
            .issue(
                &request.csr_der,
                &attested.identity,
                &attested.pod_uid,
                self.leaf_lifetime,
                clock::now(),
            )
            .map_err(|error| not_issued(&error))?;
        info!(identity = %attested.identity, src = %attested.pod_uid, "certificate issued");
        let trust_bundle = Some(to_wire(authority.bundle()));
        Ok(wire::CertifyResponse { chain_der, trust_bundle })
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    type WatchTrustBundleStream =
        Pin<Box<dyn Stream<Item = Result<wire::TrustBundle, Status>> + Send>>;

    async fn certify(
        &self,
        request: Request<wire::CertifyRequest>,
    ) -> Result<Response<wire::CertifyResponse>, Status> {
        let result = self.certify(request.into_inner()).await;
        match &result {
            Ok(_) => self.metrics.certificates_issued.inc(),
            Err(status) => {
                warn!(error = status.message(), "certificate refused");
                self.metrics.certificates_refused.inc()
            }
        };
        result.map(Response::new)
    }

    async fn watch_trust_bundle(
        &self,
        _request: Request<wire::WatchTrustBundleRequest>,
    ) -> Result<Response<Self::WatchTrustBundleStream>, Status> {
        let watch = (self.authorities.clone(), None::<Bundle>);
        let drained = self.drain.clone().cancelled_owned();
        let bundles = futures_util::stream::unfold(watch, |(mut authorities, told)| async move {
            let bundle = authorities.bundle_other_than(told.as_ref()).await?;
            Some((Ok(to_wire(&bundle)), (authorities, Some(bundle))))
        });
        Ok(Response::new(bundles.take_until(drained).boxed()))
    }
}

fn to_wire(bundle: &Bundle) -> wire::TrustBundle {
    wire::TrustBundle {
        trust_domain: bundle.trust_domain().to_string(),
        anchors_der: bundle.anchors_der().map(<[u8]>::to_vec).collect(),
    }
}

fn not_attested(error: NotAttested) -> Status {
    match &error {
        NotAttested::UnknownToken | NotAttested::NoLivePod { .. } => {
            Status::unauthenticated(error.to_string())
        }
        NotAttested::Unavailable { .. } => {
            warn!(error = %Chain(&error), "workloads cannot be attested");
            Status::unavailable(error.to_string())
        }
    }
}

fn not_issued(error: &IssueError) -> Status {
    match error {
        IssueError::Request(_) => Status::invalid_argument(Chain(error).to_string()),
        IssueError::WrongTrustDomain { .. }
        | IssueError::ShortLifetime { .. }
        | IssueError::IssuerExpired
        | IssueError::Authority(_) => {
            error!(error = %Chain(error), "certificate cannot be issued");
            Status::internal("the certificate cannot be issued; the control plane's log says why")
        }
    }
}

/// A token and a request with one key.
const MESSAGE_LIMIT_BYTES: usize = 64 << 10;

impl std::fmt::Debug for IdentityService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityService").finish_non_exhaustive()
    }
}
