//! This proxy's certificate: asked for at the start, renewed at half life with a new key, never let go
//! while it is good. Also keeps the trust bundle current: what the control plane streams, and when there is
//! no way to it, what is in the file of trust anchors (`identity/anchors.rs`). What this proxy goes by is
//! told to the control plane (`identity/acknowledge.rs`). Handshakes are in the tls crate.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, SystemTimeError};

use heddle_model::identity::{InvalidIdentity, PodUid, TrustDomain};
use heddle_proto::identity as wire;
use heddle_proto::identity::identity_client::IdentityClient;
use heddle_runtime::backoff::Backoff;
use heddle_runtime::clock;
use heddle_runtime::duration::Text;
use heddle_runtime::logging::Chain;
use heddle_runtime::readiness::Readiness;
use heddle_tls::bundle::{Bundle, InvalidBundle};
use heddle_tls::certificate::{CertificateRequest, CertifiedLeaf, RequestError};
use heddle_tls::credentials::{self, Credentials, CredentialsError, CredentialsWriter};
use rand::Rng;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use crate::control_plane::{ConnectError, ControlPlane};
use crate::identity::metrics::{IdentityMetrics, Renewal};

mod acknowledge;
mod anchors;
pub mod metrics;

/// Where a certificate comes from, and whom it must be for.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Holds the token; read again for each request, since it may be rotated.
    pub token_file: PathBuf,
    /// Holds the trust anchors to begin with; read again when there is no way to the control plane, since
    /// they may have been rotated meanwhile.
    pub trust_anchors_file: PathBuf,
    /// The pod that the certificate must name.
    pub own: PodUid,
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
}

/// Keeps this process's credentials good.
pub struct CertificateClient {
    settings: IdentitySettings,
    control_plane: ControlPlane,
    writer: CredentialsWriter,
    /// Trusts the same anchors and never holds a certificate: whatever is wrong with ours, the token
    /// alone gets a new one.
    bare_writer: CredentialsWriter,
    bare: Credentials,
    metrics: IdentityMetrics,
    readiness: Readiness,
}

/// Why there is no new certificate. The one of before stays.
#[derive(Debug, thiserror::Error)]
enum CertifyError {
    #[error("cannot read the token from {file}")]
    Token {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot reach the control plane")]
    Connect(#[from] ConnectError),
    #[error("the control plane did not certify: {:?}: {}", .0.code(), .0.message())]
    Refused(tonic::Status),
    #[error("the control plane did not answer within {} s", CERTIFY_TIMEOUT.as_secs())]
    Timeout,
    #[error("the certificate cannot be used")]
    Certificate(#[from] RequestError),
    #[error("the certificate is for pod {found}, not {own}")]
    OtherPod { found: PodUid, own: PodUid },
    #[error("the certificate was not taken")]
    Credentials(#[from] Box<CredentialsError>),
    #[error("the trust bundle cannot be used")]
    Bundle(#[from] BundleError),
}

/// Why a trust bundle was not taken. The one of before stays.
#[derive(Debug, thiserror::Error)]
enum BundleError {
    #[error("its trust domain is no name")]
    TrustDomain(#[from] InvalidIdentity),
    #[error("its anchors cannot be used")]
    Anchors(#[from] InvalidBundle),
    #[error("it was not taken")]
    Credentials(#[from] Box<CredentialsError>),
}

impl CertificateClient {
    /// Trusts `bundle` to begin with. Sets the condition [`READY_CONDITION`].
    pub fn new(
        settings: IdentitySettings,
        control_plane: ControlPlane,
        bundle: Bundle,
        metrics: IdentityMetrics,
        readiness: Readiness,
    ) -> Result<(Self, Credentials), Box<CredentialsError>> {
        let (writer, credentials) = credentials::channel(settings.trust_domain.clone());
        let (bare_writer, bare) = credentials::channel(settings.trust_domain.clone());
        writer.set_bundle(bundle.clone()).map_err(Box::new)?;
        bare_writer.set_bundle(bundle).map_err(Box::new)?;
        let client =
            Self { settings, control_plane, writer, bare_writer, bare, metrics, readiness };
        Ok((client, credentials))
    }

    /// Certifies and watches the trust bundle until drained. The bundle is watched over whatever
    /// connection to the control plane is open.
    pub async fn run(self, connection: watch::Receiver<Option<Channel>>, drain: CancellationToken) {
        tokio::select! {
            () = Box::pin(self.keep_certified()) => {}
            () = Box::pin(self.keep_bundle(connection.clone())) => {}
            () = Box::pin(self.keep_acknowledged(connection)) => {}
            () = drain.cancelled() => {}
        }
    }

    async fn keep_certified(&self) {
        let mut held_until = None;
        let mut backoff = retries(None);
        loop {
            let outcome = self.certify().await;
            let good = outcome.is_ok();
            let delay = match outcome {
                Ok(leaf) => {
                    self.metrics.renewed(Renewal::Succeeded);
                    self.metrics.set_expiry(leaf.not_after());
                    self.readiness.set_ready(READY_CONDITION);
                    held_until = Some(leaf.not_after());
                    backoff = retries(remaining(held_until));
                    let jitter = rand::rng().random_range(-1.0..=1.0);
                    let delay = renewal_delay(&leaf, clock::now(), jitter);
                    info!(identity = %leaf.peer().identity, renewal_in = %Text(delay), "certificate received");
                    delay
                }
                Err(error) => {
                    self.metrics.renewed(Renewal::Failed);
                    if held_until.is_some() && remaining(held_until).is_none() {
                        // Whoever waits for it now waits for traffic: slow retries are over.
                        held_until = None;
                        backoff = retries(None);
                    }
                    let delay = backoff.next_delay();
                    let left = remaining(held_until).map(|left| Text(left).to_string());
                    let left = left.unwrap_or_else(|| "none".to_owned());
                    warn!(error = %Chain(&error), delay = %Text(delay), certificate_left = left, "no new certificate");
                    delay
                }
            };
            tokio::select! {
                () = sleep_by_any_clock(delay) => {}
                () = self.disowned(), if good => {
                    info!("the trust bundle does not vouch for the certificate any more");
                }
            }
        }
    }

    /// Completes when our trust bundle does not vouch for our certificate any more: nobody else's does
    /// either, so that waiting for its half life would be no use.
    async fn disowned(&self) {
        let mut credentials = self.writer.subscribe();
        while credentials.own_is_vouched_for() {
            credentials.changed().await;
        }
    }

    async fn certify(&self) -> Result<CertifiedLeaf, CertifyError> {
        let token = self.token().await?;
        let request = CertificateRequest::generate()?;
        let message = wire::CertifyRequest { token, csr_der: request.der().to_vec() };
        let asking = async {
            let channel = self.connect_bare().await?;
            let response = IdentityClient::new(channel)
                .certify(message)
                .await
                .map_err(CertifyError::Refused)?;
            Ok::<_, CertifyError>(response.into_inner())
        };
        let response = tokio::time::timeout(CERTIFY_TIMEOUT, asking)
            .await
            .map_err(|_| CertifyError::Timeout)??;
        // A new issuer may be vouched for by a new anchor.
        if let Some(bundle) = response.trust_bundle {
            self.take_bundle(bundle)?;
        }
        let leaf = request.into_leaf(response.chain_der)?;
        let found = &leaf.peer().pod_uid;
        if *found != self.settings.own {
            let own = self.settings.own.clone();
            return Err(CertifyError::OtherPod { found: found.clone(), own });
        }
        self.writer.set_certificate(leaf.clone()).map_err(Box::new)?;
        Ok(leaf)
    }

    async fn token(&self) -> Result<String, CertifyError> {
        let path = &self.settings.token_file;
        let failed = |source| CertifyError::Token { file: path.clone(), source };
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut text = String::new();
        file.take(TOKEN_LIMIT_BYTES).read_to_string(&mut text).await.map_err(failed)?;
        match text.trim() {
            "" => Err(failed(io::Error::other("it is empty"))),
            token => Ok(token.to_owned()),
        }
    }

    /// Never returns, also when there will be no other connection: certificates are renewed all the
    /// same.
    async fn keep_bundle(&self, mut connection: watch::Receiver<Option<Channel>>) {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY_OF_BUNDLE);
        loop {
            let open = connection.borrow_and_update().clone();
            let watching = async {
                match open {
                    Some(channel) => self.watch_bundle(channel).await,
                    None => self.look_at_file().await,
                }
            };
            tokio::select! {
                status = watching => {
                    debug!(error = %status, "trust bundle stream ended");
                    let delay = backoff.next_delay();
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = changed(&mut connection) => {}
                    }
                }
                () = changed(&mut connection) => backoff.reset(),
            }
        }
    }

    async fn watch_bundle(&self, channel: Channel) -> tonic::Status {
        let request = wire::WatchTrustBundleRequest {};
        let mut bundles = match IdentityClient::new(channel).watch_trust_bundle(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return status,
        };
        loop {
            match bundles.message().await {
                Ok(Some(bundle)) => match self.take_bundle(bundle) {
                    Ok(()) => {}
                    Err(error) => warn!(error = %Chain(&error), "trust bundle refused"),
                },
                Ok(None) => return tonic::Status::ok("closed"),
                Err(status) => return status,
            }
        }
    }

    fn take_bundle(&self, bundle: wire::TrustBundle) -> Result<(), BundleError> {
        let trust_domain: TrustDomain = bundle.trust_domain.parse()?;
        let bundle = Bundle::from_der(trust_domain, bundle.anchors_der)?;
        if self.bare.bundle().as_ref() != Some(&bundle) {
            info!(anchors = bundle.anchors_der().count(), "trust bundle received");
        }
        self.writer.set_bundle(bundle.clone()).map_err(Box::new)?;
        self.bare_writer.set_bundle(bundle).map_err(Box::new)?;
        Ok(())
    }
}

/// Completes when the connection is another. Cancel safe, as the receiver is.
async fn changed(connection: &mut watch::Receiver<Option<Channel>>) {
    if connection.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Sleeps until this much time has passed, also time during which the machine was suspended: the
/// clock of timers stands still then, and certificates expire.
async fn sleep_by_any_clock(delay: Duration) {
    let (begun, timer) = (clock::now(), Instant::now());
    while let Some(slice) = next_slice(delay, timer.elapsed(), clock::now().duration_since(begun)) {
        tokio::time::sleep(slice).await;
    }
}

/// How long to sleep next; `None`: enough time has passed. A wall clock that was set back, which is
/// an error, does not count.
fn next_slice(
    delay: Duration,
    by_timer: Duration,
    by_wall: Result<Duration, SystemTimeError>,
) -> Option<Duration> {
    let passed = by_timer.max(by_wall.unwrap_or_default());
    let left = delay.checked_sub(passed).filter(|left| !left.is_zero())?;
    Some(left.min(LONGEST_SLICE))
}

/// When to renew: at half of what is left, give or take a tenth of that, so that proxies that started
/// together do not renew together. `jitter` is from -1 to 1.
fn renewal_delay(leaf: &CertifiedLeaf, now: SystemTime, jitter: f64) -> Duration {
    spread(leaf.renewal_delay(now), jitter)
}

fn spread(half_life: Duration, jitter: f64) -> Duration {
    let delay = half_life.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0));
    // A clock that is ahead of the authority's must not make this a busy loop.
    delay.max(SHORTEST_RENEWAL)
}

/// What is left of a certificate; `None`: nothing.
fn remaining(held_until: Option<SystemTime>) -> Option<Duration> {
    held_until?.duration_since(clock::now()).ok().filter(|left| !left.is_zero())
}

/// Waits between requests: short while there is no certificate, and in proportion to what is left
/// of a good one.
fn retries(left: Option<Duration>) -> Backoff {
    let longest = match left {
        None => LONGEST_RETRY_WITHOUT,
        Some(left) => (left / 30).clamp(SHORTEST_CEILING, LONGEST_RETRY_WITH),
    };
    Backoff::new(FIRST_RETRY, longest)
}

/// The condition of readiness that holds once there was a certificate.
pub const READY_CONDITION: &str = "identity";
/// How far from half life a renewal may be, in parts of it.
const JITTER: f64 = 0.1;
/// No renewal is earlier than this after the one before.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(1);
/// The ceiling of the first wait after a failure.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// The ceiling of waits without a good certificate.
const LONGEST_RETRY_WITHOUT: Duration = Duration::from_secs(3);
/// The ceiling of waits with a certificate that is good for long.
const LONGEST_RETRY_WITH: Duration = Duration::from_secs(60);
/// Under the ceiling of waits with a certificate that is good for a short time only.
const SHORTEST_CEILING: Duration = Duration::from_secs(1);
/// The ceiling of waits between attempts to watch the trust bundle over one connection.
const LONGEST_RETRY_OF_BUNDLE: Duration = Duration::from_secs(30);
/// So late a renewal may be after the machine was suspended.
const LONGEST_SLICE: Duration = Duration::from_secs(30);
/// For connecting, asking and the answer together.
const CERTIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// A projected service account token has about a kilobyte.
const TOKEN_LIMIT_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::tcp;

    #[test]
    fn renewals_are_spread_around_half_life_however_short_it_is() {
        for (case, half_life_s, jitter, expected_ms) in [
            ("a day, early", 43_200, -1.0, 38_880_000),
            ("a day, late", 43_200, 1.0, 47_520_000),
            ("30 seconds, early", 15, -1.0, 13_500),
            ("30 seconds, late", 15, 1.0, 16_500),
            ("expired on arrival", 0, 0.0, 1_000),
            ("jitter out of range", 10, 7.0, 11_000),
        ] {
            let delay = spread(Duration::from_secs(half_life_s), jitter);
            assert_eq!(delay, Duration::from_millis(expected_ms), "case: {case}");
        }
    }

    #[test]
    fn many_retries_fit_into_what_is_left_of_a_short_life() {
        let mut backoff = retries(Some(Duration::from_secs(15)));
        let longest = (0..50).map(|_| backoff.next_delay()).max().unwrap();
        assert!(longest <= SHORTEST_CEILING, "{longest:?}");
    }

    #[test]
    fn time_that_passed_while_the_machine_was_suspended_counts() {
        let second = Duration::from_secs;
        let set_back = SystemTime::UNIX_EPOCH.duration_since(SystemTime::UNIX_EPOCH + second(1));
        for (case, by_timer, by_wall, expected) in [
            ("at first", second(0), Ok(second(0)), Some(second(30))),
            ("near the end", second(95), Ok(second(95)), Some(second(5))),
            ("awake all the time", second(100), Ok(second(100)), None),
            ("suspended", second(10), Ok(second(5000)), None),
            ("a clock set back", second(20), set_back.clone(), Some(second(30))),
            ("a clock set back, in the end", second(100), set_back, None),
        ] {
            assert_eq!(next_slice(second(100), by_timer, by_wall), expected, "case: {case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn certificates_are_asked_for_also_after_discovery_has_ended() {
        let (_writer, credentials) =
            crate::testing::Mesh::new().credentials("own", SHORTEST_RENEWAL);
        let settings = IdentitySettings {
            token_file: "/nonexistent/token".into(),
            trust_anchors_file: "/nonexistent/anchors".into(),
            own: "own".parse().unwrap(),
            trust_domain: "cluster.local".parse().unwrap(),
        };
        let metrics = IdentityMetrics::default();
        let control_plane = ControlPlane::new("127.0.0.1:1".parse().unwrap(), tcp(None));
        let bundle = credentials.bundle().unwrap();
        let readiness = Readiness::new(&[READY_CONDITION]);
        let (client, _) =
            CertificateClient::new(settings, control_plane, bundle, metrics, readiness).unwrap();
        let (connection, connected) = watch::channel(None);
        drop(connection);
        let running = client.run(connected, CancellationToken::new());
        assert!(tokio::time::timeout(Duration::from_secs(60), running).await.is_err());
    }
}
