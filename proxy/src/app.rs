//! Builds the proxy and runs it: logging → listeners → credentials → identity → discovery → data path;
//! on SIGTERM: not ready → drain → grace → abort.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use heddle_model::names::Port;
use heddle_runtime::admin::{self, Admin};
use heddle_runtime::duration::Text;
use heddle_runtime::logging::Chain;
use heddle_runtime::readiness::Readiness;
use heddle_runtime::tasks::{DrainOutcome, Tasks};
use heddle_runtime::{logging, signals};
use heddle_telemetry::collector::CollectorError;
use heddle_tls::bundle::{Bundle, InvalidBundle};
use heddle_tls::credentials::{Credentials, CredentialsError};
use prometheus_client::registry::Registry;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::access_log::AccessLog;
use crate::access_log::lines::Lines;
use crate::access_log::metrics::LineMetrics;
use crate::config::Config;
use crate::control_plane::{self, Connect, ControlPlane};
use crate::descriptors;
use crate::discovery::client::Client;
use crate::discovery::metrics::DiscoveryMetrics;
use crate::discovery::store::{self, Store};
use crate::discovery::writer::{self, Writer};
use crate::http::witness::{Witness, Witnesses};
use crate::identity::metrics::IdentityMetrics;
use crate::identity::{self, CertificateClient, IdentitySettings};
use crate::listen::{self, DataPath, DataPathSettings, Listeners};
use crate::metrics::Metrics;
use crate::metrics::calls::CallTable;
use crate::metrics::drawn::DrawnCalls;
use crate::pressure;
use crate::redirect::probe::probe;
use crate::tap::metrics::TapMetrics;
use crate::tap::{Taps, client as tap_client};
use crate::telemetry::metrics::ExportMetrics;
use crate::telemetry::resource::{OwnWorkload, Resource};
use crate::telemetry::{self, ExportSettings};
use crate::warm::pool::{Pool, PoolLimits};

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log filter cannot be read.
    #[error("logging cannot be set up")]
    Logging(#[from] logging::InitError),
    /// A port is taken, or may not be opened.
    #[error("cannot listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The trust anchors cannot be read.
    #[error("cannot read the trust anchors from {file}")]
    TrustAnchorsFile {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The trust anchors make no sense.
    #[error("the trust anchors in {file} cannot be used")]
    TrustAnchors {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: InvalidBundle,
    },
    /// The trust anchors are not taken.
    #[error("the trust anchors are refused")]
    Credentials(#[from] Box<CredentialsError>),
    /// There can be no way to the collector that the settings name.
    #[error("telemetry cannot be exported")]
    Collector(#[from] CollectorError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT, and then until drained.
pub async fn run(config: Config) -> Result<(), RunError> {
    logging::init(&config.log, config.log_format)?;
    say_how_it_starts(&config);
    let readiness =
        Readiness::new(&[LISTENERS_CONDITION, identity::READY_CONDITION, writer::READY_CONDITION]);
    // Certificates and discovery go on while connections drain, and end after them.
    let (work, background) = (Tasks::new(), Tasks::new());
    let admin_listener = bind_admin(config.admin_port)?;
    let outbound = bind(config.outbound_port).await?;
    let inbound = bind(config.inbound_port).await?;
    let registry = Arc::new(Mutex::new(Registry::default()));
    let admin = Admin { readiness: readiness.clone(), registry: Arc::clone(&registry) };
    admin::serve(admin_listener, admin, &background);
    let connect = control_plane::tcp(config.mark);
    let Control { store, credentials, connection } =
        start_control(&config, connect, &registry, &readiness, &background).await?;
    let own = OwnWorkload::new(store.clone(), config.owner.clone());
    let resource = Resource {
        own: own.clone(),
        pod_uid: config.pod_uid.clone(),
        service_name: config.telemetry.service_name.clone(),
        attributes: config.telemetry.resource.clone(),
    };
    let export = ExportSettings {
        telemetry: config.telemetry.clone(),
        interval: config.telemetry_interval,
        mark: config.mark,
    };
    let exports = ExportMetrics::default();
    exports.register(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
    let traces = telemetry::traces::start(&export, &resource, &exports, &background)?;
    let logs = telemetry::logs::start(&export, &resource, &exports, &background)?;
    let access_log = AccessLog::new(store.access_log(), lines(&registry), logs);
    let taps: Arc<dyn Witness> = taps(&registry, connection.clone(), &background);
    // Whoever gives requests a place in a trace comes before those who read it.
    let logged: Arc<dyn Witness> = Arc::new(access_log.clone());
    let witnesses = Witnesses::new(traces.into_iter().chain([logged, taps]).collect());
    let known = (store, own, credentials, (witnesses, access_log.clone()));
    let path = data_path(&config, known, &registry, (&work, &background));
    let measured = (Arc::clone(&path.metrics), Arc::clone(&registry), exports);
    telemetry::start(&export, resource, measured, connection, &background)?;
    listen::serve_outbound(outbound, Arc::clone(&path));
    listen::serve_inbound(inbound, path);
    readiness.set_ready(LISTENERS_CONDITION);
    let mark = config.mark;
    background.spawn("redirect.probe", async move {
        match probe(mark).await {
            Ok(()) => info!("redirect works"),
            Err(error) => warn!(error = %Chain(&error), "redirect does not work"),
        }
    });
    let watched = readiness.clone();
    background.spawn("app.readiness", async move {
        watched.wait().await;
        info!("proxy ready");
    });
    signals::terminated().await.map_err(RunError::Signals)?;
    info!(grace = %Text(config.drain_grace), "draining");
    readiness.set_unready(DRAINING_CONDITION);
    match work.shutdown(config.drain_grace).await {
        DrainOutcome::Finished => info!("drained"),
        DrainOutcome::Aborted { tasks } => warn!(tasks, "grace period over, tasks dropped"),
    }
    background.shutdown(BACKGROUND_GRACE).await;
    access_log.flush(ACCESS_LOG_GRACE).await;
    Ok(())
}

fn say_how_it_starts(config: &Config) {
    info!(version = env!("CARGO_PKG_VERSION"), %config, "proxy starting");
    if let Some(secret) = config.missing_headers() {
        warn!(
            secret,
            "no headers for the collector: there is no such secret, no key `headers` in it, or it is not \
             NAME=VALUE,NAME=VALUE; exports go without, until the pod is made anew"
        );
    }
}

/// What the control plane is for: who this is, what addresses mean, and whoever else has something to
/// tell it.
pub struct Control {
    /// What addresses mean.
    pub store: Store,
    /// Who this is.
    pub credentials: Credentials,
    /// The connection, while there is one.
    pub connection: watch::Receiver<Option<Channel>>,
}

/// Begins what talks to the control plane: certificates and discovery.
pub async fn start_control(
    config: &Config,
    connect: Connect,
    registry: &Mutex<Registry>,
    readiness: &Readiness,
    tasks: &Tasks,
) -> Result<Control, RunError> {
    let bundle = read_trust_anchors(config).await?;
    let control_plane = ControlPlane::new(config.control_plane.clone(), connect);
    let (identity_metrics, discovery_metrics) =
        (IdentityMetrics::default(), DiscoveryMetrics::default());
    {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        identity_metrics.register(&mut registry);
        discovery_metrics.register(&mut registry);
    }
    let settings = IdentitySettings {
        token_file: config.token_file.clone(),
        trust_anchors_file: config.trust_anchors.clone(),
        own: config.pod_uid.clone(),
        trust_domain: config.trust_domain.clone(),
    };
    let (certificates, credentials) = CertificateClient::new(
        settings,
        control_plane.clone(),
        bundle,
        identity_metrics,
        readiness.clone(),
    )?;
    let (connection, connected) = watch::channel(None);
    let drain = tasks.drain().clone();
    tasks.spawn("identity.certificate", certificates.run(connected.clone(), drain));

    let (store, store_writer, asks) = store::channel_with(config.access_log);
    let own = config.pod_uid.clone();
    let writer = Writer::new(own, store_writer, discovery_metrics, readiness.clone());
    let client = Client::new(control_plane, credentials.clone(), writer, asks, connection);
    tasks.spawn("discovery.stream", client.run(tasks.drain().clone()));
    Ok(Control { store, credentials, connection: connected })
}

/// What the data path knows, and whom it tells.
type Known = (Store, OwnWorkload, Credentials, (Witnesses, AccessLog));

fn data_path(
    config: &Config,
    (store, own, credentials, (witnesses, access_log)): Known,
    registry: &Mutex<Registry>,
    (tasks, background): (&Tasks, &Tasks),
) -> Arc<DataPath> {
    let metrics = {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = Metrics::register(&mut registry);
        registry.register_collector(Box::new(DrawnCalls::new(metrics.calls.clone(), own)));
        metrics
    };
    background.spawn("metrics.sweep", sweep(metrics.calls.clone(), background.drain().clone()));
    let own_time: Arc<dyn Witness> = Arc::new(metrics.own_time.clone());
    let memory_limit_bytes = config.limits.memory_limit_bytes;
    let connection_limit = descriptors::connection_limit(config.limits.connection_limit);
    let kept = PoolLimits::new(config.limits.warm_connections, connection_limit);
    Arc::new(DataPath {
        store,
        credentials,
        own: config.pod_uid.clone(),
        pressure: pressure::watch(memory_limit_bytes, Arc::clone(&metrics), background),
        warm: Arc::new(Pool::new(kept, metrics.warm.idle.clone())),
        metrics,
        witnesses: witnesses.with(own_time),
        access_log,
        tasks: tasks.clone(),
        settings: DataPathSettings { mark: config.mark, connection_limit, ..config.limits },
    })
}

fn lines(registry: &Mutex<Registry>) -> Lines {
    let metrics = LineMetrics::default();
    metrics.register(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
    Lines::new(metrics)
}

fn taps(
    registry: &Mutex<Registry>,
    connection: watch::Receiver<Option<Channel>>,
    background: &Tasks,
) -> Arc<Taps> {
    let metrics = TapMetrics::default();
    metrics.register(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
    let taps = Arc::new(Taps::new(metrics));
    let attached = tap_client::run(Arc::clone(&taps), connection, background.drain().clone());
    background.spawn("tap.client", attached);
    taps
}

/// Takes away what nothing was added to for long.
async fn sweep(calls: CallTable, drain: CancellationToken) {
    let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            now = sweeps.tick() => calls.sweep(now),
            () = drain.cancelled() => break,
        }
    }
}

async fn bind(port: Port) -> Result<Listeners, RunError> {
    let port = port.number();
    listen::bind(port).await.map_err(|source| RunError::Listen { port, source })
}

/// On all addresses, IPv6 and IPv4 on one socket where there is IPv6: probes and scrapers come from
/// outside.
fn bind_admin(port: Port) -> Result<TcpListener, RunError> {
    let bind = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(ADMIN_BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    let port = port.number();
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if !taken(&error) => bind((Ipv4Addr::UNSPECIFIED, port).into()),
        outcome => outcome,
    }
    .map_err(|source| RunError::Listen { port, source })
}

async fn read_trust_anchors(config: &Config) -> Result<Bundle, RunError> {
    let file = &config.trust_anchors;
    let text = tokio::fs::read(file)
        .await
        .map_err(|source| RunError::TrustAnchorsFile { file: file.clone(), source })?;
    Bundle::from_pem(config.trust_domain.clone(), &text)
        .map_err(|source| RunError::TrustAnchors { file: file.clone(), source })
}

/// Holds once every port is listened on.
const LISTENERS_CONDITION: &str = "listeners";
/// Never holds: what names it is about to end.
const DRAINING_CONDITION: &str = "draining";
/// How many probes and scrapers may wait to be accepted.
const ADMIN_BACKLOG: i32 = 64;
/// How long certificates and discovery may take to end once all connections have.
const BACKGROUND_GRACE: Duration = Duration::from_secs(1);
/// How long standard output may take to take the end of the access log.
const ACCESS_LOG_GRACE: Duration = Duration::from_millis(500);
/// How often it is looked for series that nothing is added to: a few times before they go.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
