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
use tonic::{Response, Status};
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
#[derive(Debug)]
pub struct Heard<T> {
    /// One of each that answered.
    pub shares: Vec<T>,
    /// Addresses of those that did not.
    pub silent: Vec<String>,
}

impl Replicas {
    /// Nobody was asked yet.
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, known: Mutex::default() }
    }

    /// Asks them for their shares of a window.
    ///
    /// Cancel safe: yes.
    pub async fn ask(
        &self,
        request: &wire::QueryRequest,
        snapshot: &Snapshot,
    ) -> Heard<wire::QueryResponse> {
        self.ask_each(snapshot, |mut client| {
            let request = request.clone();
            async move { client.query_share(request).await }
        })
        .await
    }

    /// Asks them for their shares of its steps.
    ///
    /// Cancel safe: yes.
    pub async fn ask_timeline(
        &self,
        request: &wire::TimelineRequest,
        snapshot: &Snapshot,
    ) -> Heard<wire::TimelineResponse> {
        self.ask_each(snapshot, |mut client| {
            let request = request.clone();
            async move { client.timeline_share(request).await }
        })
        .await
    }

    /// Beside one another.
    async fn ask_each<T, F>(
        &self,
        snapshot: &Snapshot,
        ask: impl Fn(ShareClient<Channel>) -> F,
    ) -> Heard<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let asking = self.clients(snapshot).into_iter().map(|(address, client)| {
            let asked = ask(client);
            async move { (address, timeout(ANSWER_TIMEOUT, asked).await) }
        });
        let mut heard = Heard { shares: Vec::new(), silent: Vec::new() };
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

    /// How many there are.
    pub fn count(&self, snapshot: &Snapshot) -> usize {
        self.surroundings.addresses(snapshot).len()
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
