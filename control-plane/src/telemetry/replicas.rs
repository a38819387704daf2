//! Asks the other replicas for what their proxies told them: each proxy tells one of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use heddle_proto::telemetry as wire;
use heddle_proto::telemetry::share_client::ShareClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tracing::debug;

use crate::peers::others::{self, Surroundings};
use crate::snapshot::Snapshot;

/// The other replicas.
#[derive(Debug)]
pub struct Replicas {
    surroundings: Surroundings,
    known: Mutex<BTreeMap<SocketAddr, ShareClient<Channel>>>,
}

/// What they said.
#[derive(Debug, Default)]
pub struct Heard {
    /// One of each that answered.
    pub shares: Vec<wire::QueryResponse>,
    /// Addresses of those that did not.
    pub silent: Vec<String>,
}

impl Replicas {
    /// Nobody was asked yet.
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, known: Mutex::default() }
    }

    /// Asks them beside one another.
    ///
    /// Cancel safe: yes.
    pub async fn ask(&self, request: &wire::QueryRequest, snapshot: &Snapshot) -> Heard {
        let asking = self.clients(snapshot).into_iter().map(|(address, mut client)| {
            let request = request.clone();
            async move { (address, timeout(ANSWER_TIMEOUT, client.query_share(request)).await) }
        });
        let mut heard = Heard::default();
        for (address, answer) in join_all(asking).await {
            match answer {
                Ok(Ok(share)) => heard.shares.push(share.into_inner()),
                Ok(Err(status)) => {
                    let error = status.message();
                    debug!(peer = %address, error, "a replica does not tell its traffic");
                    heard.silent.push(address.to_string());
                }
                Err(_) => {
                    debug!(peer = %address, "a replica does not tell its traffic in time");
                    heard.silent.push(address.to_string());
                }
            }
        }
        heard
    }

    fn clients(&self, snapshot: &Snapshot) -> BTreeMap<SocketAddr, ShareClient<Channel>> {
        let addresses = self.surroundings.addresses(snapshot);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|address, _| addresses.contains(address));
        for address in addresses {
            let credentials = self.surroundings.credentials.clone();
            known.entry(address).or_insert_with(|| {
                ShareClient::new(others::channel(address, credentials))
                    .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
            });
        }
        known.clone()
    }
}

/// People wait for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Some ten thousand edges, each with a histogram.
const MESSAGE_LIMIT_BYTES: usize = 16 << 20;
