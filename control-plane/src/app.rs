//! Builds everything and starts it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use heddle_model::identity::TrustDomain;
use heddle_runtime::admin::Admin;
use heddle_runtime::readiness::Readiness;
use heddle_runtime::tasks::Tasks;
use heddle_runtime::throttle::Throttle;
use heddle_runtime::vital::Vital;
use heddle_telemetry::collector::CollectorError;
use heddle_tls::credentials;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tracing::info;

use crate::admin::AdminService;
use crate::admin::listen::{self as admin, Services};
use crate::config::Config;
use crate::discovery::DiscoveryService;
use crate::identity::IdentityService;
use crate::identity::custodian::Custodian;
use crate::identity::custodian::load::CustodianError;
use crate::identity::gauges;
use crate::identity::replicas::Population;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::origin::{Known, NoOrigin, Origin};
use crate::peers::PeersService;
use crate::push::last_resort;
use crate::push::proxies::Proxies;
use crate::push::publisher::{Publisher, Snapshots};
use crate::push::session::Surroundings;
use crate::server;
use crate::tap::parts::Parts as TapParts;
use crate::tap::rights::Rights;
use crate::telemetry::parts::Parts;

/// Where a control plane is reached that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// By proxies.
    pub address: SocketAddr,
    /// By whoever collects metrics.
    pub metrics_address: Option<SocketAddr>,
    /// Cancelled when a task has ended that must not end before the drain: then the process is of no
    /// more use, however alive it looks.
    pub broken: CancellationToken,
}

/// Why a control plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The authority or our own certificate is missing.
    #[error("cannot start the certificate authority")]
    Custodian(#[from] CustodianError),
    /// The configuration cannot be read.
    #[error(transparent)]
    Origin(#[from] NoOrigin),
    /// What proxies measure cannot be passed on.
    #[error(transparent)]
    Collector(#[from] CollectorError),
    /// An address is taken, or not ours.
    #[error("cannot listen at {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// As the system says.
        #[source]
        source: io::Error,
    },
    /// The admin socket cannot be made.
    #[error("cannot listen at {}", path.display())]
    AdminSocket {
        /// Where.
        path: PathBuf,
        /// As the system says.
        #[source]
        source: io::Error,
    },
}

/// Starts everything; it ends with `tasks`. What the authority is kept in may be out of reach for a while: that
/// is waited for, alive and not ready.
///
/// Cancel safe: what was started ends with `tasks`.
pub async fn start(config: Config, tasks: &Tasks) -> Result<Running, StartError> {
    info!(%config, "starting");
    let readiness = Readiness::new(&[AUTHORITY, CONFIGURATION]);
    let (metrics, proxies) = (Metrics::default(), Proxies::default());

    let mut origin = Origin::open(&config).await?;
    let (publisher, snapshots, raise) = Publisher::new(Index::new(config.trust_domain.clone()));
    let (writer, credentials) = credentials::channel(config.trust_domain.clone());
    let population = Population::new(proxies.clone(), snapshots.clone());
    let holdings = population.holdings.clone();
    let metrics_address = serve_metrics(&config, &readiness, &metrics, tasks).await?;
    let (custodian, handles) =
        Custodian::start(origin.keeping(&config, population), writer).await?;
    readiness.set_ready(AUTHORITY);
    tasks.spawn("identity.gauges", gauges::keep(&handles, &metrics, tasks.drain()));
    let (listener, address) = listen(config.listen).await?;
    let authorities = handles.authorities;

    let admin = AdminService {
        snapshots: snapshots.clone(),
        proxies: proxies.clone(),
        authorities: authorities.clone(),
        identity: handles.view,
        rotations: handles.requests,
        holdings: holdings.clone(),
        leaf_lifetime: config.leaf_lifetime,
        metrics: metrics.clone(),
    };
    let telemetry = Parts::new(&config, &snapshots, &credentials, &metrics)?;
    let known = (&snapshots, &credentials);
    let taps = TapParts::new(&config, origin.tap_rights(), known, (&metrics, tasks));
    serve_admin(services(admin, &telemetry, &taps), &taps, &config, tasks).await?;
    let identity = IdentityService {
        attest: origin.attest(&snapshots),
        authorities: authorities.clone(),
        holdings,
        metrics: metrics.clone(),
        warnings: Throttle::default(),
        drain: tasks.drain().clone(),
    };
    let surroundings = Surroundings {
        snapshots: snapshots.clone(),
        interests: publisher.interests(),
        raise,
        proxies: proxies.clone(),
        metrics: metrics.clone(),
        drain: tasks.drain().clone(),
    };
    let router = router(identity, surroundings, &config.trust_domain, tasks);
    let router = taps.serve(telemetry.serve(router, tasks));
    let known = Known {
        snapshots: snapshots.clone(),
        proxies,
        credentials: credentials.clone(),
        authorities,
        metrics: metrics.clone(),
    };
    let (events, receiver) = mpsc::channel(EVENTS_QUEUED);
    let drain = tasks.drain().clone();
    let broken = CancellationToken::new();
    let vital = Vital { tasks, broken: &broken };
    for (name, task) in origin.tasks(events, known, &drain) {
        vital.spawn(name, task);
    }
    vital.spawn("push.publisher", publisher.run(receiver, drain.clone()));
    vital.spawn("identity.custodian", custodian.run(drain));
    tell(readiness, snapshots, &metrics, tasks);
    let served = server::serve(router, listener, credentials, metrics, tasks.clone());
    vital.spawn("server.grpc", served);
    info!(%address, "serving proxies");
    Ok(Running { address, metrics_address, broken })
}

/// Of this machine's own: who reaches the socket may tap.
fn services(admin: AdminService, telemetry: &Parts, taps: &TapParts) -> Services {
    Services { admin, telemetry: telemetry.answers.clone(), tap: taps.answers(Rights::Owner) }
}

fn router(
    identity: IdentityService,
    surroundings: Surroundings,
    trust_domain: &TrustDomain,
    tasks: &Tasks,
) -> Router {
    let peers = PeersService {
        snapshots: surroundings.snapshots.clone(),
        proxies: surroundings.proxies.clone(),
        trust_domain: trust_domain.clone(),
    };
    server::builder()
        .add_service(identity.server())
        .add_service(peers.server())
        .add_service(DiscoveryService::server(surroundings, tasks.clone()))
}

/// What is said of what is published, to whoever runs this process.
fn tell(readiness: Readiness, snapshots: Snapshots, metrics: &Metrics, tasks: &Tasks) {
    let told = last_resort::tell(snapshots.clone(), metrics.clone(), tasks.drain().clone());
    tasks.spawn("push.last_resort", told);
    tasks.spawn("app.readiness", become_ready(readiness, snapshots));
}

async fn become_ready(readiness: Readiness, mut snapshots: Snapshots) {
    if snapshots.wait_for(Option::is_some).await.is_ok() {
        readiness.set_ready(CONFIGURATION);
    }
}

async fn serve_admin(
    services: Services,
    taps: &TapParts,
    config: &Config,
    tasks: &Tasks,
) -> Result<(), StartError> {
    if let Some(path) = config.admin_socket.clone() {
        let listener =
            admin::bind(&path).map_err(|source| StartError::AdminSocket { path, source })?;
        let served = admin::serve(services.clone(), listener, tasks.drain().clone());
        tasks.spawn("admin.socket", served);
    }
    if let Some(address) = config.admin_listen {
        let (listener, address) = listen(address).await?;
        // More people reach it than the socket.
        let services = Services { tap: taps.answers(taps.reviewed()), ..services };
        tasks.spawn("admin.listen", admin::serve_tcp(services, listener, tasks.drain().clone()));
        info!(%address, "serving the status");
    }
    Ok(())
}

async fn serve_metrics(
    config: &Config,
    readiness: &Readiness,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(address) = config.metrics_listen else { return Ok(None) };
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let (listener, address) = listen(address).await?;
    let registry = Arc::new(Mutex::new(registry));
    let admin = Admin { readiness: readiness.clone(), registry };
    heddle_runtime::admin::serve(listener, admin, tasks);
    Ok(Some(address))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// What has to be there before proxies can be answered: keys,
const AUTHORITY: &str = "authority";
/// and objects.
const CONFIGURATION: &str = "configuration";
/// A source that is faster than the index waits for it.
const EVENTS_QUEUED: usize = 1024;
