//! A proxy between a client's socket and one backend, inbound or outbound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::route::Timeouts;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::connect::Dialer;
use crate::discovery::resolved::Resolved;
use crate::http::HttpVersion;
use crate::http::frames::Budgets;
use crate::http::headers::Caller;
use crate::http::mirror::MirrorPlaces;
use crate::http::server::{Serving, serve};
use crate::http::stack::{Answering, InboundCall, OutboundCall, inbound, outbound};
use crate::metrics::Direction;
use crate::testing::{balancer, dialer, places, plain, resolved, tcp_pair};

/// Seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Inbound,
    Outbound,
    /// Past the lane, as requests that are not simple.
    GeneralInbound,
    GeneralOutbound,
}

impl Way {
    pub(super) const ALL: [Self; 4] =
        [Self::Inbound, Self::Outbound, Self::GeneralInbound, Self::GeneralOutbound];
}

pub(super) struct Proxied {
    pub(super) dialer: Arc<Dialer>,
    service: Answering,
    version: HttpVersion,
    _destination: watch::Sender<Resolved>,
}

impl Proxied {
    pub(super) fn new(way: Way, version: HttpVersion, backend: SocketAddr) -> Self {
        let dialer = dialer("client");
        let endpoints = balancer("api", vec![plain(backend)]);
        let to = resolved(vec![(Arc::clone(&endpoints), 1)], Timeouts::default());
        let destination = watch::Sender::new(to);
        let mut service = match way {
            Way::Outbound | Way::GeneralOutbound => outbound(OutboundCall {
                dialer: Arc::clone(&dialer),
                destination: destination.subscribe(),
                original: backend,
                version,
                service: "default/api:80".into(),
                mirrors: MirrorPlaces::default(),
            }),
            Way::Inbound | Way::GeneralInbound => inbound(InboundCall {
                dialer: Arc::clone(&dialer),
                application: endpoints,
                original: backend,
                version,
                caller: Caller::Plaintext,
                limits: Arc::default(),
                places: places(),
                probes: None,
            }),
        };
        match way {
            Way::Inbound | Way::Outbound => {}
            Way::GeneralInbound | Way::GeneralOutbound => service.express = None,
        }
        Self { dialer, service, version, _destination: destination }
    }

    /// The client's end of a new connection.
    pub(super) async fn connect(&self) -> TcpStream {
        let (near, far) = tcp_pair().await;
        let serving = Serving {
            direction: Direction::Inbound,
            budgets: Budgets::PLAINTEXT,
            version: self.version,
            idle: Duration::from_secs(60),
            window_bytes: crate::listen::HTTP2_CONNECTION_WINDOW_BYTES,
            drain: None,
            until: None,
        };
        let (service, dialer) = (self.service.clone(), Arc::clone(&self.dialer));
        let tasks = dialer.tasks.clone();
        tasks.spawn_quiet(async move {
            let _ = serve(far, service, serving, &dialer).await;
        });
        near
    }

    /// Waits until everything that was begun is over.
    pub(super) async fn end(self) {
        self.dialer.tasks.begin_drain();
        drop(self.service);
        let _ = self.dialer.tasks.shutdown(Duration::from_secs(5)).await;
    }
}
