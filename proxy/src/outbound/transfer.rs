//! A connection from the workload that is carried as bytes, to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_model::policy::KeepAlive;
use tokio::net::TcpStream;

use crate::access_log::connection::{Passage, Target};
use crate::connect::reset_on_close;
use crate::http::stack::OutboundCall;
use crate::metrics::{ConnectionLabels, Direction, Protection};
use crate::outbound::refusal::Refusal;
use crate::outbound::{Backend, Outbound};
use crate::rewind::Rewind;
use crate::tcp;

impl Outbound {
    /// Between the workload and an endpoint.
    pub(super) async fn opaque(
        &self,
        mut client: Rewind<TcpStream>,
        opened: Result<Backend, Refusal>,
        (call, protocol): (&OutboundCall, &'static str),
        passage: &Passage,
    ) {
        let Backend { transport, first_bytes, label, held } = match opened {
            Ok(backend) => backend,
            Err(refusal) => return self.refuse(client.stream(), passage, &refusal),
        };
        let mut server = Rewind::new(first_bytes.freeze(), transport);
        let bytes = self.dialer.metrics.bytes(Direction::Outbound);
        let endpoint = &held.0.endpoint().endpoint;
        let target = Target {
            service: Arc::clone(&call.service),
            backend: label,
            pod: endpoint.pod.clone(),
            address: Some(endpoint.address),
            identity: self.dialer.expected(endpoint).cloned(),
            tls: self.dialer.protection(endpoint),
            protocol,
        };
        let transfer = self.dialer.access_log.carried(passage, target, &bytes);
        let idle = self.dialer.settings.opaque_idle;
        match tcp::copy(&mut client, &mut server, &bytes, idle).await {
            Ok(()) => {
                transfer.complete();
                if let Some(transport) = server.into_stream() {
                    self.dialer.give_back(transport);
                }
            }
            Err(error) => {
                server.stream().reset_on_close();
                let refusal = Refusal::from(error);
                transfer.fail(refusal.reason(), &refusal);
                self.refuse(client.stream(), passage, &refusal);
            }
        }
    }

    /// Between the workload and what the mesh does not know.
    pub(super) async fn pass_through(
        &self,
        mut client: TcpStream,
        passage: &Passage,
        original: SocketAddr,
    ) {
        let keep_alive = KeepAlive::default();
        let mut server = match Box::pin(self.dialer.tcp(original, &keep_alive)).await {
            Ok(server) => server,
            Err(error) => return self.refuse(&client, passage, &Refusal::Connect(error)),
        };
        let labels = ConnectionLabels {
            direction: Direction::Outbound,
            service: "".into(),
            backend: Arc::clone(self.unknown.label()),
            tls: Protection::Plaintext,
            peer_identity: "".into(),
        };
        let _carried = self.unknown.begin_connection(&self.dialer.metrics, &labels);
        let bytes = self.dialer.metrics.bytes(Direction::Outbound);
        let target = Target {
            service: labels.service,
            backend: labels.backend,
            pod: String::new(),
            address: None,
            identity: None,
            tls: labels.tls,
            protocol: "",
        };
        let transfer = self.dialer.access_log.carried(passage, target, &bytes);
        let idle = self.dialer.settings.opaque_idle;
        match tcp::copy(&mut client, &mut server, &bytes, idle).await {
            Ok(()) => transfer.complete(),
            Err(error) => {
                reset_on_close(&server);
                let refusal = Refusal::from(error);
                transfer.fail(refusal.reason(), &refusal);
                self.refuse(&client, passage, &refusal);
            }
        }
    }
}
