//! A connection to the workload that is carried as bytes, to its end.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::access_log::connection::Target;
use crate::connect::reset_on_close;
use crate::http::headers::Caller;
use crate::inbound::protocol::Server;
use crate::inbound::refusal::Refusal;
use crate::inbound::{Admitted, Inbound};
use crate::metrics::{ConnectionLabels, Direction, Protection};
use crate::rewind::Rewind;
use crate::tcp;

impl Inbound {
    /// Between a caller and the application. What it fails for is told of, and not counted, here.
    pub(super) async fn opaque<I>(
        &self,
        client: &mut I,
        server: Option<Server>,
        admitted: &Admitted,
    ) -> Result<(), Refusal>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let Server { stream, first_bytes, .. } = match server {
            Some(server) => server,
            None => Box::pin(self.open_server(admitted.original)).await?,
        };
        let labels = ConnectionLabels {
            direction: Direction::Inbound,
            service: "".into(),
            backend: Arc::clone(admitted.application.label()),
            tls: match admitted.caller {
                Caller::Plaintext => Protection::Plaintext,
                Caller::Mutual { .. } => Protection::Mutual,
            },
            peer_identity: match admitted.caller.identity() {
                Some(caller) => self.dialer.metrics.calls.connection_peer(&caller.to_string()),
                None => "".into(),
            },
        };
        let _carried = admitted.application.begin_connection(&self.dialer.metrics, &labels);
        let mut server = Rewind::new(first_bytes.freeze(), stream);
        let bytes = self.dialer.metrics.bytes(Direction::Inbound);
        let target = Target {
            service: labels.service,
            backend: labels.backend,
            pod: String::new(),
            address: None,
            identity: None,
            tls: labels.tls,
            protocol: "",
        };
        let transfer = self.dialer.access_log.carried(&admitted.passage, target, &bytes);
        let idle = self.dialer.settings.opaque_idle;
        match tcp::copy(client, &mut server, &bytes, idle).await {
            Ok(()) => transfer.complete(),
            Err(error) => {
                reset_on_close(server.stream());
                let refusal = Refusal::from(error);
                transfer.fail(refusal.reason(), &refusal);
                return Err(refusal);
            }
        }
        Ok(())
    }
}
