//! What those who have not proven who they are may hold of the server: a few connections from each
//! address, and each for a short time only.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use heddle_runtime::sources::{Place, Sources};
use heddle_tls::hello::{self, Hello};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};

/// Counts the connections of one address that are in a handshake or have no certificate.
pub fn sources() -> Sources {
    Sources::new(SOURCE_LIMIT)
}

/// Connections whose handshake is done, without a certificate. Clones share the limit.
#[derive(Clone, Debug)]
pub struct Strangers(Arc<Semaphore>);

/// What bounds one connection without a certificate.
#[derive(Debug)]
pub struct Stranger {
    deadline: Pin<Box<Sleep>>,
    _place: Place,
    _slot: OwnedSemaphorePermit,
}

impl Default for Strangers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STRANGERS_LIMIT)))
    }
}

impl Strangers {
    /// Lets one more in, unless there are too many. Its time begins now.
    pub fn admit(&self, place: Place) -> Option<Stranger> {
        let slot = Arc::clone(&self.0).try_acquire_owned().ok()?;
        let deadline = Box::pin(sleep(STRANGER_LIFETIME));
        Some(Stranger { deadline, _place: place, _slot: slot })
    }
}

impl Stranger {
    /// Fails when the time is over, and wakes the task then.
    pub fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

/// Waits until the first message of a handshake is there, or what cannot become one; false if that
/// takes too long. Reads nothing away.
///
/// Cancel safe: yes.
pub async fn says_hello(stream: &TcpStream) -> bool {
    let mut bytes = vec![0; hello::LIMIT_BYTES];
    let whole = async {
        loop {
            let Ok(length) = stream.peek(&mut bytes).await else { return };
            match hello::peek(bytes.get(..length).unwrap_or_default()) {
                // Nothing at all: the peer has ended the connection.
                Hello::NeedMore if length > 0 => sleep(PEEK_PAUSE).await,
                Hello::NeedMore | Hello::NotTls | Hello::Client { .. } => return,
            }
        }
    };
    timeout(HELLO_TIMEOUT, whole).await.is_ok()
}

/// Connections of one address that are in a handshake or have no certificate: a pod needs one.
const SOURCE_LIMIT: usize = 16;
/// Connections without a certificate at once: all proxies of a large mesh come back one after another,
/// each for one request.
const STRANGERS_LIMIT: usize = 512;
/// How long a connection without a certificate lasts: enough to ask for one.
const STRANGER_LIFETIME: Duration = Duration::from_secs(30);
/// How long the first message may take: proxies send it at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that were peeked at do not tell when more come.
const PEEK_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stranger_has_to_go_after_a_while() {
        let (sources, strangers) = (sources(), Strangers::default());
        let address = "10.0.0.1".parse().unwrap();
        let mut stranger = strangers.admit(sources.enter(address).unwrap()).unwrap();
        let mut check =
            async || std::future::poll_fn(|context| Poll::Ready(stranger.check(context))).await;
        assert!(check().await.is_ok());
        tokio::time::advance(STRANGER_LIFETIME).await;
        assert_eq!(check().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
