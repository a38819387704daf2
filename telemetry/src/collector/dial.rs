//! A connection to a collector: resolve, connect with the mark, and encrypt if its address says so.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heddle_tls::collector::{CollectorTls, CollectorTlsError};
use http::uri::Scheme;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::settings::{CollectorSettings, Protocol};

/// Opens connections to one collector.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    host: String,
    port: u16,
    tls: Option<CollectorTls>,
    mark: Option<u32>,
}

/// A connection, encrypted or not.
pub(super) type Stream = Box<dyn Io>;

/// What bytes are read from and written to.
pub(super) trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Io for T {}

/// Why there is no connection, or can be none.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A certificate or key cannot be read.
    #[error("cannot read {file}")]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// None of the system's files with authorities is there.
    #[error("no authority is trusted: name a file by OTEL_EXPORTER_OTLP_CERTIFICATE")]
    NoAuthorities,
    /// The certificates cannot be used, or the handshake failed.
    #[error("TLS failed")]
    Tls(#[from] CollectorTlsError),
    /// The name cannot be resolved.
    #[error("cannot resolve {host}")]
    Resolve {
        /// As set.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has no address, or none that can be connected to.
    #[error("cannot connect to {host}")]
    Tcp {
        /// As set.
        host: String,
        /// Why, of the last address.
        #[source]
        source: io::Error,
    },
}

impl Dialer {
    pub(super) fn new(settings: &CollectorSettings, mark: Option<u32>) -> Result<Self, DialError> {
        let endpoint = &settings.endpoint;
        let is_encrypted = endpoint.scheme() == Some(&Scheme::HTTPS);
        let host = endpoint.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let usual = match (is_encrypted, settings.protocol) {
            (true, _) => 443,
            (false, _) => 80,
        };
        let tls = if is_encrypted { Some(tls(settings)?) } else { None };
        Ok(Self { host, port: endpoint.port_u16().unwrap_or(usual), tls, mark })
    }

    /// One new connection.
    pub(super) async fn connect(&self) -> Result<Stream, DialError> {
        let stream = self.tcp().await?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => Ok(Box::new(tls.connect(stream, &self.host, HANDSHAKE_TIMEOUT).await?)),
        }
    }

    async fn tcp(&self) -> Result<TcpStream, DialError> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|source| DialError::Resolve { host: self.host.clone(), source })?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        for address in addresses.take(ADDRESS_LIMIT) {
            match tokio::time::timeout(ADDRESS_TIMEOUT, self.open(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(DialError::Tcp { host: self.host.clone(), source: last })
    }

    async fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        if let Some(mark) = self.mark {
            SockRef::from(&socket).set_mark(mark)?;
        }
        socket.set_nodelay(true)?;
        socket.connect(address).await
    }
}

fn tls(settings: &CollectorSettings) -> Result<CollectorTls, DialError> {
    let read = |file: &Path| {
        std::fs::read(file).map_err(|source| DialError::File { file: file.to_owned(), source })
    };
    let authorities = match &settings.certificate {
        Some(file) => read(file)?,
        None => {
            let known = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|file| file.exists());
            read(known.ok_or(DialError::NoAuthorities)?)?
        }
    };
    let client = match &settings.client {
        Some(files) => Some((read(&files.certificate)?, read(&files.key)?)),
        None => None,
    };
    let client = client.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
    let protocol: &[u8] = match settings.protocol {
        Protocol::Grpc => b"h2",
        Protocol::HttpProtobuf => b"http/1.1",
    };
    Ok(CollectorTls::new(&authorities, client, protocol)?)
}

/// Where distributions keep the authorities that they trust: Debian, Fedora, Alpine.
const SYSTEM_AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// For one of several addresses.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// How many of a name's addresses are tried.
const ADDRESS_LIMIT: usize = 4;
/// For the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
