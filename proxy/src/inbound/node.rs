//! A connection of the workload's own node, where only proxies come in otherwise: its probes, and nothing else.
//! What they are is decided in probes.rs.

use std::net::SocketAddr;

use bytes::BytesMut;
use heddle_model::names::Protocol;
use heddle_model::workload::Workload;
use tokio::net::TcpStream;

use crate::access_log::connection::Passage;
use crate::http::headers::Caller;
use crate::inbound::admission::NotAdmitted;
use crate::inbound::probes::NodeEntrance;
use crate::inbound::protocol::Spoken;
use crate::inbound::{Admitted, Inbound};
use crate::rewind::Rewind;

impl Inbound {
    /// Serves it to its end.
    pub(super) async fn node(
        &self,
        (mut client, mut first_bytes): (TcpStream, BytesMut),
        (passage, original): (Passage, SocketAddr),
        workload: &Workload,
        entrance: NodeEntrance,
    ) {
        let application = self.applications.of(original, workload);
        let caller = Caller::Plaintext;
        let (until, probes) = (None, None);
        let mut admitted = Admitted { passage, original, application, caller, until, probes };
        match entrance {
            // The kernel took the connection, which is all that was asked.
            NodeEntrance::Nothing => {}
            NodeEntrance::Https(probes) => {
                let client = Rewind::new(first_bytes.freeze(), client);
                self.https(client, admitted, probes).await;
            }
            NodeEntrance::Requests(probes) => {
                admitted.probes = Some(probes);
                // Whatever is declared: only what is HTTP can be looked at.
                let detect = Protocol::Detect;
                match self.find_protocol(&mut client, &mut first_bytes, detect).await {
                    Err(refusal) => self.refuse(&client, &admitted.passage, &refusal),
                    Ok(Spoken::Http(version)) => {
                        let client = Rewind::new(first_bytes.freeze(), client);
                        self.http(client, version, admitted).await;
                    }
                    Ok(Spoken::Opaque | Spoken::Nothing) => {
                        let refusal = NotAdmitted::Plaintext.into();
                        self.refuse(&client, &admitted.passage, &refusal);
                    }
                }
            }
        }
    }
}
