//! A warm connection of another proxy, turn by turn. Each turn is what a connection of its own would be:
//! admitted by what is known of the workload by then, connected to the application, counted and told of.
//! What a turn is on the wire is in warm/frame.rs; when none may begin any more is in warm/term.rs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::identity::SpiffeId;
use heddle_model::names::Protocol;
use heddle_tls::alpn::InnerProtocol;
use heddle_tls::credentials::Credentials;
use heddle_tls::stream::TlsStream;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use crate::access_log::connection::Passage;
use crate::balance::balancer::Balancer;
use crate::http::breaker::Reset;
use crate::http::headers::Caller;
use crate::inbound::admission::{self, Door, NotAdmitted};
use crate::inbound::refusal::Refusal;
use crate::inbound::{Admitted, Inbound};
use crate::listen::DataPathSettings;
use crate::metrics::Direction;
use crate::rewind::Rewind;
use crate::warm::carrier::{Beginning, Carrier};
use crate::warm::term::Term;

/// What may flow inside of a connection from another proxy.
pub(super) fn protocols(settings: &DataPathSettings) -> &'static [InnerProtocol] {
    if settings.warm_connections > 0 { &InnerProtocol::ALL } else { &InnerProtocol::WITHOUT_WARM }
}

type Stream = Box<TlsStream<Rewind<TcpStream>>>;

/// What all turns of a connection have in common.
struct Warm {
    original: SocketAddr,
    caller: Caller,
    identity: Option<SpiffeId>,
    until: Option<Instant>,
    term: Term,
    credentials: Credentials,
}

impl Inbound {
    /// Serves one turn after another. The connection was admitted for the first.
    pub(super) async fn turns(&self, stream: Stream, first: Admitted, term: Term) {
        let mut warm = Warm {
            original: first.original,
            caller: first.caller.clone(),
            identity: first.passage.caller.clone(),
            until: first.until,
            term,
            credentials: self.dialer.credentials.clone(),
        };
        let mut stream = stream;
        let mut next = Some(first);
        loop {
            let mut carrier = Carrier::awaiting(stream);
            if !self.begins(&mut carrier, &mut warm, next.is_some()).await {
                return;
            }
            let (admitted, declared) = match next.take() {
                // What is known of the workload may be another than when the connection was.
                Some(admitted) => match self.admit_turn(&warm) {
                    Ok((application, declared)) => (Admitted { application, ..admitted }, declared),
                    Err(refused) => return self.tell(&admitted.passage, &refused.into()),
                },
                None => {
                    let passage = warm.passage(&carrier);
                    match self.admit_turn(&warm) {
                        Ok((application, declared)) => {
                            (warm.admitted(passage, application), declared)
                        }
                        // Whoever asked has not been told that the turn was taken on, and asks anew over a
                        // connection of its own: that one is refused, counted and told of.
                        Err(refused) => {
                            debug!(error = %refused, dst = %warm.original, "no turn begins");
                            return;
                        }
                    }
                }
            };
            let limit = self.dialer.settings.handshake_timeout;
            let told = timeout(limit, carrier.accept()).await;
            if let Err(error) = told.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
            {
                carrier.reset();
                return self.tell(&admitted.passage, &Refusal::Broken(error));
            }
            // Boxed: what is carried takes far more room than a connection that waits for its turn.
            let carried = Box::pin(self.brought(carrier, declared, admitted)).await;
            match carried.and_then(Carrier::finish) {
                Some(back) => stream = back,
                None => return,
            }
        }
    }

    /// Waits for a turn to begin; false: none will, or may. Whoever opened it then, and was not told that
    /// it was taken on, opens another connection.
    async fn begins(&self, carrier: &mut Carrier<Stream>, warm: &mut Warm, is_first: bool) -> bool {
        if !is_first && self.is_crowded() {
            return false;
        }
        let (drain, pressure) = (self.dialer.tasks.drain(), &self.dialer.pressure);
        let settings = &self.dialer.settings;
        // Whoever opens a connection has a turn to begin.
        let patience = if is_first { settings.handshake_timeout } else { settings.inbound_idle };
        let idle = Instant::now() + patience;
        let may_begin = |warm: &Warm| {
            let generation = warm.credentials.generation();
            // A connection was taken for its first, also while the process drains.
            let is_served = is_first || !drain.is_cancelled();
            is_served && warm.term.holds(Instant::now(), generation)
        };
        loop {
            let begun = tokio::select! {
                biased;
                begun = carrier.begun() => begun,
                () = drain.cancelled(), if !is_first => return false,
                () = sleep_until(idle.min(warm.term.until)) => return false,
                () = pressure.critical(), if !is_first => return false,
                () = sleep(CROWDED_INTERVAL), if !is_first => {
                    if self.is_crowded() { return false } else { continue }
                }
                () = warm.credentials.changed() => {
                    if may_begin(warm) { continue } else { return false }
                }
            };
            return match begun {
                Ok(Beginning::Begun) => may_begin(warm),
                Ok(Beginning::Closed) => false,
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        carrier.reset();
                        self.dialer.metrics.count_refused(Direction::Inbound, "broken");
                    }
                    debug!(%error, dst = %warm.original, "a warm connection ended");
                    false
                }
            };
        }
    }

    /// Whether there are others who may soon need the place that a connection takes which carries nothing.
    fn is_crowded(&self) -> bool {
        let open = self.dialer.metrics.open.count(Direction::Inbound);
        open > self.dialer.settings.connection_limit / CROWDED_SHARE
    }

    /// Admits a turn by what is known of the workload now.
    fn admit_turn(&self, warm: &Warm) -> Result<(Arc<Balancer>, Protocol), NotAdmitted> {
        let workload = self.store.workload().ok_or(NotAdmitted::NoWorkload)?;
        let door = Door {
            port: warm.original.port(),
            own: &self.dialer.own,
            trust_domain: self.dialer.credentials.trust_domain(),
            workload: &workload,
        };
        let declared = door.declared();
        admission::may_carry(InnerProtocol::Warm, declared)?;
        Ok((self.applications.of(warm.original, &workload), declared))
    }
}

impl Warm {
    fn passage(&self, carrier: &Carrier<Stream>) -> Passage {
        let client = carrier.stream().get_ref().0.stream();
        let mut passage = Passage::begin(Direction::Inbound, client, Some(self.original));
        passage.caller = self.identity.clone();
        passage
    }

    fn admitted(&self, passage: Passage, application: Arc<Balancer>) -> Admitted {
        let Self { original, caller, until, .. } = self;
        let (original, caller, until) = (*original, caller.clone(), *until);
        Admitted { passage, original, application, caller, until, probes: None }
    }
}

/// This part of the connection limit is for connections that wait for a turn, too.
const CROWDED_SHARE: usize = 2;
/// How often one that waits for a turn looks whether it is in the way.
const CROWDED_INTERVAL: Duration = Duration::from_secs(10);
