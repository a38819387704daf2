//! Connections to endpoints that are carried as bytes: a turn of a warm one, or a new one, which is warm
//! from then on if the peer's proxy knows how. Which are kept is in pool.rs.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::endpoint::Endpoint;
use heddle_model::policy::KeepAlive;
use heddle_runtime::tasks::Tasks;
use heddle_tls::alpn::InnerProtocol;
use heddle_tls::credentials::Credentials;
use heddle_tls::stream::TlsStream;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::connect::{ConnectError, Dialer, Transport, retire_at, tune};
use crate::pressure::Pressure;
use crate::warm::carrier::{Beginning, Carrier};
use crate::warm::pool::{Given, Kept, Moment, Peer, Pool};
use crate::warm::term::Term;

/// A connection to another proxy.
pub type PeerStream = TlsStream<TcpStream>;

/// A turn, and what it takes to keep its connection.
#[derive(Debug)]
pub struct Turn {
    /// Carries the bytes.
    pub carrier: Carrier<PeerStream>,
    peer: Peer,
    term: Term,
    keep_alive: KeepAlive,
}

impl Dialer {
    /// A connection to an endpoint for bytes, with exactly the peer that is expected there. If a proxy
    /// is expected there is no way back to plain text.
    pub async fn carrying(
        &self,
        endpoint: &Endpoint,
        keep_alive: &KeepAlive,
    ) -> Result<Transport, ConnectError> {
        let address = endpoint.address;
        let Some(target) = self.peer_target(endpoint)? else {
            return Ok(Transport::Plain(self.tcp(address, keep_alive).await?));
        };
        // Nobody would have us, on a new connection: so not on one of before either.
        let _until = self.good_until()?;
        if self.settings.warm_connections == 0 {
            let offered = [InnerProtocol::Tcp];
            let connecting = Box::pin(self.mutual(address, &target, &offered, keep_alive));
            let (connected, _ends) = connecting.await?;
            return Ok(Transport::Mutual(Box::new(connected.stream)));
        }
        let peer = Peer { target, ip: address.ip() };
        if let Some(turn) = self.take_warm(&peer, keep_alive).await {
            return Ok(Transport::Warm(Box::new(turn)));
        }
        // Before the handshake: one that was made under other credentials is not kept.
        let generation = self.credentials.generation();
        let offered = [InnerProtocol::Warm, InnerProtocol::Tcp];
        // Boxed: the connection's future would hold all of it, also where there is a warm one.
        let connecting = Box::pin(self.mutual(address, &peer.target, &offered, keep_alive));
        let (connected, ends) = connecting.await?;
        Ok(match connected.protocol {
            InnerProtocol::Warm => {
                self.metrics.warm.opened.inc();
                let term = Term::new(generation, Instant::now(), ends.map(retire_at));
                let carrier = Carrier::opening(connected.stream);
                Transport::Warm(Box::new(Turn { carrier, peer, term, keep_alive: *keep_alive }))
            }
            // An older proxy, or one that is told not to.
            InnerProtocol::Tcp
            | InnerProtocol::Http1
            | InnerProtocol::SharedHttp1
            | InnerProtocol::Http2 => Transport::Mutual(Box::new(connected.stream)),
        })
    }

    /// A turn of a connection that is kept; `None`: there is none, or it was lost while it was idle, and
    /// nothing was sent but the wish for one.
    async fn take_warm(&self, peer: &Peer, keep_alive: &KeepAlive) -> Option<Turn> {
        let kept = self.warm.take(peer, self.moment(), Carrier::is_still)?;
        let mut carrier = Carrier::opening(kept.stream);
        match timeout(ACCEPT_PATIENCE, carrier.begun()).await {
            Ok(Ok(Beginning::Begun)) => {}
            Ok(Ok(Beginning::Closed)) => {
                self.metrics.warm.lost.inc();
                return None;
            }
            Ok(Err(error)) => {
                debug!(%error, dst = %peer.ip, "a warm connection was lost");
                self.metrics.warm.lost.inc();
                return None;
            }
            Err(_elapsed) => {
                debug!(dst = %peer.ip, "nobody answers on a warm connection");
                // The others would be waited for in vain, too.
                self.warm.forget(peer);
                self.metrics.warm.lost.inc();
                return None;
            }
        }
        if kept.keep_alive != *keep_alive && tune(carrier.stream().get_ref().0, keep_alive).is_err()
        {
            return None;
        }
        self.metrics.warm.reused.inc();
        Some(Turn { carrier, peer: peer.clone(), term: kept.term, keep_alive: *keep_alive })
    }

    /// Takes a connection back whose bytes were all carried. One that another turn can be made of is
    /// kept, all others are closed.
    pub fn give_back(&self, transport: Transport) {
        let turn = match transport {
            Transport::Warm(turn) => *turn,
            Transport::Plain(_) | Transport::Mutual(_) | Transport::Channel(_) => return,
        };
        let Turn { carrier, peer, term, keep_alive } = turn;
        let Some(stream) = carrier.finish() else { return };
        let kept = Kept { stream, term, keep_alive };
        match self.warm.give_back(peer, kept, self.moment()) {
            Given::Kept | Given::Closed => {}
            Given::First => {
                let (tasks, pressure) = (self.tasks.clone(), self.pressure.clone());
                let looked =
                    look_after(Arc::clone(&self.warm), self.credentials.clone(), tasks, pressure);
                self.tasks.spawn_quiet(looked);
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment { now: Instant::now(), generation: self.credentials.generation() }
    }
}

/// Closes what is idle for long, not fit for another turn, or lost, until nothing is left or the process
/// drains.
async fn look_after(
    pool: Arc<Pool<PeerStream>>,
    mut credentials: Credentials,
    tasks: Tasks,
    pressure: Pressure,
) {
    loop {
        tokio::select! {
            () = tasks.drain().cancelled() => return pool.close(),
            () = credentials.changed() => {}
            () = pressure.critical() => pool.clear(),
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        }
        let moment = Moment { now: Instant::now(), generation: credentials.generation() };
        if pool.sweep(moment, Carrier::is_still) {
            return;
        }
    }
}

/// How long a peer may take to say that it takes a turn on, before it is called anew: much longer than a
/// busy one takes, and much less than [`crate::listen::CONNECT_TIMEOUT`], which then begins.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(1);
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
