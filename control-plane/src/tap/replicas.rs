//! The other replicas' share of a tap: each proxy is attached to one replica.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use heddle_proto::tap as wire;
use heddle_proto::tap::tap_share_client::TapShareClient;
use heddle_runtime::tasks::Tasks;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tracing::debug;

use crate::peers::others::{self, Surroundings};
use crate::snapshot::Snapshot;

/// The other replicas. Their connections are for taps alone: other questions need not wait for them.
#[derive(Debug)]
pub struct Replicas {
    surroundings: Surroundings,
    known: Mutex<BTreeMap<SocketAddr, TapShareClient<Channel>>>,
    tasks: Tasks,
}

/// The shares of one tap. Dropped: they end.
#[derive(Debug)]
pub struct Shares {
    replicas: Arc<Replicas>,
    request: wire::WatchRequest,
    told: mpsc::Sender<(SocketAddr, Heard)>,
    /// Each has its guard as long as its replica is there.
    open: BTreeMap<SocketAddr, DropGuard>,
    standings: BTreeMap<SocketAddr, Option<wire::Standing>>,
}

/// What is heard of one replica.
#[derive(Debug)]
pub enum Heard {
    /// Of one of its proxies.
    Exchange(Box<wire::Exchange>),
    /// How it is.
    Standing(wire::Standing),
    /// It does not answer, or not any more.
    Silent,
}

impl Replicas {
    /// Nobody was asked yet.
    pub fn new(surroundings: Surroundings, tasks: Tasks) -> Self {
        Self { surroundings, known: Mutex::default(), tasks }
    }

    fn client(&self, address: SocketAddr) -> TapShareClient<Channel> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let client = known.entry(address).or_insert_with(|| {
            let credentials = self.surroundings.credentials.clone();
            TapShareClient::new(others::channel(address, credentials))
                .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
        });
        client.clone()
    }

    fn addresses(&self, snapshot: &Snapshot) -> BTreeSet<SocketAddr> {
        let addresses = self.surroundings.addresses(snapshot);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|address, _| addresses.contains(address));
        addresses
    }
}

impl Shares {
    /// None is open yet. What is heard goes into `told`, and whoever reads it slowly lets the other replica wait.
    pub fn new(
        replicas: Arc<Replicas>,
        request: wire::WatchRequest,
        told: mpsc::Sender<(SocketAddr, Heard)>,
    ) -> Self {
        Self { replicas, request, told, open: BTreeMap::new(), standings: BTreeMap::new() }
    }

    /// Opens shares of replicas that have none, and ends those of replicas that are gone.
    pub fn follow(&mut self, snapshot: &Snapshot) {
        let addresses = self.replicas.addresses(snapshot);
        self.open.retain(|address, _| addresses.contains(address));
        self.standings.retain(|address, _| addresses.contains(address));
        for address in addresses {
            if self.open.contains_key(&address) {
                continue;
            }
            let ended = CancellationToken::new();
            self.open.insert(address, ended.clone().drop_guard());
            self.standings.insert(address, None);
            let share = Share {
                address,
                client: self.replicas.client(address),
                request: self.request.clone(),
                told: self.told.clone(),
            };
            self.replicas.tasks.spawn("tap.share", async move {
                tokio::select! {
                    () = share.run() => {}
                    () = ended.cancelled() => {}
                }
            });
        }
    }

    /// Takes note of how a replica is. One that is silent is asked again when it is followed next.
    pub fn note(&mut self, address: SocketAddr, standing: Option<wire::Standing>) {
        if standing.is_none() {
            self.open.remove(&address);
        }
        self.standings.insert(address, standing);
    }

    /// Adds how they are.
    pub fn add_to(&self, sum: &mut wire::Standing) {
        for (address, standing) in &self.standings {
            match standing {
                Some(standing) => {
                    sum.proxies = sum.proxies.saturating_add(standing.proxies);
                    sum.left_out = sum.left_out.saturating_add(standing.left_out);
                }
                None => sum.silent_replicas.push(address.to_string()),
            }
        }
    }
}

struct Share {
    address: SocketAddr,
    client: TapShareClient<Channel>,
    request: wire::WatchRequest,
    told: mpsc::Sender<(SocketAddr, Heard)>,
}

impl Share {
    async fn run(mut self) {
        let opened = timeout(OPEN_TIMEOUT, self.client.watch_share(self.request.clone())).await;
        match opened {
            Ok(Ok(stream)) => self.pass_on(stream.into_inner()).await,
            Ok(Err(status)) => {
                debug!(peer = %self.address, error = status.message(), "a replica does not share a tap");
            }
            Err(_) => debug!(peer = %self.address, "a replica does not share a tap in time"),
        }
        // Gone with the tap, or told.
        let _ = self.told.send((self.address, Heard::Silent)).await;
    }

    async fn pass_on(&self, mut stream: tonic::Streaming<wire::Event>) {
        use wire::event::Event;
        while let Ok(Some(event)) = stream.message().await {
            let heard = match event.event {
                Some(Event::Exchange(exchange)) => Heard::Exchange(Box::new(exchange)),
                Some(Event::Standing(standing)) => Heard::Standing(standing),
                Some(Event::Ended(_)) => return,
                // A later version's.
                None => continue,
            };
            if self.told.send((self.address, heard)).await.is_err() {
                return;
            }
        }
    }
}

/// People wait for it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Of one exchange with all its headers.
const MESSAGE_LIMIT_BYTES: usize = 1 << 20;
