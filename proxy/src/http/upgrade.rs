//! Tunnels: a request that asks for the connection itself (WebSocket, CONNECT), after both sides
//! have agreed.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::balance::endpoint::InFlight;
use crate::connect::Dialer;
use crate::http::breaker::Breaker;
use crate::http::pool::StreamPlace;
use crate::metrics::Direction;
use crate::tcp::{self, CopyError};

/// Copies between the two sides as soon as both have let go of HTTP, until both ends close; if one
/// breaks, or both are silent for as long as connections carried as bytes may be, they are reset.
pub fn tunnel(dialer: &Dialer, direction: Direction, ends: Ends, tunnelled: Tunnelled) {
    let bytes = dialer.metrics.bytes(direction);
    let open = dialer.metrics.open.begin(direction);
    let (metrics, idle) = (Arc::clone(&dialer.metrics), dialer.settings.opaque_idle);
    dialer.tasks.spawn_quiet(async move {
        let (client, server) = match tokio::try_join!(ends.client.upgrade, ends.server.upgrade) {
            Ok(both) => both,
            Err(error) => {
                debug!(%error, "upgrade failed");
                return;
            }
        };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        if let Err(error) = tcp::copy(&mut client, &mut server, &bytes, idle).await {
            if let CopyError::Idle(_) = error {
                metrics.count_limit(direction, "tunnel_idle");
            }
            debug!(%error, "tunnel ended");
            ends.client.breaker.trip();
            ends.server.breaker.trip();
        }
        drop((open, tunnelled));
    });
}

/// Both ends of a tunnel.
#[derive(Debug)]
pub struct Ends {
    /// Who asked.
    pub client: End,
    /// Who agreed.
    pub server: End,
}

/// One end of a tunnel.
#[derive(Debug)]
pub struct End {
    /// The connection, once HTTP on it has ended.
    pub upgrade: OnUpgrade,
    /// The connection's.
    pub breaker: Breaker,
}

/// What a tunnel holds until it ends.
#[derive(Debug)]
pub struct Tunnelled {
    /// The load.
    _in_flight: InFlight,
    /// Its place on the connection to the server, if others share that.
    _place: Option<StreamPlace>,
}

impl Tunnelled {
    /// Held until dropped.
    pub fn new(in_flight: InFlight, place: Option<StreamPlace>) -> Self {
        Self { _in_flight: in_flight, _place: place }
    }
}
