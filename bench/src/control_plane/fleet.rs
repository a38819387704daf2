//! The proxies that connect: the proxy's own code for certificates, discovery, telemetry and taps, with its own waits between
//! attempts, a thousand times in one process, without listeners.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_proxy::app::{self, Control};
use heddle_proxy::config::{self, Config};
use heddle_proxy::discovery::resolved::Resolved;
use heddle_proxy::discovery::store::Store;
use heddle_proxy::discovery::writer;
use heddle_proxy::identity;
use heddle_proxy::metrics::Metrics;
use heddle_proxy::tap::metrics::TapMetrics;
use heddle_proxy::tap::{self, Taps};
use heddle_proxy::telemetry::metrics::ExportMetrics;
use heddle_proxy::telemetry::resource::{OwnWorkload, Resource};
use heddle_proxy::telemetry::{self, ExportSettings};
use heddle_runtime::readiness::Readiness;
use heddle_runtime::tasks::Tasks;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use crate::control_plane::manifests::Files;
use crate::control_plane::plan::{Plan, Service};
use crate::control_plane::tally::Tally;

/// All proxies.
pub struct Fleet {
    members: Vec<Member>,
}

struct Member {
    store: Store,
    tally: Tally,
    /// What keeps its subscriptions in use, in the order of the plan.
    held: Vec<watch::Receiver<Resolved>>,
}

impl Fleet {
    /// Starts all of them at once; none is connected yet.
    pub async fn start(
        plan: &Plan,
        files: &Files,
        (control_plane, tallies): (SocketAddr, &[Tally]),
        tasks: &Tasks,
    ) -> Result<Self> {
        let mut members = Vec::new();
        for (number, (proxy, tally)) in plan.proxies.iter().zip(tallies).enumerate() {
            let uid = &plan.pod(proxy).context("the proxy's pod")?.uid;
            let config = config(number, uid, files, control_plane)?;
            let span = tracing::info_span!("proxy", proxy = number);
            let store = Box::pin(start(&config, tally, tasks)).instrument(span).await?;
            members.push(Member { store, tally: tally.clone(), held: Vec::new() });
        }
        Ok(Self { members })
    }

    /// Each asks for what its plan says; when the last had all of its answers.
    pub async fn subscribe(&mut self, plan: &Plan, within: Duration) -> Result<Instant> {
        let mut asking = JoinSet::new();
        for (number, (member, proxy)) in self.members.iter().zip(&plan.proxies).enumerate() {
            let store = member.store.clone();
            let called = proxy.calls.iter().filter_map(|called| plan.services.get(*called));
            let addresses: Vec<_> = called.map(Service::destination).collect();
            asking.spawn(async move {
                let mut held = Vec::new();
                for address in addresses {
                    // As an application does that is refused since there is no answer yet.
                    held.push(loop {
                        if let Ok(answer) = store.destination(address).await {
                            break answer;
                        }
                    });
                }
                (number, held, Instant::now())
            });
        }
        let mut last = Instant::now();
        let all = async {
            while let Some(asked) = asking.join_next().await {
                let (number, held, at) = asked?;
                last = last.max(at);
                if let Some(member) = self.members.get_mut(number) {
                    member.held = held;
                }
            }
            anyhow::Ok(())
        };
        timeout(within, all).await.context("not all proxies were answered in time")??;
        Ok(last)
    }

    /// Bytes from the control plane, by proxy.
    pub fn received_bytes(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.tally.received_bytes()).collect()
    }

    /// Fails unless every proxy holds as many endpoints of every service it calls as there are: all but those of services
    /// in `short`, which are one fewer.
    pub fn check(&self, plan: &Plan, short: impl Fn(usize) -> bool) -> Result<()> {
        for (number, (member, proxy)) in self.members.iter().zip(&plan.proxies).enumerate() {
            for (index, held) in proxy.calls.iter().zip(&member.held) {
                let service = plan.services.get(*index).context("a service")?;
                let expected = service.pods.len() - usize::from(short(*index));
                let found = match &*held.borrow() {
                    Resolved::Service(service) => {
                        service.connections.backends.first().map(|(balancer, _)| balancer.len())
                    }
                    Resolved::PassThrough | Resolved::Refused { .. } | Resolved::Endpoint(_) => {
                        None
                    }
                };
                ensure!(
                    found == Some(expected),
                    "proxy {number} has {found:?} endpoints of {}, not {expected}",
                    service.name
                );
            }
        }
        Ok(())
    }
}

/// What the proxy does at its start, but for listening.
async fn start(config: &Config, tally: &Tally, tasks: &Tasks) -> Result<Store> {
    let registry = Arc::new(Mutex::new(Registry::default()));
    let readiness = Readiness::new(&[identity::READY_CONDITION, writer::READY_CONDITION]);
    let Control { store, credentials: _, connection } =
        app::start_control(config, tally.connect(), &registry, &readiness, tasks).await?;
    let exports = ExportMetrics::default();
    let metrics = {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        exports.register(&mut registry);
        Metrics::register(&mut registry)
    };
    let resource = Resource {
        own: OwnWorkload::new(store.clone(), None),
        pod_uid: config.pod_uid.clone(),
        service_name: None,
        attributes: Vec::new(),
    };
    let export = ExportSettings {
        telemetry: config.telemetry.clone(),
        interval: config.telemetry_interval,
        mark: None,
    };
    let measured = (metrics, registry, exports);
    telemetry::start(&export, resource, measured, connection.clone(), tasks)?;
    let taps = Arc::new(Taps::new(TapMetrics::default()));
    let attached = tap::client::run(taps, connection, tasks.drain().clone());
    tasks.spawn("tap.client", attached);
    Ok(store)
}

/// All other settings are the proxy's defaults.
fn config(number: usize, uid: &str, files: &Files, control_plane: SocketAddr) -> Result<Config> {
    let typed = [
        "proxy".to_owned(),
        format!("--control-plane={control_plane}"),
        format!("--trust-anchors={}", files.state().join("trust-anchors.pem").display()),
        format!("--token-file={}", files.token(number).display()),
        format!("--pod-uid={uid}"),
    ];
    let matches = config::command("proxy").try_get_matches_from(typed)?;
    Config::read(&matches).map_err(|bad| anyhow::anyhow!("{bad}"))
}
