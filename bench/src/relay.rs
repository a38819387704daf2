//! The bare loop: one side of mutual TLS around a copy loop. It reads no protocol, balances nothing, counts nothing: what
//! it costs is what every sidecar pays for the kernel and the cryptography.

pub mod copy;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use heddle_runtime::tasks::Tasks;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use copy::copy;

use crate::arguments::RelayArguments;
use crate::certificates::server_name;
use crate::system::{READY_PORT, Service, Side};

/// Relays until it is killed.
pub async fn relay(arguments: &RelayArguments) -> Result<()> {
    let tasks = Tasks::new();
    let end = End::new(arguments.side, &arguments.certificates)?;
    let services = Service::ALL.map(|service| {
        let (listen, dial) = match arguments.side {
            Side::Client => (service.outbound_port(), service.wire_port()),
            Side::Server => (service.inbound_port(), service.port()),
        };
        serve(listen, SocketAddr::from((arguments.peer, dial)), end.clone(), tasks.clone())
    });
    let ready = say_ready();
    tokio::try_join!(try_join_all(services), ready)?;
    Ok(())
}

/// Which end of TLS this side is.
#[derive(Clone)]
enum End {
    Client(TlsConnector, ServerName<'static>),
    Server(TlsAcceptor),
}

impl End {
    fn new(side: Side, folder: &Path) -> Result<Self> {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let provider = Arc::new(provider);
        let chain =
            vec![CertificateDer::from_pem_file(folder.join(side.name()).with_extension("pem"))?];
        let key = PrivateKeyDer::from_pem_file(folder.join(side.name()).with_extension("key"))?;
        let mut authority = RootCertStore::empty();
        authority.add(CertificateDer::from_pem_file(folder.join("authority.pem"))?)?;
        let authority = Arc::new(authority);
        Ok(match side {
            Side::Client => {
                let config = ClientConfig::builder_with_provider(provider)
                    .with_protocol_versions(&[&version::TLS13])?
                    .with_root_certificates(authority)
                    .with_client_auth_cert(chain, key)?;
                let name = ServerName::try_from(server_name(Side::Server))?;
                Self::Client(TlsConnector::from(Arc::new(config)), name)
            }
            Side::Server => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(authority, Arc::clone(&provider))
                        .build()?;
                let config = ServerConfig::builder_with_provider(provider)
                    .with_protocol_versions(&[&version::TLS13])?
                    .with_client_cert_verifier(verifier)
                    .with_single_cert(chain, key)?;
                Self::Server(TlsAcceptor::from(Arc::new(config)))
            }
        })
    }

    async fn join(&self, near: TcpStream, far: TcpStream) -> std::io::Result<()> {
        match self {
            Self::Client(connector, name) => {
                copy(near, connector.connect(name.clone(), far).await?).await
            }
            Self::Server(acceptor) => copy(acceptor.accept(near).await?, far).await,
        }
    }
}

async fn serve(port: u16, dial: SocketAddr, end: End, tasks: Tasks) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::UNSPECIFIED, port).into()).with_context(|| format!("port {port}"))?;
    let listener = socket.listen(BACKLOG)?;
    loop {
        let (near, _peer) = listener.accept().await?;
        near.set_nodelay(true)?;
        let end = end.clone();
        tasks.spawn_quiet(async move {
            let Ok(far) = TcpStream::connect(dial).await else { return };
            // A connection that breaks is for its two ends to notice.
            let _ = far.set_nodelay(true);
            let _ = end.join(near, far).await;
        });
    }
}

/// Answers every request, once the other listeners are there.
async fn say_ready() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, READY_PORT)).await?;
    loop {
        let (mut stream, _peer) = listener.accept().await?;
        // Whoever asked may have left.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    }
}

const BACKLOG: u32 = 4096;
