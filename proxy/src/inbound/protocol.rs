//! What a connection to the workload speaks: what is declared, or what its first bytes say, or that
//! the application spoke first. What the bytes mean is decided by detect.rs.

use std::net::SocketAddr;

use bytes::BytesMut;
use heddle_model::names::Protocol;
use heddle_model::policy::KeepAlive;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use crate::detect::{Verdict, overdue};
use crate::http::HttpVersion;
use crate::inbound::Inbound;
use crate::inbound::refusal::Refusal;
use crate::opening::{self, First, Opening, Patience};
use crate::outbound::decided;

/// The application's connection, opened since it may have to speak first.
pub(super) struct Server {
    pub(super) stream: TcpStream,
    /// What it said before the client said anything.
    pub(super) first_bytes: BytesMut,
    /// It spoke, or ended, before the client said anything: this is not HTTP.
    pub(super) was_first: bool,
}

/// What a connection speaks, plain or once its TLS is taken off.
pub(super) enum Spoken {
    Http(HttpVersion),
    Opaque,
    /// The client left without a word.
    Nothing,
}

impl Inbound {
    /// Connects to the application, which may have to speak first: whoever does so decides. Gives
    /// no server if it was one of HTTP/2, and the client has spoken, or ended, since: what it said
    /// is to be looked at, and the server has to hear it from its beginning.
    pub(super) async fn ask_server<I>(
        &self,
        client: &mut I,
        first_bytes: &mut BytesMut,
        (original, declared): (SocketAddr, Protocol),
    ) -> Result<Option<Server>, Refusal>
    where
        I: AsyncRead + Unpin,
    {
        let settings = &self.dialer.settings;
        let (idle, deadline) = (settings.opaque_idle, settings.detection_timeout);
        let mut server = self.open_server(original).await?;
        let ends =
            ((&mut *client, &mut *first_bytes), (&mut server.stream, &mut server.first_bytes));
        match opening::first_to_speak(ends.0, ends.1, idle, deadline).await? {
            First::Client => Ok(Some(server)),
            First::ServerOfHttp2 if declared == Protocol::Detect => {
                drop(server);
                opening::first_bytes(client, first_bytes, idle).await?;
                Ok(None)
            }
            First::Server | First::ServerOfHttp2 => {
                self.dialer.metrics.count_detection("silent");
                server.was_first = true;
                Ok(Some(server))
            }
        }
    }

    /// What is declared, or else what the first bytes say: by now there are some, or none will come.
    pub(super) async fn find_protocol<I>(
        &self,
        client: &mut I,
        first_bytes: &mut BytesMut,
        declared: Protocol,
    ) -> Result<Spoken, Refusal>
    where
        I: AsyncRead + Unpin,
    {
        let fallback = match declared {
            Protocol::Tls | Protocol::Opaque => return Ok(Spoken::Opaque),
            Protocol::Detect => Spoken::Opaque,
            // What is no HTTP, on a port declared to be: the server answers 400.
            Protocol::Http1 => Spoken::Http(HttpVersion::Http1),
            Protocol::Http2 => Spoken::Http(HttpVersion::Http2),
        };
        let deadline = self.dialer.settings.detection_timeout;
        let patience = Patience { silence: None, deadline };
        let opening = opening::read(client, first_bytes, patience, decided)
            .await
            .map_err(Refusal::Opening)?;
        let (label, spoken) = match opening {
            Opening::Decided(Verdict::Http1) => ("http1", Spoken::Http(HttpVersion::Http1)),
            Opening::Decided(Verdict::Http2) => ("http2", Spoken::Http(HttpVersion::Http2)),
            Opening::Decided(verdict @ (Verdict::Tls | Verdict::Opaque | Verdict::NeedMore)) => {
                (verdict.as_str(), fallback)
            }
            Opening::Silent => ("silent", fallback),
            // It is late, and that is no reason to let it pass unread.
            Opening::Undecided
                if declared == Protocol::Detect && overdue(first_bytes) == Verdict::Http1 =>
            {
                ("undecided", Spoken::Http(HttpVersion::Http1))
            }
            Opening::Undecided => ("undecided", fallback),
            Opening::Ended if first_bytes.is_empty() && declared != Protocol::Detect => {
                ("ended", Spoken::Nothing)
            }
            Opening::Ended => ("ended", fallback),
        };
        self.dialer.metrics.count_detection(label);
        Ok(spoken)
    }

    /// To the pod's own address, so that an application that listens on loopback only stays as
    /// unreachable as it would be without a mesh.
    pub(super) async fn open_server(&self, original: SocketAddr) -> Result<Server, Refusal> {
        let stream =
            self.dialer.tcp(original, &KeepAlive::default()).await.map_err(Refusal::Connect)?;
        Ok(Server { stream, first_bytes: BytesMut::new(), was_first: false })
    }
}

/// Whether the application spoke, or ended, before the client said anything.
pub(super) fn was_first(server: Option<&Server>) -> bool {
    server.is_some_and(|server| server.was_first)
}
