//! Opens HTTP connections to endpoints. Which of them are used again is in pool.rs.

use std::future::Future;
use std::sync::Arc;

use heddle_tls::alpn::InnerProtocol;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tracing::debug;

use crate::balance::balancer::Balancer;
use crate::balance::endpoint::BalancedEndpoint;
use crate::balance::queue::Slot;
use crate::connect::{ConnectError, Dialer, Opened, Transport};
use crate::http::attempt::Unanswered;
use crate::http::breaker::{Breakable, Breaker};
use crate::http::group::{Group, Spawner};
use crate::http::lane::connection::Connection;
use crate::http::mux::upstream::Upstream;
use crate::http::mux::upstream::driver::drive;
use crate::http::peer_settings::peer_settings;
use crate::http::pool::{Http1Connection, Http2Connection, keep};
use crate::listen::{
    HEADERS_LIMIT_BYTES, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_SEND_BUFFER_BYTES,
    HTTP2_STREAM_WINDOW_BYTES,
};
use crate::metrics::Protection;
use crate::multiplex::{self, Role, Session};

/// A new HTTP/1 connection, which holds `slot`.
pub async fn http1(
    dialer: &Dialer,
    endpoint: &Arc<BalancedEndpoint>,
    slot: Slot,
) -> Result<Http1Connection, ConnectError> {
    let Opened { transport, retire_at } = open(dialer, endpoint, InnerProtocol::Http1).await?;
    let address = endpoint.endpoint.address;
    let breaker = Breaker::default();
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(HEADERS_LIMIT_BYTES)
        .handshake(TokioIo::new(Breakable::to_server(transport, breaker.clone())))
        .await
        .map_err(|source| ConnectError::Http { address, source })?;
    dialer.tasks.spawn_quiet(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, backend = %address, "connection ended");
        }
        drop(slot);
    });
    keep_pool(dialer, endpoint);
    let idle_since = Instant::now();
    Ok(Http1Connection { sender, breaker, retire_at, idle_since, handed_over: 0 })
}

/// A new HTTP/1 connection for the lane, which holds `slot`: where another proxy answers, one of those that share a
/// connection with it. `opened_since`: that has to be younger. The second says whether what carries it is new, so that its
/// failure tells of the endpoint.
pub async fn for_lane(
    dialer: &Dialer,
    endpoint: &Arc<BalancedEndpoint>,
    slot: Slot,
    opened_since: Option<Instant>,
) -> Result<(Connection, bool), ConnectError> {
    let (opened, is_new) = match dialer.protection(&endpoint.endpoint) {
        Protection::Mutual => channel(dialer, endpoint, opened_since).await?,
        Protection::Plaintext => (open(dialer, endpoint, InnerProtocol::Http1).await?, true),
    };
    keep_pool(dialer, endpoint);
    Ok((Connection::new(opened, slot), is_new))
}

/// A channel of a connection that is there or, if none takes one more, of a new one: a burst opens one, and not one for
/// each. A peer that knows no channels gets a connection for each.
async fn channel(
    dialer: &Dialer,
    endpoint: &Arc<BalancedEndpoint>,
    opened_since: Option<Instant>,
) -> Result<(Opened, bool), ConnectError> {
    let pool = &endpoint.pool;
    if let Some(opened) = pool.open_channel(Instant::now(), opened_since) {
        return Ok((opened, false));
    }
    let start = Instant::now();
    let mut opening = match pool.shares_sessions() {
        true => Some(pool.opening_session.lock().await),
        false => None,
    };
    if !pool.shares_sessions() {
        // Whoever had the turn before has found out.
        opening = None;
    }
    if opening.is_some() {
        if endpoint.was_unreachable_since(start) {
            return Err(ConnectError::FailedBefore { address: endpoint.endpoint.address });
        }
        // Whoever opened one while this waited opened it for all.
        if let Some(opened) = pool.open_channel(Instant::now(), opened_since) {
            return Ok((opened, false));
        }
    }
    let keep_alive = endpoint.backend().policy().keep_alive;
    let connecting = Box::pin(dialer.endpoint_shared(&endpoint.endpoint, &keep_alive));
    let (opened, is_shared) = connecting.await.inspect_err(|error| {
        // Before those who wait for their turn get it.
        if opening.is_some() && !error.is_local() {
            endpoint.mark_unreachable();
        }
    })?;
    pool.set_old_peer(!is_shared);
    if !is_shared {
        return Ok((opened, true));
    }
    let Opened { transport, retire_at } = opened;
    let session = Session::new(Role::Client);
    let first = session.open();
    pool.add_session(&session, retire_at);
    let address = endpoint.endpoint.address;
    let settings = &dialer.settings;
    let vigilance = (settings.http2_ping_interval, settings.http2_ping_timeout);
    dialer.tasks.spawn_quiet(async move {
        let ended = multiplex::driver::drive(transport, &session, Some(vigilance), drop).await;
        debug!(backend = %address, ?ended, "connection ended");
    });
    let channel = first.ok_or(ConnectError::FailedBefore { address })?;
    Ok((Opened { transport: Transport::Channel(channel), retire_at }, true))
}

/// A new HTTP/2 connection, which holds `slot`.
pub async fn http2(
    dialer: &Dialer,
    endpoint: &Arc<BalancedEndpoint>,
    slot: Slot,
) -> Result<Http2Connection, ConnectError> {
    let Opened { transport, retire_at } = open(dialer, endpoint, InnerProtocol::Http2).await?;
    let address = endpoint.endpoint.address;
    let group = Group::new();
    let (sender, connection) = http2::Builder::new(Together(group.spawner()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
        .keep_alive_interval(dialer.settings.http2_ping_interval)
        .keep_alive_timeout(dialer.settings.http2_ping_timeout)
        .max_header_list_size(u32::try_from(HEADERS_LIMIT_BYTES).unwrap_or(u32::MAX))
        .handshake(TokioIo::new(transport))
        .await
        .map_err(|source| ConnectError::Http { address, source })?;
    let (tell, settings) = peer_settings();
    dialer.tasks.spawn_quiet(async move {
        let mut group = group;
        if let Err(error) = tell.beside(connection, &mut group).await {
            debug!(%error, backend = %address, "connection ended");
        }
        drop(slot);
        // Nobody sends requests any more; those that were sent go on.
        group.finish().await;
    });
    keep_pool(dialer, endpoint);
    Ok(Http2Connection::new(sender, retire_at, settings))
}

/// A new connection, kept as the backend's policy has it.
pub async fn open(
    dialer: &Dialer,
    endpoint: &BalancedEndpoint,
    protocol: InnerProtocol,
) -> Result<Opened, ConnectError> {
    let keep_alive = endpoint.backend().policy().keep_alive;
    dialer.endpoint(&endpoint.endpoint, protocol, &keep_alive).await
}

/// Opens a connection for the lane of HTTP/2, for streams that wait in the pool: they are told when it is open, or
/// will not be.
pub fn open_upstream(
    dialer: &Arc<Dialer>,
    backend: &Arc<Balancer>,
    endpoint: &Arc<BalancedEndpoint>,
) {
    let Some(slot) = backend.spare_connection() else {
        endpoint.pool.add_upstream(None);
        return;
    };
    let (dialer, backend) = (Arc::clone(dialer), Arc::clone(backend));
    let endpoint = Arc::clone(endpoint);
    // Also if the task is ended before it begins.
    let opening = Opening(Some(Arc::clone(&endpoint)));
    let tasks = dialer.tasks.clone();
    tasks.spawn_quiet(async move {
        let opened = match open(&dialer, &endpoint, InnerProtocol::Http2).await {
            Ok(opened) => opened,
            Err(error) => {
                debug!(%error, backend = %endpoint.endpoint.address, "no connection for the lane");
                // Requests that waited go elsewhere, or connect themselves, and tell of it.
                if !error.is_local() {
                    endpoint.mark_failing();
                }
                if backend.len() > 1 {
                    let nothing_sent = Unanswered::NotConnected { request: (), error };
                    nothing_sent.tell_of(&endpoint, &dialer.metrics);
                }
                return;
            }
        };
        let is_mesh = dialer.protection(&endpoint.endpoint) == Protection::Mutual;
        let pod = is_mesh.then(|| endpoint.endpoint.pod.as_str().into());
        let upstream = Arc::new(Upstream::new(Arc::clone(&dialer.metrics), pod));
        opening.end(Arc::clone(&upstream), opened.retire_at);
        keep_pool(&dialer, &endpoint);
        // The pool is its endpoint's, and must not keep it.
        drop(endpoint);
        drive(upstream, opened.transport, slot, dialer.settings).await;
    });
}

/// A connection is being opened, until this is dropped.
struct Opening(Option<Arc<BalancedEndpoint>>);

impl Opening {
    fn end(mut self, upstream: Arc<Upstream>, retire_at: Option<Instant>) {
        if let Some(endpoint) = self.0.take() {
            endpoint.pool.add_upstream(Some((upstream, retire_at)));
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(endpoint) = &self.0 {
            endpoint.pool.add_upstream(None);
        }
    }
}

fn keep_pool(dialer: &Dialer, endpoint: &Arc<BalancedEndpoint>) {
    if endpoint.pool.begin_keeping() {
        let drain = dialer.tasks.drain().clone();
        dialer.tasks.spawn_quiet(keep(Arc::downgrade(endpoint), drain));
    }
}

/// Runs what hyper needs for a connection, two futures for each request, in the connection's task.
#[derive(Clone)]
struct Together(Spawner<()>);

impl<F> hyper::rt::Executor<F> for Together
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(async move { drop(future.await) }, ());
    }
}
