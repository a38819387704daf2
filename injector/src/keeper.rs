//! Keeps the webhook's certificate: in the Secret, in the server, and known to the API server, in this
//! order. Replicas agree by the Secret's resource version: whoever is slower reads again. What is due is
//! decided in secret.rs and webhook.rs.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use heddle_runtime::backoff::Backoff;
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_runtime::readiness::Readiness;
use heddle_tls::https::identity::{HttpsIdentity, IdentityError};
use heddle_tls::https::{self, HttpsError, HttpsWriter};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api::{self, ApiError};
use crate::metrics::Metrics;
use crate::secret::{Due, SECRET_TYPE, Stored};
use crate::webhook::{self, Repair};

/// Keeps the certificate, for as long as the process runs.
pub(crate) struct Keeper {
    pub(crate) secrets: Api<Secret>,
    pub(crate) webhooks: Api<MutatingWebhookConfiguration>,
    pub(crate) settings: KeeperSettings,
    pub(crate) writer: HttpsWriter,
    /// Where this replica serves; it asks itself before it tells the API server.
    pub(crate) address: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
}

/// Whose certificate it is, and whose configuration.
#[derive(Clone, Debug)]
pub(crate) struct KeeperSettings {
    pub(crate) namespace: String,
    /// This pod's name: by it one replica is told from the others that make the Secret at the same moment.
    pub(crate) replica: String,
    pub(crate) webhook_configuration: String,
    pub(crate) lifetime: Duration,
}

/// Why a round was not finished; the next one begins anew.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("cannot {attempted}")]
    Api {
        attempted: &'static str,
        #[source]
        source: ApiError,
    },
    #[error("cannot make a certificate")]
    Make(#[from] IdentityError),
    #[error("the certificate cannot be presented")]
    Present(#[source] HttpsError),
    #[error("this replica does not answer itself with its certificate")]
    Check(#[source] HttpsError),
    #[error("this replica does not answer itself")]
    Unreachable(#[source] std::io::Error),
}

impl Keeper {
    /// Goes round when the Secret or the webhook's configuration changes, and otherwise every half minute.
    pub(crate) async fn run(self, drain: CancellationToken) {
        let name = format!("metadata.name={SECRET_NAME}");
        let secrets = watcher(self.secrets.clone(), api::watched().fields(&name));
        let mut secrets = pin!(secrets.default_backoff());
        let name = format!("metadata.name={}", self.settings.webhook_configuration);
        let webhooks = watcher(self.webhooks.clone(), api::watched().fields(&name));
        let mut webhooks = pin!(webhooks.default_backoff());
        let mut presented = None;
        let mut backoff = Backoff::new(api::RETRY_FIRST, api::RETRY_LONGEST);
        loop {
            let pause = match self.go_round(&mut presented).await {
                Ok(pause) => {
                    backoff.reset();
                    pause
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "the webhook's certificate is not in order");
                    backoff.next_delay()
                }
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(pause) => continue,
                Some(event) = secrets.next() => log_event("secret", event.err()),
                Some(event) = webhooks.next() => log_event("webhook", event.err()),
            }
            // What is seen at once, such as the first listing, is one change.
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
    }

    async fn go_round(&self, presented: &mut Option<HttpsIdentity>) -> Result<Duration, KeepError> {
        let Some((secret, stored)) = self.stored().await? else { return Ok(RETRY_PAUSE) };
        if presented.as_ref() != Some(&stored.current) {
            self.writer.set(&stored.current).map_err(KeepError::Present)?;
            self.metrics.set_certificate_expiry(stored.current.not_after());
            info!("presenting the webhook's certificate");
            *presented = Some(stored.current.clone());
        }
        self.check_ourselves(&stored).await?;
        self.readiness.set_ready(CERTIFICATE);
        let announced = self.announce(&stored).await?;
        let next = || self.made();
        let changed = match stored.due(announced, clock::now()) {
            Due::Nothing => return Ok(ROUND_PAUSE),
            Due::Replacement => Stored::new(next()?),
            Due::Announcement => stored.announcing(next()?),
            Due::Promotion => stored.promoted(),
        };
        info!("renewing the webhook's certificate");
        self.replace(secret, &changed).await?;
        Ok(RETRY_PAUSE)
    }

    /// What the Secret holds, made if there is none or none that could be used; `None`: another replica
    /// was faster.
    async fn stored(&self) -> Result<Option<(Secret, Stored)>, KeepError> {
        let found = api::ask(self.secrets.get_opt(SECRET_NAME)).await;
        let found = found.map_err(cannot("read the Secret"))?;
        let name = self.server_name();
        let Some(secret) = found else {
            let stored = Stored::new(self.made()?);
            return self.create(&stored).await;
        };
        match Stored::read(&secret, &name) {
            Ok(stored) if stored.current.not_after() > clock::now() => {
                return Ok(Some((secret, stored)));
            }
            Ok(_) => warn!("the webhook's certificate has expired; it is replaced"),
            Err(error) => {
                warn!(error = %Chain(&error), "the webhook's certificate is replaced");
            }
        }
        self.replace(secret, &Stored::new(self.made()?)).await?;
        Ok(None)
    }

    async fn create(&self, stored: &Stored) -> Result<Option<(Secret, Stored)>, KeepError> {
        let mut secret = Secret::default();
        secret.metadata.name = Some(SECRET_NAME.to_owned());
        let labels =
            [("app.kubernetes.io/name", "heddle"), ("app.kubernetes.io/component", "injector")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        secret.metadata.labels = Some(labels.into());
        secret.type_ = Some(SECRET_TYPE.to_owned());
        stored.write(&mut secret);
        // Applied by a manager of its own: of two replicas that do so, the second one conflicts. To make it by
        // POST would take leave to make any Secret.
        let manager = format!("{MANAGER}-{}", self.settings.replica);
        let manager: String = manager.chars().take(MANAGER_LIMIT).collect();
        let (parameters, patch) = (PatchParams::apply(&manager), Patch::Apply(&secret));
        match api::ask(self.secrets.patch(SECRET_NAME, &parameters, &patch)).await {
            Ok(secret) => {
                info!("made the webhook's certificate");
                Ok(Some((secret, stored.clone())))
            }
            Err(error) if error.is_race() => Ok(None),
            Err(error) => Err(cannot("make the Secret")(error)),
        }
    }

    /// Only if nobody changed it since: the Secret carries its resource version.
    async fn replace(&self, mut secret: Secret, stored: &Stored) -> Result<(), KeepError> {
        stored.write(&mut secret);
        let parameters =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match api::ask(self.secrets.replace(SECRET_NAME, &parameters, &secret)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_race() => Ok(()),
            Err(error) => Err(cannot("write the Secret")(error)),
        }
    }

    fn made(&self) -> Result<HttpsIdentity, KeepError> {
        let name = self.server_name();
        let short = format!("{SERVICE}.{}", self.settings.namespace);
        let long = format!("{name}.cluster.local");
        let names = [name.as_str(), &short, &long];
        Ok(HttpsIdentity::create(&names, self.settings.lifetime, clock::now())?)
    }

    /// As the API server would: with the authorities that it will be told to trust, and by the name that
    /// it will ask for.
    async fn check_ourselves(&self, stored: &Stored) -> Result<(), KeepError> {
        let connecting = TcpStream::connect(self.address);
        let stream = tokio::time::timeout(CHECK_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(KeepError::Unreachable)?;
        https::connect(stream, &stored.bundle(), &self.server_name(), CHECK_TIMEOUT)
            .await
            .map(drop)
            .map_err(KeepError::Check)
    }

    /// Whether the API server was told, before this round, whom to trust; it is told now if not.
    async fn announce(&self, stored: &Stored) -> Result<bool, KeepError> {
        let name = &self.settings.webhook_configuration;
        let found = api::ask(self.webhooks.get_opt(name)).await;
        let Some(configuration) = found.map_err(cannot("read the webhook"))? else {
            debug!(name, "there is no webhook configuration (yet)");
            return Ok(false);
        };
        let called = (self.settings.namespace.as_str(), SERVICE);
        let patch = match webhook::repair(&configuration, called, &stored.bundle()) {
            Repair::None => return Ok(true),
            Repair::NotOurs => {
                warn!(name, "the webhook configuration does not call this injector's Service");
                return Ok(false);
            }
            Repair::Patch(patch) => patch,
        };
        let parameters =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api::ask(self.webhooks.patch(name, &parameters, &Patch::<()>::Json(patch))).await {
            Ok(_) => {
                self.metrics.webhooks_patched.inc();
                info!(name, "told the API server whom to trust");
                Ok(false)
            }
            Err(error) if error.is_race() => Ok(false),
            Err(error) => Err(cannot("write the webhook's caBundle")(error)),
        }
    }

    fn server_name(&self) -> String {
        format!("{SERVICE}.{}.svc", self.settings.namespace)
    }
}

fn cannot(attempted: &'static str) -> impl FnOnce(ApiError) -> KeepError {
    move |source| KeepError::Api { attempted, source }
}

fn log_event(watched: &'static str, error: Option<watcher::Error>) {
    if let Some(error) = error {
        debug!(error = %Chain(&error), watched, "watching failed; it is tried again");
    }
}

/// Holds once this replica answers with the certificate.
pub(crate) const CERTIFICATE: &str = "certificate";
/// The injector's Service.
pub(crate) const SERVICE: &str = "heddle-injector";
const SECRET_NAME: &str = "heddle-injector-tls";
const MANAGER: &str = "heddle-injector";
/// Of the API server.
const MANAGER_LIMIT: usize = 128;
/// Between two looks, if nothing changes.
const ROUND_PAUSE: Duration = Duration::from_secs(30);
/// After a change of our own, or a race.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long changes are gathered.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
