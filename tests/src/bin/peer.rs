//! A peer without scruples: connects to a proxy, or serves in a proxy's place, with any certificate, and
//! believes whoever answers. The tests show with it that proxies are not like this.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Parser};
use heddle_tests::believer::{certificate, client_config};
use heddle_tests::peer::Outcome;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[derive(Debug, Parser)]
enum Arguments {
    /// Sends standard input and prints what became of it, as JSON
    Connect(Connect),
    /// Answers every request with 200
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Connect {
    #[arg(long)]
    address: String,
    #[arg(long)]
    server_name: String,
    #[arg(long, requires = "key")]
    chain: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Serve {
    #[arg(long)]
    port: u16,
    /// The protocol in the ALPN.
    #[arg(long, default_value = "heddle/h1")]
    protocol: String,
    #[arg(long)]
    chain: PathBuf,
    #[arg(long)]
    key: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Connect(connect) => {
            let mut request = Vec::new();
            std::io::stdin().read_to_end(&mut request)?;
            let mut outcome = Outcome::default();
            let exchanged = exchange(&connect, &request, &mut outcome);
            match tokio::time::timeout(LIMIT, exchanged).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => outcome.error = Some(format!("{error:#}")),
                Err(_) => outcome.error = Some(format!("nothing within {LIMIT:?}")),
            }
            Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(&outcome)?)?)
        }
        Arguments::Serve(serve) => answer_everything(&serve).await,
    }
}

async fn exchange(connect: &Connect, request: &[u8], outcome: &mut Outcome) -> Result<()> {
    let presented = connect.chain.as_deref().zip(connect.key.as_deref());
    let mut config = client_config(presented)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let stream = TcpStream::connect(&connect.address).await.context("cannot connect")?;
    let name = ServerName::try_from(connect.server_name.clone())?;
    let mut stream =
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("no handshake")?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    outcome.certificate = certificates.first().map(|certificate| STANDARD.encode(certificate));
    // With TLS 1.3 a client is refused only after its own handshake is over: the answer tells.
    stream.write_all(request).await.context("cannot send")?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    outcome.answer = String::from_utf8_lossy(&answer).into_owned();
    read.map(drop).context("cannot receive")
}

async fn answer_everything(serve: &Serve) -> Result<()> {
    let (chain, key) = certificate(&serve.chain, &serve.key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![serve.protocol.clone().into_bytes()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("::", serve.port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // One after the other, each for a while: a test has one client.
        match tokio::time::timeout(LIMIT, answer(&acceptor, stream)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => writeln!(std::io::stderr(), "connection failed: {error:#}")?,
            Err(elapsed) => writeln!(std::io::stderr(), "connection given up: {elapsed}")?,
        }
    }
}

async fn answer(acceptor: &TlsAcceptor, stream: TcpStream) -> Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    stream.write_all(ANSWER).await?;
    Ok(stream.shutdown().await?)
}

/// What proxies speak with each other about HTTP/1.
const PROTOCOL: &[u8] = b"heddle/h1";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\nx-shop-version: impostor\r\n\r\nimpostor";
const LIMIT: Duration = Duration::from_secs(10);
