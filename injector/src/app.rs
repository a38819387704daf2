//! Builds the injector and runs it: settings → listener → certificate → webhook; on SIGTERM: not ready → a
//! moment for the API server to go elsewhere → drain.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_runtime::admin::{self, Admin};
use heddle_runtime::logging::Chain;
use heddle_runtime::readiness::Readiness;
use heddle_runtime::signals;
use heddle_runtime::tasks::{DrainOutcome, Tasks};
use heddle_runtime::vital::Vital;
use heddle_tls::https;
use kube::Api;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api;
use crate::config::Config;
use crate::coverage::Coverage;
use crate::events::Events;
use crate::keeper::{CERTIFICATE, Keeper, KeeperSettings};
use crate::metrics::Metrics;
use crate::namespaces::{NAMESPACES, Namespaces};
use crate::server;
use crate::server::answer::Webhook;
use crate::settings::{BadMeshSettings, MeshSettings};

/// Why the injector cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    SettingsFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What pods are given makes no sense.
    #[error("{} cannot be used", path.display())]
    Settings {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: BadMeshSettings,
    },
    /// The API server cannot be found.
    #[error(
        "cannot tell where the API server is (in a pod: by its service account; else by KUBECONFIG)"
    )]
    Client(#[source] Box<kube::Error>),
    /// An address is taken, or not ours.
    #[error("cannot listen at {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// As the system says.
        #[source]
        source: io::Error,
    },
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// Something ended that must not; whoever started us is to start us again.
    #[error("a task ended that must not; the log says which")]
    Broken,
}

/// Runs until SIGTERM or SIGINT, and then until drained.
pub async fn run(config: Config) -> Result<(), RunError> {
    info!(version = env!("CARGO_PKG_VERSION"), %config, "injector starting");
    let mut terminated = pin!(signals::terminated());
    let mesh = read_settings(&config.injector_config)?;
    let client = tokio::select! {
        found = api::client() => found.map_err(|source| RunError::Client(Box::new(source)))?,
        signal = terminated.as_mut() => return signal.map_err(RunError::Signals),
    };
    let readiness = Readiness::new(&[CERTIFICATE, NAMESPACES]);
    let metrics = Metrics::default();
    let (work, background) = (Tasks::new(), Tasks::new());
    let (stop, broken) = (CancellationToken::new(), CancellationToken::new());

    let (metrics_listener, _) = listen(config.metrics_listen).await?;
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let registry = Arc::new(Mutex::new(registry));
    admin::serve(metrics_listener, Admin { readiness: readiness.clone(), registry }, &background);

    let (listener, address) = listen(config.listen).await?;
    let (writer, acceptor) = https::channel();
    let (namespaces, namespaces_watch) = Namespaces::new(Api::all(client.clone()));
    let (settings_writer, settings) = watch::channel(Arc::new(mesh));
    let webhook = Webhook::new(settings, namespaces.clone(), metrics.clone());
    let keeper = Keeper {
        secrets: Api::namespaced(client.clone(), &config.namespace),
        webhooks: Api::all(client.clone()),
        settings: KeeperSettings {
            namespace: config.namespace.clone(),
            replica: config.pod_name.clone(),
            webhook_configuration: config.webhook_configuration.clone(),
            lifetime: config.certificate_lifetime,
        },
        writer,
        address: own_address(address),
        readiness: readiness.clone(),
        metrics: metrics.clone(),
    };
    let coverage = Coverage {
        pods: Api::all(client.clone()),
        namespaces,
        events: Events::new(client, config.pod_name.clone()),
        metrics: metrics.clone(),
    };
    let vital = Vital { tasks: &background, broken: &broken };
    let drain = background.drain().clone();
    vital.spawn("namespaces.watch", namespaces_watch.run(readiness.clone(), drain.clone()));
    vital.spawn("certificate.keeper", keeper.run(drain.clone()));
    vital.spawn("coverage.report", coverage.run(drain.clone()));
    vital.spawn(
        "settings.reload",
        reload(config.injector_config.clone(), settings_writer, metrics, drain),
    );
    let serving = server::serve(listener, acceptor, webhook, work.clone(), stop.clone());
    background.spawn("webhook.server", serving);
    info!(%address, "serving the webhook");
    background.spawn("app.readiness", become_ready(readiness.clone()));

    let is_broken = tokio::select! {
        signal = terminated.as_mut() => {
            signal.map_err(RunError::Signals)?;
            false
        }
        () = broken.cancelled() => true,
    };
    readiness.set_unready(DRAINING);
    drain_reviews(&work, &stop, config.drain_grace).await;
    background.shutdown(BACKGROUND_GRACE).await;
    if is_broken { Err(RunError::Broken) } else { Ok(()) }
}

/// The API server learns from its Service's endpoints that we go, and until then still calls.
async fn drain_reviews(work: &Tasks, stop: &CancellationToken, grace: Duration) {
    info!("draining");
    tokio::time::sleep(FAREWELL).await;
    stop.cancel();
    match work.shutdown(grace).await {
        DrainOutcome::Finished => info!("drained"),
        DrainOutcome::Aborted { tasks } => warn!(tasks, "grace period over, connections dropped"),
    }
}

async fn become_ready(readiness: Readiness) {
    readiness.wait().await;
    info!("injector ready");
}

fn read_settings(path: &PathBuf) -> Result<MeshSettings, RunError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| RunError::SettingsFile { path: path.clone(), source })?;
    MeshSettings::from_yaml(&text)
        .map_err(|source| RunError::Settings { path: path.clone(), source })
}

/// Takes settings that changed, if they can be used: a ConfigMap's file is swapped while we run.
async fn reload(
    path: PathBuf,
    settings: watch::Sender<Arc<MeshSettings>>,
    metrics: Metrics,
    drain: CancellationToken,
) {
    let mut refused = None;
    loop {
        tokio::select! {
            () = drain.cancelled() => return,
            () = tokio::time::sleep(RELOAD_INTERVAL) => {}
        }
        match read_settings(&path) {
            Ok(read) => {
                refused = None;
                let read = Arc::new(read);
                let changed = settings.send_if_modified(|current| {
                    let changed = **current != *read;
                    *current = Arc::clone(&read);
                    changed
                });
                if changed {
                    info!("new settings for pods");
                }
            }
            Err(error) => {
                let text = Chain(&error).to_string();
                if refused.as_ref() != Some(&text) {
                    metrics.settings_refused.inc();
                    warn!(error = text, "changed settings are not taken; the old ones stay");
                }
                refused = Some(text);
            }
        }
    }
}

/// Where a process reaches itself.
fn own_address(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listening.port())
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Never holds: what names it is about to end.
const DRAINING: &str = "draining";
/// How long new connections are still taken after SIGTERM.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long the rest may take to end once all connections have.
const BACKGROUND_GRACE: Duration = Duration::from_secs(1);
/// The kubelet brings a changed ConfigMap within a minute or so; this adds little.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
