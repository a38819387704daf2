//! Where the data path reads what addresses mean. Many readers, one writer: the discovery client.
//! Nothing is decided here: see state.rs.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use heddle_model::access_log::AccessLog;
use heddle_model::workload::Workload;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

use crate::access_log::switch::Switch;
use crate::balance::rate_limit::RateLimits;
use crate::discovery::resolved::Resolved;

/// The readers' side. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Why it is not known what an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDiscovered {
    /// The control plane has not answered, or is not connected.
    #[error("the control plane did not say within {} s what the address means", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    /// Every subscription is in use.
    #[error("no more addresses can be subscribed to")]
    Full,
    /// The process ends.
    #[error("discovery has ended")]
    Ended,
}

/// Somebody wants to know what an address means.
pub struct Ask {
    /// The address.
    pub address: SocketAddr,
    /// Where the answer goes; closed when nobody waits any more.
    pub answer: oneshot::Sender<Result<watch::Receiver<Resolved>, NotDiscovered>>,
}

/// The writer's side.
pub struct StoreWriter {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// A lock and not a concurrent map: a reader must subscribe to a value, and the writer find that
    /// nobody did and drop it, one after the other. It is taken once per connection.
    destinations: RwLock<HashMap<SocketAddr, Known>>,
    workload: ArcSwapOption<Workload>,
    rate_limits: Arc<RateLimits>,
    access_log: Arc<Switch>,
}

struct Known {
    value: watch::Sender<Resolved>,
    /// Somebody asked since the writer last looked.
    used: AtomicBool,
}

/// Both sides of a new store, and the asks that the writer must answer.
pub fn channel() -> (Store, StoreWriter, mpsc::Receiver<Ask>) {
    channel_with(AccessLog::default())
}

/// The same of a proxy that was told to write this down.
pub fn channel_with(access_log: AccessLog) -> (Store, StoreWriter, mpsc::Receiver<Ask>) {
    let access_log = Arc::new(Switch::new(access_log));
    let shared = Arc::new(Shared { access_log, ..Shared::default() });
    let (asks, asked) = mpsc::channel(ASK_LIMIT);
    (Store { shared: Arc::clone(&shared), asks }, StoreWriter { shared }, asked)
}

impl Store {
    /// What an address means, now and from now on: a connection looks at the receiver again before
    /// each request. Subscribes to the address on the first ask, and waits for the answer for at
    /// most five seconds. Cancel safe.
    pub async fn destination(
        &self,
        address: SocketAddr,
    ) -> Result<watch::Receiver<Resolved>, NotDiscovered> {
        if let Some(known) = self.shared.known(address) {
            return Ok(known);
        }
        let (answer, answered) = oneshot::channel();
        let asking = async {
            let ask = Ask { address, answer };
            self.asks.send(ask).await.map_err(|_| NotDiscovered::Ended)?;
            answered.await.map_err(|_| NotDiscovered::Ended)?
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asking).await.map_err(|_| NotDiscovered::Timeout)?
    }

    /// The own workload; `None`: not received yet, so that everything is to be denied.
    pub fn workload(&self) -> Option<Arc<Workload>> {
        self.shared.workload.load_full()
    }

    /// How many requests the own workload takes, by now and from now on.
    pub fn rate_limits(&self) -> Arc<RateLimits> {
        Arc::clone(&self.shared.rate_limits)
    }

    /// What is written down of requests and connections, by now and from now on.
    pub fn access_log(&self) -> Arc<Switch> {
        Arc::clone(&self.shared.access_log)
    }
}

impl StoreWriter {
    /// Shows readers a new meaning; returns a receiver of it.
    pub fn publish(&self, address: SocketAddr, resolved: Resolved) {
        let mut destinations = self.shared.destinations.write();
        match destinations.get(&address) {
            Some(known) => {
                known.value.send_replace(resolved);
            }
            None => {
                let value = watch::Sender::new(resolved);
                destinations.insert(address, Known { value, used: AtomicBool::new(true) });
            }
        }
    }

    /// A receiver, if the meaning is known.
    pub fn known(&self, address: SocketAddr) -> Option<watch::Receiver<Resolved>> {
        self.shared.known(address)
    }

    /// Whether a connection holds a receiver, or somebody asked since this was last called.
    pub fn is_used(&self, address: SocketAddr) -> bool {
        self.shared.destinations.read().get(&address).is_some_and(Known::take_used)
    }

    /// Forgets an address unless it is used; says whether it did, or never knew it.
    pub fn forget_unused(&self, address: SocketAddr) -> bool {
        let mut destinations = self.shared.destinations.write();
        if destinations.get(&address).is_some_and(Known::take_used) {
            return false;
        }
        destinations.remove(&address);
        true
    }

    /// Shows readers the own workload.
    pub fn set_workload(&self, workload: Workload) {
        self.shared.rate_limits.set(&workload.rate_limits);
        if let Some(AccessLog { mode, format }) = self.shared.access_log.follow(workload.access_log)
        {
            info!(%mode, %format, "access log switched");
        }
        self.shared.workload.store(Some(Arc::new(workload)));
    }
}

impl Shared {
    fn known(&self, address: SocketAddr) -> Option<watch::Receiver<Resolved>> {
        let destinations = self.destinations.read();
        let known = destinations.get(&address)?;
        known.used.store(true, Ordering::Relaxed);
        Some(known.value.subscribe())
    }
}

impl Known {
    fn take_used(&self) -> bool {
        let asked = self.used.swap(false, Ordering::Relaxed);
        asked || self.value.receiver_count() > 0
    }
}

/// How long a connection waits for its destination's meaning, before it is refused.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How many asks wait for the writer; further ones wait for room.
const ASK_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use heddle_model::policy::{RateLimit, RateLimitScope};
    use heddle_model::workload::{InboundMode, NodeProbes};
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn rate_limits_follow_the_workload() {
        let (store, writer, _asks) = channel();
        let limits = store.rate_limits();
        let workload = |rate_limits| Workload {
            namespace: "default".to_owned(),
            name: "api-0".to_owned(),
            pod_uid: "u1".parse().unwrap(),
            inbound_mode: InboundMode::Strict,
            ports: Vec::new(),
            rate_limits,
            zone: String::new(),
            node: String::new(),
            probes: NodeProbes::default(),
            access_log: Default::default(),
        };
        let one = RateLimit {
            port: None,
            requests: 1,
            interval: Duration::from_secs(60),
            burst: 1,
            scope: RateLimitScope::Workload,
        };
        let take = || limits.take(80, None, Instant::now()).is_ok();
        assert!(take() && take(), "there is no limit yet");
        writer.set_workload(workload(vec![one]));
        assert!(take() && !take());
        writer.set_workload(workload(Vec::new()));
        assert!(take());
    }
}
