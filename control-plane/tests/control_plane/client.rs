//! What a proxy does, without the proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use heddle_model::resource::ResourceKey;
use heddle_proto::discovery as wire;
use heddle_proto::discovery::control_message::Message as FromControl;
use heddle_proto::discovery::discovery_client::DiscoveryClient;
use heddle_proto::discovery::proxy_message::Message;
use heddle_proto::identity::identity_client::IdentityClient;
use heddle_proto::identity::{CertifyRequest, CertifyResponse};
use heddle_tls::bundle::Bundle;
use heddle_tls::certificate::CertificateRequest;
use heddle_tls::control_plane;
use heddle_tls::credentials::{self, Credentials, CredentialsWriter};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::world::{World, trust_domain};

pub(crate) struct Client {
    writer: CredentialsWriter,
    pub(crate) credentials: Credentials,
    pub(crate) source: Ipv4Addr,
}

impl Client {
    /// Trusts the anchors that the control plane wrote, and has no certificate.
    pub(crate) fn new(world: &World) -> Self {
        let (writer, credentials) = credentials::channel(trust_domain());
        let anchors = std::fs::read(world.root.path().join("state/trust-anchors.pem")).unwrap();
        writer.set_bundle(Bundle::from_pem(trust_domain(), &anchors).unwrap()).unwrap();
        Self { writer, credentials, source: Ipv4Addr::LOCALHOST }
    }

    /// With a certificate for the pod `frontend`.
    pub(crate) async fn certified(world: &World) -> Self {
        Self::certified_by(world, "secret", Ipv4Addr::LOCALHOST).await
    }

    /// With a certificate for the pod whose token it is, and which calls from this address.
    pub(crate) async fn certified_by(world: &World, token: &str, source: Ipv4Addr) -> Self {
        let client = Self { source, ..Self::new(world) };
        let request = CertificateRequest::generate().unwrap();
        let answer = client.certify(world, token, request.der().to_vec()).await.unwrap();
        client.writer.set_certificate(request.into_leaf(answer.chain_der).unwrap()).unwrap();
        client
    }

    pub(crate) async fn certify(
        &self,
        world: &World,
        token: &str,
        csr_der: Vec<u8>,
    ) -> Result<CertifyResponse, Status> {
        let channel = self.channel(world.address()).await;
        let request = CertifyRequest { token: token.to_owned(), csr_der };
        IdentityClient::new(channel).certify(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn channel(&self, address: SocketAddr) -> Channel {
        let credentials = self.credentials.clone();
        let source = self.source;
        let connect = tower::service_fn(move |_| {
            let credentials = credentials.clone();
            async move {
                let stream = connect_from(source, address).await?;
                let stream = control_plane::connect(stream, &credentials).await;
                stream.map(TokioIo::new).map_err(std::io::Error::other)
            }
        });
        Endpoint::from_static("http://control-plane").connect_with_connector(connect).await.unwrap()
    }

    pub(crate) async fn stream(&self, world: &World) -> Result<Stream, Status> {
        let (sender, receiver) = mpsc::channel(64);
        let hello =
            Message::Hello(wire::Hello { proxy_version: "test".into(), ..wire::Hello::default() });
        sender.send(wire::ProxyMessage { message: Some(hello) }).await.unwrap();
        let mut client = DiscoveryClient::new(self.channel(world.address()).await);
        let answers = client.stream(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Stream { sender, answers })
    }
}

/// A connection from one of the loopback's addresses.
pub(crate) async fn connect_from(
    source: Ipv4Addr,
    address: SocketAddr,
) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    socket.connect(address).await
}

/// An open discovery stream.
pub(crate) struct Stream {
    sender: mpsc::Sender<wire::ProxyMessage>,
    answers: Streaming<wire::ControlMessage>,
}

impl Stream {
    pub(crate) async fn send(&self, message: Message) {
        self.sender.send(wire::ProxyMessage { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn subscribe(&self, key: &ResourceKey, known: Option<&wire::Update>) {
        self.send(Message::Subscribe(wire::Subscribe {
            key: Some(key.into()),
            known_version: known.map_or(0, |known| known.version),
            known_digest: known.map_or(0, |known| known.digest),
        }))
        .await;
    }

    /// The next update; digests are passed over.
    pub(crate) async fn update(&mut self) -> wire::Update {
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(5), self.answers.message());
            let answer = answer.await.expect("an update within five seconds").unwrap();
            if let Some(FromControl::Update(update)) = answer.unwrap().message {
                return update;
            }
        }
    }

    /// The next update, acknowledged.
    pub(crate) async fn taken(&mut self) -> wire::Update {
        let update = self.update().await;
        let ack = wire::Ack { key: update.key.clone(), version: update.version };
        self.send(Message::Ack(ack)).await;
        update
    }

    /// How the stream ends.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match self.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("ended"),
                Err(status) => return status,
            }
        }
    }
}
