//! What the peer of an HTTP/2 connection has said that it takes. hyper shows it on the connection's
//! future and tells nobody when it changes, so whoever wants to know has the future's owner look.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use hyper::client::conn::http2::Connection;
use hyper::rt::bounds::Http2ClientConnExec;
use hyper::rt::{Read, Write};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::http::group::{Group, Turn};

/// For whoever wants to know.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    asked: Arc<Notify>,
    extended_connect: watch::Receiver<bool>,
    /// By when the peer has said it, if it does.
    deadline: Instant,
}

/// For who drives the connection.
#[derive(Debug)]
pub struct Teller {
    asked: Arc<Notify>,
    extended_connect: watch::Sender<bool>,
}

/// Both ends, for a connection that begins now.
pub fn peer_settings() -> (Teller, PeerSettings) {
    let asked = Arc::<Notify>::default();
    let (sender, receiver) = watch::channel(false);
    let teller = Teller { asked: Arc::clone(&asked), extended_connect: sender };
    let deadline = Instant::now() + SETTINGS_LIMIT;
    (teller, PeerSettings { asked, extended_connect: receiver, deadline })
}

impl Teller {
    /// Drives the connection, in its group, to its end.
    pub async fn beside<T, B, E>(
        self,
        connection: Connection<T, B, E>,
        group: &mut Group<()>,
    ) -> hyper::Result<()>
    where
        T: Read + Write + Unpin + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
        B: Unpin + Send + 'static,
        E: Http2ClientConnExec<B, T> + Unpin,
        Connection<T, B, E>: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        loop {
            match group.run(connection.as_mut(), pin!(self.asked.notified())).await {
                Turn::Ended(ended) => return ended,
                Turn::Happened(()) => {
                    let takes = connection.is_extended_connect_protocol_enabled();
                    self.extended_connect.send_replace(takes);
                }
            }
        }
    }
}

impl PeerSettings {
    /// Whether the peer takes extended CONNECT (RFC 8441). It says so in its first frame, for which a
    /// new connection is given some time.
    pub async fn take_extended_connect(&mut self) -> bool {
        loop {
            self.asked.notify_one();
            let answered = tokio::time::timeout(SETTINGS_LIMIT, self.extended_connect.changed());
            if !matches!(answered.await, Ok(Ok(()))) {
                return false;
            }
            if *self.extended_connect.borrow_and_update() {
                return true;
            }
            if Instant::now() >= self.deadline {
                return false;
            }
            tokio::time::sleep(NEXT_LOOK).await;
        }
    }
}

/// From a connection's beginning to the peer's settings, which are the first that it says.
const SETTINGS_LIMIT: Duration = Duration::from_secs(1);
const NEXT_LOOK: Duration = Duration::from_millis(2);
