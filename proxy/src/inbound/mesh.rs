//! Another proxy's connection to the workload: its handshake, whether it may come in by what that says, and on by what
//! flows inside. Connections that take turns are in inbound/warm.rs,
//! those that share one in inbound/channels.rs.

use std::net::SocketAddr;

use heddle_model::identity::SpiffeId;
use heddle_model::names::Protocol;
use heddle_model::workload::Workload;
use heddle_runtime::logging::Chain;
use heddle_tls::accept::Accepted;
use heddle_tls::alpn::InnerProtocol;
use heddle_tls::stream::TlsStream;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::warn;

use crate::access_log::connection::Passage;
use crate::connect::Dialer;
use crate::http::HttpVersion;
use crate::http::headers::Caller;
use crate::inbound::admission::{self, NotAdmitted};
use crate::inbound::refusal::Refusal;
use crate::inbound::{Admitted, Inbound, moment, warm};
use crate::metrics::Side;
use crate::rewind::Rewind;
use crate::warm::term::Term;

/// Another proxy's connection after its handshake.
struct Authenticated {
    stream: Box<TlsStream<Rewind<TcpStream>>>,
    protocol: InnerProtocol,
    /// Of the credentials that it was made under.
    generation: u64,
    admitted: Admitted,
}

impl Inbound {
    /// Serves a connection that begins as another proxy's.
    pub(super) async fn mesh(
        &self,
        client: Rewind<TcpStream>,
        at: (Passage, SocketAddr),
        workload: &Workload,
        declared: Protocol,
    ) {
        let Some(Authenticated { stream, protocol, generation, admitted }) =
            Box::pin(self.authenticate(client, at, workload, declared)).await
        else {
            return;
        };
        match protocol {
            InnerProtocol::Http1 => self.http(stream, HttpVersion::Http1, admitted).await,
            InnerProtocol::SharedHttp1 => Box::pin(self.channels(stream, admitted)).await,
            InnerProtocol::Http2 => self.http(stream, HttpVersion::Http2, admitted).await,
            InnerProtocol::Tcp => drop(Box::pin(self.brought(stream, declared, admitted)).await),
            InnerProtocol::Warm => {
                let term = Term::new(generation, Instant::now(), admitted.until);
                Box::pin(self.turns(stream, admitted, term)).await;
            }
        }
    }

    /// Another proxy's handshake, and whether it may come in by what that says; nothing: it may not, and
    /// that is told of.
    async fn authenticate(
        &self,
        client: Rewind<TcpStream>,
        (mut passage, original): (Passage, SocketAddr),
        workload: &Workload,
        declared: Protocol,
    ) -> Option<Authenticated> {
        let metrics = &self.dialer.metrics;
        let Dialer { credentials, own, settings, .. } = &*self.dialer;
        let limit = settings.handshake_timeout;
        let protocols = warm::protocols(settings);
        // Before the handshake: one that was made under other credentials is not used again.
        let generation = credentials.generation();
        let accepted = heddle_tls::accept::accept(client, credentials, own, protocols, limit).await;
        let refusal = match accepted {
            Ok(accepted) => {
                metrics.count_handshake(Side::Server, "ok");
                passage.caller = Some(accepted.peer.identity.clone());
                match self.admissible(&accepted, original, declared) {
                    Ok(own) => {
                        // Not before the caller is known: what is kept for a port is kept for good.
                        let application = self.applications.of(original, workload);
                        let caller = Caller::Mutual { caller: accepted.peer.identity, own };
                        let until = Some(moment(accepted.peer_not_after));
                        let probes = None;
                        let admitted =
                            Admitted { passage, original, application, caller, until, probes };
                        let (stream, protocol) = (Box::new(accepted.stream), accepted.protocol);
                        return Some(Authenticated { stream, protocol, generation, admitted });
                    }
                    Err(refusal) => refusal,
                }
            }
            Err(error) => {
                metrics.count_handshake(Side::Server, error.label());
                if self.dialer.warnings.is_due() {
                    warn!(error = %Chain(&error), dst = %original, "caller not authenticated");
                }
                Refusal::Tls(error)
            }
        };
        self.tell(&passage, &refusal);
        None
    }

    /// Whom the caller has asked for, if that is who is here and it may come in.
    fn admissible<IO>(
        &self,
        accepted: &Accepted<IO>,
        original: SocketAddr,
        declared: Protocol,
    ) -> Result<SpiffeId, Refusal> {
        if accepted.server_name.port.number() != original.port() {
            return Err(NotAdmitted::OtherPort.into());
        }
        admission::may_carry(accepted.protocol, declared)?;
        let own = self.dialer.credentials.identity().ok_or(Refusal::NoCertificate)?;
        Ok(own.identity)
    }
}
