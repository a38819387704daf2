//! The service `heddle.identity.v1`: certificates for workloads that prove who they are (`attest.rs` and the
//! files beside it), and the trust bundle. The authority itself is kept in `custodian.rs`.

use std::net::IpAddr;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use heddle_proto::identity as wire;
use heddle_proto::identity::identity_server::{Identity, IdentityServer};
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_runtime::throttle::Throttle;
use heddle_tls::authority::IssueError;
use heddle_tls::bundle::Bundle;
use heddle_tls::digest::Digest;
use heddle_tls::peer::PeerIdentity;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{error, info, warn};

use crate::identity::attest::{Attest, Attested, NotAttested};
use crate::identity::custodian::Authorities;
use crate::identity::holdings::{Holding, Holdings};
use crate::metrics::{Metrics, Refusal};
use crate::server::Caller;

pub mod anchors;
pub mod attest;
pub mod custodian;
pub mod gauges;
pub mod holdings;
pub mod in_cluster;
pub mod join_tokens;
pub mod kept;
pub mod live_pod;
pub mod own;
pub mod replicas;
pub mod rotation;
pub mod store;
pub mod token_review;

/// The service.
pub struct IdentityService {
    /// Proves who asks.
    pub attest: Box<dyn Attest>,
    /// Signs.
    pub authorities: Authorities,
    /// What proxies tell of the certificates that they go by.
    pub holdings: Holdings,
    /// What is counted.
    pub metrics: Metrics,
    /// Of refused requests, which anybody can make.
    pub warnings: Throttle,
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
        from: IpAddr,
    ) -> Result<wire::CertifyResponse, Refused> {
        let attested = self.attest.attest(&request.token, from).await;
        let attested = attested.map_err(|error| self.not_attested(&error))?;
        let authority = self.authorities.current();
        refuse_our_own(&attested)?;
        let chain_der = authority
            .issue(
                &request.csr_der,
                &attested.identity,
                &attested.pod_uid,
                self.authorities.leaf_lifetime(),
                clock::now(),
            )
            .map_err(|error| not_issued(&error))?;
        info!(identity = %attested.identity, src = %attested.pod_uid, "certificate issued");
        let trust_bundle = Some(to_wire(authority.bundle()));
        Ok(wire::CertifyResponse { chain_der, trust_bundle })
    }

    fn not_attested(&self, error: &NotAttested) -> Refused {
        let text = || error.to_string();
        let (reason, status) = match error {
            NotAttested::UnknownToken => (Refusal::UnknownToken, Status::unauthenticated(text())),
            NotAttested::RefusedToken { .. } => {
                (Refusal::RefusedToken, Status::unauthenticated(text()))
            }
            NotAttested::NoLivePod { .. } => (Refusal::NoLivePod, Status::unauthenticated(text())),
            NotAttested::OtherAddress { .. } => {
                (Refusal::OtherAddress, Status::unauthenticated(text()))
            }
            NotAttested::TooMany { .. } => (Refusal::TooMany, Status::resource_exhausted(text())),
            NotAttested::Unavailable { .. } => {
                if self.warnings.is_due() {
                    warn!(error = %Chain(error), "workloads cannot be attested");
                }
                (Refusal::Unavailable, Status::unavailable(text()))
            }
        };
        Refused { reason, status }
    }
}

/// Why a request was refused: for whoever counts, and for whoever asked.
struct Refused {
    reason: Refusal,
    status: Status,
}

/// Whoever had a certificate of the control plane's could tell every proxy anything.
fn refuse_our_own(attested: &Attested) -> Result<(), Refused> {
    let own = PeerIdentity::control_plane(attested.identity.trust_domain());
    match own {
        Ok(own) if own.identity != attested.identity && own.pod_uid != attested.pod_uid => Ok(()),
        Ok(_) | Err(_) => Err(Refused {
            reason: Refusal::OwnName,
            status: Status::permission_denied("this is the name of the control plane itself"),
        }),
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
        let caller = request.extensions().get::<Caller>();
        let from = caller.map(|caller| caller.address);
        let from = from.ok_or_else(|| Status::internal("it is not known who calls"))?;
        let result = self.certify(request.into_inner(), from).await;
        match result {
            Ok(response) => {
                self.metrics.certificates_issued.inc();
                Ok(Response::new(response))
            }
            Err(Refused { reason, status }) => {
                self.metrics.certificate_refused(reason);
                if self.warnings.is_due() {
                    warn!(src = %from, error = status.message(), "certificate refused");
                }
                Err(status)
            }
        }
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

    async fn acknowledge(
        &self,
        request: Request<wire::AcknowledgeRequest>,
    ) -> Result<Response<wire::AcknowledgeResponse>, Status> {
        let caller = request.extensions().get::<Caller>();
        let peer = caller.and_then(|caller| caller.peer.clone());
        let peer =
            peer.ok_or_else(|| Status::unauthenticated("a certificate of the mesh is needed"))?;
        let holding = holding(request.get_ref())?;
        self.holdings.record(peer.pod_uid, holding);
        Ok(Response::new(wire::AcknowledgeResponse {}))
    }
}

fn holding(told: &wire::AcknowledgeRequest) -> Result<Holding, Status> {
    let digest = |bytes: &[u8]| {
        let digest = Digest::from_bytes(bytes);
        digest.ok_or_else(|| Status::invalid_argument("a digest of SHA-256 has 32 bytes"))
    };
    let issuer = match told.issuer_digest.as_slice() {
        [] => None,
        bytes => Some(digest(bytes)?),
    };
    let bundle = digest(&told.trust_bundle_digest)?;
    Ok(Holding { bundle, issuer, not_after: told.not_after })
}

fn to_wire(bundle: &Bundle) -> wire::TrustBundle {
    wire::TrustBundle {
        trust_domain: bundle.trust_domain().to_string(),
        anchors_der: bundle.anchors_der().map(<[u8]>::to_vec).collect(),
    }
}

fn not_issued(error: &IssueError) -> Refused {
    let (reason, status) = match error {
        IssueError::Request(_) => {
            (Refusal::BadRequest, Status::invalid_argument(Chain(error).to_string()))
        }
        IssueError::WrongTrustDomain { .. }
        | IssueError::ShortLifetime { .. }
        | IssueError::IssuerExpired
        | IssueError::Authority(_) => {
            error!(error = %Chain(error), "certificate cannot be issued");
            let said = "the certificate cannot be issued; the control plane's log says why";
            (Refusal::NotIssued, Status::internal(said))
        }
    };
    Refused { reason, status }
}

/// A token and a request with one key.
const MESSAGE_LIMIT_BYTES: usize = 64 << 10;

impl std::fmt::Debug for IdentityService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityService").finish_non_exhaustive()
    }
}
