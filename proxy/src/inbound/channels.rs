//! A connection of another proxy that carries many of HTTP/1 at once, each of which is served as one by itself would be. They
//! run in the connection's task, so that what they have to say leaves together.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use heddle_runtime::logging::Chain;
use heddle_tls::stream::TlsStream;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use crate::http::HttpVersion;
use crate::http::group::{Group, Turn};
use crate::http::server::serve;
use crate::http::stack;
use crate::inbound::{Admitted, Inbound};
use crate::metrics::Direction;
use crate::multiplex::channel::Channel;
use crate::multiplex::driver::drive;
use crate::multiplex::{Role, Session};
use crate::rewind::Rewind;

impl Inbound {
    /// Serves one channel beside another, until the connection ends.
    pub(super) async fn channels(
        &self,
        stream: Box<TlsStream<Rewind<TcpStream>>>,
        first: Admitted,
    ) {
        let session = Session::new(Role::Server);
        let mut group = Group::new();
        let spawner = group.spawner();
        let retired_at = OnceLock::new();
        let begin = |channel: Channel| {
            // Whoever goes on to open channels does not want to know that none is to be opened.
            let is_late =
                retired_at.get().is_some_and(|at: &Instant| at.elapsed() > AGREEMENT_LIMIT);
            if !is_late && let Some(served) = self.channel(channel, &first) {
                spawner.spawn(served, ());
            }
        };
        let mut driven = pin!(drive(stream, &session, None, begin));
        let called_off = pin!(self.called_off(&session, first.until));
        let ended = match group.run(driven.as_mut(), called_off).await {
            Turn::Ended(ended) => Some(ended),
            Turn::Happened(()) => {
                // No new ones; those that are there have their own ends.
                let _ = retired_at.set(Instant::now());
                session.retire();
                // Or until nothing is served, and the other side neither takes anything nor ends.
                let abandoned = pin!(quiet(&session, AGREEMENT_LIMIT));
                match group.run(driven, abandoned).await {
                    Turn::Ended(ended) => Some(ended),
                    Turn::Happened(()) => None,
                }
            }
        };
        if let Some(Err(error)) = ended {
            if error.kind() == io::ErrorKind::InvalidData {
                self.dialer.metrics.count_refused(Direction::Inbound, "broken");
            }
            debug!(error = %Chain(&error), dst = %first.original, "connection of another proxy ended");
        }
    }

    /// Serves a channel by what is known of the workload at its beginning; nothing: it breaks off.
    fn channel(
        &self,
        channel: Channel,
        first: &Admitted,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let workload = self.store.workload()?;
        let application = self.applications.of(first.original, &workload);
        let (version, from) = (HttpVersion::Http1, (first.caller.clone(), first.until, None));
        let (call, serving) = self.call(version, (first.original, application), from);
        let (dialer, original) = (Arc::clone(&self.dialer), first.original);
        Some(async move {
            let served = Box::pin(serve(channel, stack::inbound(call), serving, &dialer));
            if let Err(error) = served.await {
                debug!(error = %Chain(&*error), dst = %original, "a channel to the workload ended");
            }
        })
    }

    /// Waits until no new channel is to begin: the process drains, the caller's certificate ends, memory is short, or
    /// there was none for as long as a connection may be idle.
    async fn called_off(&self, session: &Session, until: Option<Instant>) {
        let expired = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.dialer.tasks.drain().cancelled() => {}
            () = expired => {}
            () = self.crowded_out(session) => {}
            () = quiet(session, self.dialer.settings.inbound_idle) => {}
        }
    }

    /// Waits until memory is short while it has no channel: what is in use is left alone.
    async fn crowded_out(&self, session: &Session) {
        loop {
            self.dialer.pressure.critical().await;
            if session.is_idle() {
                self.dialer.metrics.count_limit(Direction::Inbound, "memory");
                return;
            }
            sleep(CROWDED_INTERVAL).await;
        }
    }
}

/// Waits until it has no channel, and nothing came or went, for `limit`, or twice as long at most.
async fn quiet(session: &Session, limit: Duration) {
    loop {
        let moves = session.moves();
        sleep(limit).await;
        if session.is_idle() && session.moves() == moves {
            return;
        }
    }
}

/// Several times what a busy proxy takes to answer.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(5);
/// How often one that is in use looks whether it is still in the way.
const CROWDED_INTERVAL: Duration = Duration::from_secs(1);
