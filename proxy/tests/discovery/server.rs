//! A control plane for tests: the real services over real TLS, whose answers the test chooses.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use heddle_model::identity::{PodUid, SpiffeId, TrustDomain};
use heddle_proto::discovery as wire;
use heddle_proto::discovery::discovery_server::{Discovery, DiscoveryServer};
use heddle_proto::identity::identity_server::{Identity, IdentityServer};
use heddle_proto::identity::{
    AcknowledgeRequest, AcknowledgeResponse, CertifyRequest, CertifyResponse, TrustBundle,
    WatchTrustBundleRequest,
};
use heddle_runtime::clock;
use heddle_tls::authority::Authority;
use heddle_tls::certificate::CertificateRequest;
use heddle_tls::credentials::{self, Credentials, CredentialsWriter};
use heddle_tls::peer::PeerIdentity;
use heddle_tls::stream::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

/// What the test decides, and what it sees.
pub(crate) struct Shared {
    pub(crate) authority: Mutex<Authority>,
    pub(crate) trust_domain: TrustDomain,
    /// How much of a certificate's life is left when it is issued; `None`: none is issued.
    pub(crate) life_left: Mutex<Option<Duration>>,
    /// Every request for a certificate.
    pub(crate) requests: Mutex<Vec<CertifyRequest>>,
    /// What proxies told that they go by.
    pub(crate) acknowledged: Mutex<Vec<AcknowledgeRequest>>,
    /// Of the moment, for those that watch.
    bundles: watch::Sender<()>,
}

/// One stream of one proxy.
pub(crate) struct TestStream {
    pub(crate) peer: PeerIdentity,
    pub(crate) sender: mpsc::Sender<Result<wire::ControlMessage, Status>>,
    pub(crate) received: Streaming<wire::ProxyMessage>,
}

/// A running control plane; it dies with all its connections when it is dropped.
pub(crate) struct TestControlPlane {
    pub(crate) address: SocketAddr,
    pub(crate) streams: mpsc::Receiver<TestStream>,
    runtime: Option<Runtime>,
    writer: CredentialsWriter,
}

impl Shared {
    pub(crate) fn new(life_left: Duration) -> Arc<Self> {
        let trust_domain: TrustDomain = "cluster.local".parse().unwrap();
        let authority = Authority::create(trust_domain.clone(), clock::now()).unwrap();
        Arc::new(Self {
            authority: Mutex::new(authority),
            trust_domain,
            life_left: Mutex::new(Some(life_left)),
            requests: Mutex::default(),
            acknowledged: Mutex::default(),
            bundles: watch::channel(()).0,
        })
    }

    /// The authority of the moment.
    pub(crate) fn authority(&self) -> Authority {
        self.authority.lock().unwrap().clone()
    }

    /// Another one from now on, for control planes that start later.
    pub(crate) fn rotate(&self, authority: Authority) {
        *self.authority.lock().unwrap() = authority;
    }

    fn certify_control_plane(&self, writer: &CredentialsWriter) {
        writer.set_bundle(self.authority().bundle().clone()).unwrap();
        let request = CertificateRequest::generate().unwrap();
        let own = PeerIdentity::control_plane(&self.trust_domain).unwrap();
        let chain = self.issue(request.der(), &own, Duration::from_secs(3600));
        writer.set_certificate(request.into_leaf(chain).unwrap()).unwrap();
    }

    fn bundle(&self) -> TrustBundle {
        TrustBundle {
            trust_domain: self.trust_domain.to_string(),
            anchors_der: self.authority().bundle().anchors_der().map(<[u8]>::to_vec).collect(),
        }
    }

    /// Issues a certificate of thirty seconds, so long ago that only `left` of it is left.
    fn issue(&self, csr: &[u8], peer: &PeerIdentity, left: Duration) -> Vec<Vec<u8>> {
        let lifetime = Duration::from_secs(30).max(left);
        let now = clock::now() - (lifetime - left);
        let PeerIdentity { identity, pod_uid } = peer;
        self.authority().issue(csr, identity, pod_uid, lifetime, now).unwrap()
    }
}

impl TestControlPlane {
    /// Listens on a port; zero for any that is free.
    pub(crate) fn start(shared: &Arc<Shared>, port: u16) -> Self {
        let (writer, credentials) = credentials::channel(shared.trust_domain.clone());
        shared.certify_control_plane(&writer);

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (streams, opened) = mpsc::channel(16);
        let listener = {
            let _guard = runtime.enter();
            let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
            listener.set_nonblocking(true).unwrap();
            TcpListener::from_std(listener).unwrap()
        };
        let address = listener.local_addr().unwrap();
        let (accepted, incoming) = mpsc::channel(16);
        runtime.spawn(accept(listener, credentials, accepted));
        let server = Server::builder()
            .add_service(IdentityServer::new(TestIdentity(Arc::clone(shared))))
            .add_service(DiscoveryServer::new(TestDiscovery(streams)))
            .serve_with_incoming(ReceiverStream::new(incoming));
        runtime.spawn(async move { server.await.unwrap() });
        Self { address, streams: opened, runtime: Some(runtime), writer }
    }

    /// Has another authority from now on, and tells those that watch.
    pub(crate) fn rotate(&self, shared: &Shared, authority: Authority) {
        shared.rotate(authority);
        shared.certify_control_plane(&self.writer);
        shared.bundles.send_replace(());
    }

    /// The next stream that a proxy opens.
    pub(crate) async fn stream(&mut self) -> TestStream {
        let stream = tokio::time::timeout(PATIENCE, self.streams.recv()).await;
        stream.expect("no stream was opened").unwrap()
    }
}

impl Drop for TestControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It must not be waited for on a thread that runs another one.
            let ending = std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE));
            ending.join().unwrap();
        }
    }
}

impl TestStream {
    /// The next message, as text: kind, resource, and the versions in it.
    pub(crate) async fn next(&mut self) -> wire::proxy_message::Message {
        let message = tokio::time::timeout(PATIENCE, self.received.message()).await;
        message.expect("no message came").unwrap().unwrap().message.unwrap()
    }

    pub(crate) async fn update(&self, update: wire::Update) {
        let message = wire::control_message::Message::Update(update);
        self.sender.send(Ok(wire::ControlMessage { message: Some(message) })).await.unwrap();
    }
}

async fn accept(
    listener: TcpListener,
    credentials: Credentials,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // A handshake that fails is the proxy's to repeat.
        if let Ok((stream, peer)) = heddle_tls::control_plane::accept(stream, &credentials).await {
            accepted.send(Ok(Connection { stream, peer })).await.unwrap();
        }
    }
}

struct TestIdentity(Arc<Shared>);

#[tonic::async_trait]
impl Identity for TestIdentity {
    type WatchTrustBundleStream = ReceiverStream<Result<TrustBundle, Status>>;

    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let request = request.into_inner();
        let left = *self.0.life_left.lock().unwrap();
        let left = left.ok_or_else(|| Status::unauthenticated("not now"))?;
        let identity = SpiffeId::new(self.0.trust_domain.clone(), "default", "api").unwrap();
        let peer = PeerIdentity { identity, pod_uid: pod_uid() };
        let chain_der = self.0.issue(&request.csr_der, &peer, left);
        self.0.requests.lock().unwrap().push(request);
        Ok(Response::new(CertifyResponse { chain_der, trust_bundle: Some(self.0.bundle()) }))
    }

    async fn watch_trust_bundle(
        &self,
        _: Request<WatchTrustBundleRequest>,
    ) -> Result<Response<Self::WatchTrustBundleStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let (shared, mut changes) = (Arc::clone(&self.0), self.0.bundles.subscribe());
        tokio::runtime::Handle::current().spawn(async move {
            while sender.send(Ok(shared.bundle())).await.is_ok() && changes.changed().await.is_ok()
            {
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        let peer = request.extensions().get::<Option<PeerIdentity>>().cloned().flatten();
        peer.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        self.0.acknowledged.lock().unwrap().push(request.into_inner());
        Ok(Response::new(AcknowledgeResponse {}))
    }
}

struct TestDiscovery(mpsc::Sender<TestStream>);

#[tonic::async_trait]
impl Discovery for TestDiscovery {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<wire::ControlMessage, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<wire::ProxyMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let peer = request.extensions().get::<Option<PeerIdentity>>().cloned().flatten();
        let peer = peer.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let (sender, receiver) = mpsc::channel(16);
        let stream = TestStream { peer, sender, received: request.into_inner() };
        self.0.send(stream).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// What tonic needs to know of a connection.
struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Option<PeerIdentity>,
}

impl Connected for Connection {
    type ConnectInfo = Option<PeerIdentity>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

pub(crate) fn pod_uid() -> PodUid {
    "uid-1".parse().unwrap()
}

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
