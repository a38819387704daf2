//! The cluster's name server: names of services and pods, from the API server's objects, over UDP and TCP.
//!
//! It knows what Kubernetes' specification of service discovery says of forward lookups, and nothing of the world outside,
//! which cannot be reached from a cluster.

pub mod message;
pub mod records;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use heddle_runtime::tasks::Tasks;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use message::{Message, UDP_LIMIT_BYTES};
use records::ServiceView;

/// Serves until it is killed. Listens once it knows what there is.
pub async fn run(listen: SocketAddr, kubeconfig: &Path) -> Result<()> {
    let tasks = Tasks::new();
    let client = crate::client::from_kubeconfig(kubeconfig).await?;
    let zone = Arc::new(Zone::watch(&client, &tasks).await?);
    let socket = UdpSocket::bind(listen).await.with_context(|| format!("bind {listen}"))?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("bind {listen}"))?;
    tasks.spawn("dns.streams", serve_streams(listener, zone.clone(), tasks.clone()));
    let mut buffer = vec![0; MESSAGE_LIMIT_BYTES];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // What ICMP said about an earlier answer.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error).context("receive"),
        };
        let query = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = zone.answer(query, UDP_LIMIT_BYTES) {
            // The resolver asks again.
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

struct Zone {
    services: Store<Service>,
    slices: Store<EndpointSlice>,
}

impl Zone {
    async fn watch(client: &Client, tasks: &Tasks) -> Result<Self> {
        let services = reflect::<Service>(client, "dns.services", tasks);
        let slices = reflect::<EndpointSlice>(client, "dns.endpoints", tasks);
        services.wait_until_ready().await.context("list the services")?;
        slices.wait_until_ready().await.context("list the endpoints")?;
        Ok(Self { services, slices })
    }

    /// None for what is no question.
    fn answer(&self, query: &[u8], limit_bytes: usize) -> Option<Vec<u8>> {
        let query = Message::parse(query)?;
        let outcome = records::resolve(&query.question, |namespace, name| {
            let service = self.services.get(&ObjectRef::new(name).within(namespace))?;
            let slices = self.slices.state();
            Some(ServiceView::new(&service, slices.iter().map(AsRef::as_ref)))
        });
        Some(query.answer(&outcome, limit_bytes))
    }
}

fn reflect<K>(client: &Client, task: &'static str, tasks: &Tasks) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: serde::de::DeserializeOwned,
{
    let (store, writer) = reflector::store();
    let events = watcher::watcher(Api::<K>::all(client.clone()), watcher::Config::default());
    let stream = events.default_backoff().reflect(writer);
    tasks.spawn(task, async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            if let Err(error) = event {
                eprintln!("{task}: {error}");
            }
        }
    });
    store
}

async fn serve_streams(listener: TcpListener, zone: Arc<Zone>, tasks: Tasks) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let zone = zone.clone();
                tasks.spawn_quiet(async move {
                    // A client that stays silent or says nonsense is left.
                    let _ = tokio::time::timeout(STREAM_LIMIT, converse(stream, &zone)).await;
                });
            }
            Err(error) => {
                eprintln!("cannot accept: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// RFC 1035, 4.2.2: each message with its length before it.
async fn converse(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
        let Some(answer) = zone.answer(&query, MESSAGE_LIMIT_BYTES) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
}

/// Where it listens on the first node, and the port of the service `kube-dns`.
pub const PORT: u16 = 53;
const MESSAGE_LIMIT_BYTES: usize = 65_535;
const STREAM_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
