//! Plays slow peers: many connections of one shape, each until the other side has ended it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::adversary::frames;
use crate::adversary::shape::{Cover, Reading, Script, Share};

/// How proxies are called.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// With the certificate to present, and without protocols.
    pub config: rustls::ClientConfig,
    /// The SNI.
    pub server_name: String,
}

/// What became of the connections of one shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How many were made.
    pub made: usize,
    /// How many the other side ended.
    pub ended: usize,
    /// After how long the first was.
    pub first_ms: u64,
    /// After how long the last was.
    pub last_ms: u64,
    /// Why one could not be made, if so.
    pub error: Option<String>,
}

/// Plays one script on so many connections, each for at most `limit`.
pub async fn play(
    script: Script,
    mesh: Option<Mesh>,
    address: &str,
    (connections, limit): (usize, Duration),
) -> Ended {
    let (script, mesh) = (Arc::new(script), Arc::new(mesh));
    let mut playing = tokio::task::JoinSet::new();
    for _connection in 0..connections {
        let (script, mesh, address) = (script.clone(), mesh.clone(), address.to_owned());
        playing.spawn(async move {
            let stream = connect(&script, mesh.as_ref().as_ref(), &address).await?;
            Ok::<_, anyhow::Error>(ended_after(stream, &script, limit).await)
        });
        // Not all within one moment: it is not the queue of the listener that is tested.
        tokio::time::sleep(PAUSE).await;
    }
    let mut ended = Ended::default();
    let mut times = Vec::new();
    while let Some(played) = playing.join_next().await {
        match played {
            Ok(Ok(after)) => {
                ended.made += 1;
                times.extend(after);
            }
            Ok(Err(error)) => ended.error = Some(format!("{error:#}")),
            Err(error) => ended.error = Some(error.to_string()),
        }
    }
    let millis = |time: Option<&Duration>| {
        time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    ended.ended = times.len();
    (ended.first_ms, ended.last_ms) = (millis(times.iter().min()), millis(times.iter().max()));
    ended
}

trait Stream: AsyncRead + AsyncWrite + Send {
    /// Whether the other side has reset it, which those see too who do not read.
    fn is_reset(&self) -> bool;
}

impl Stream for TcpStream {
    fn is_reset(&self) -> bool {
        self.take_error().is_ok_and(|error| error.is_some())
    }
}

impl Stream for TlsStream<TcpStream> {
    fn is_reset(&self) -> bool {
        self.get_ref().0.is_reset()
    }
}

async fn connect(
    script: &Script,
    mesh: Option<&Mesh>,
    address: &str,
) -> Result<Pin<Box<dyn Stream>>> {
    let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    match script.cover {
        Cover::Plain => {
            stream.write_all(&script.opening).await?;
            Ok(Box::pin(stream))
        }
        Cover::Hello(share) => {
            let hello = hello(mesh.context("no certificate")?)?;
            let length = match share {
                Share::Half => hello.len() / 2,
                Share::Whole => hello.len(),
            };
            stream.write_all(hello.get(..length).unwrap_or_default()).await?;
            Ok(Box::pin(stream))
        }
        Cover::Mesh(protocol) => {
            let Mesh { mut config, server_name } = mesh.context("no certificate")?.clone();
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            let name = ServerName::try_from(server_name)?;
            let connector = TlsConnector::from(Arc::new(config));
            let mut stream = connector.connect(name, stream).await.context("no handshake")?;
            stream.write_all(&script.opening).await?;
            Ok(Box::pin(stream))
        }
    }
}

/// The first message of a handshake.
fn hello(mesh: &Mesh) -> Result<Vec<u8>> {
    let Mesh { mut config, server_name } = mesh.clone();
    config.alpn_protocols = vec![b"heddle/h1".to_vec()];
    let name = ServerName::try_from(server_name)?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    ensure!(hello.len() > 100, "a hello of {} bytes", hello.len());
    Ok(hello)
}

/// After how long the other side had ended the connection; `None`: not within the limit.
async fn ended_after(
    mut stream: Pin<Box<dyn Stream>>,
    script: &Script,
    limit: Duration,
) -> Option<Duration> {
    let begun = Instant::now();
    if script.closes && stream.shutdown().await.is_err() {
        return Some(begun.elapsed());
    }
    let mut drops = script.drip.iter().cycle();
    let mut interval = tokio::time::interval(DRIP_INTERVAL);
    let mut read = [0; 4096];
    let mut received = Vec::new();
    let end = tokio::time::sleep(limit);
    tokio::pin!(end);
    loop {
        let write = tokio::select! {
            () = &mut end => return None,
            length = stream.read(&mut read), if script.reading != Reading::Never => {
                let Ok(length @ 1..) = length else { return Some(begun.elapsed()) };
                answers(script.reading, read.get(..length).unwrap_or_default(), &mut received)
            }
            _ = interval.tick() => {
                if script.reading == Reading::Never && stream.is_reset() {
                    return Some(begun.elapsed());
                }
                drops.next().copied().into_iter().collect()
            }
        };
        if !write.is_empty()
            && (stream.write_all(&write).await.is_err() || stream.flush().await.is_err())
        {
            return Some(begun.elapsed());
        }
    }
}

fn answers(reading: Reading, bytes: &[u8], received: &mut Vec<u8>) -> Vec<u8> {
    if reading != Reading::Answered {
        return Vec::new();
    }
    received.extend_from_slice(bytes);
    let frames = std::iter::from_fn(|| frames::take(received));
    frames.filter_map(|frame| frames::answer(&frame)).flatten().collect()
}

const PAUSE: Duration = Duration::from_millis(1);
/// Slow, but faster than any timer.
const DRIP_INTERVAL: Duration = Duration::from_millis(200);
