//! A connection of another proxy that carries many of HTTP/1 at once, each of which is served as one by itself would be. They
//! run in the connection's task, so that what they have to say leaves together.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
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
        let begin = |channel: Channel| {
            if let Some(served) = self.channel(channel, &first) {
                spawner.spawn(served, ());
            }
        };
        let mut driven = pin!(drive(stream, &session, None, begin));
        let called_off = pin!(self.called_off(&session, first.until));
        let ended = match group.run(driven.as_mut(), called_off).await {
            Turn::Ended(ended) => Some(ended),
            Turn::Happened(()) => {
                // No new ones; those that are there have their own ends.
                session.retire();
                let abandoned = pin!(abandoned(&session));
                match group.run(driven, abandoned).await {
                    Turn::Ended(ended) => Some(ended),
                    Turn::Happened(()) => None,
                }
            }
        };
        if let Some(Err(error)) = ended {
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
            () = self.dialer.pressure.critical() => {}
            () = idle(session, self.dialer.settings.inbound_idle) => {}
        }
    }
}

/// Waits until it had no channel for so long.
async fn idle(session: &Session, limit: Duration) {
    let mut was_idle = false;
    loop {
        sleep(limit).await;
        if was_idle && session.is_idle() {
            return;
        }
        was_idle = session.is_idle();
    }
}

/// Waits until the other side has not said, for some time, that it opens no channel any more, and has none.
async fn abandoned(session: &Session) {
    idle(session, AGREEMENT_LIMIT).await;
}

/// Several times what a busy proxy takes to answer.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(5);
