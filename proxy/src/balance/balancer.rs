//! The entry to one backend: an endpoint for a request or connection, as soon as there is one and
//! what may be under way allows it. Its endpoints and policy are swapped while requests go on; which
//! endpoint is picked is in set.rs.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use heddle_model::endpoint::{Endpoint, EndpointSet};
use heddle_model::identity::PodUid;
use heddle_model::names::ServicePort;
use heddle_model::policy::{BackendPolicy, Balance, SessionPersistence};
use heddle_runtime::clock;
use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::balance::backend::BackendState;
use crate::balance::endpoint::{BalancedEndpoint, InFlight};
use crate::balance::hash;
use crate::balance::locality::Place;
use crate::balance::queue::{Slot, Slots};
use crate::balance::round_robin::RoundRobin;
use crate::balance::session::Session;
use crate::balance::set::{PickContext, Purpose, Set};
use crate::metrics::leased::HeldSeries;
use crate::metrics::timing::{Timed, Timing};
use crate::metrics::{BackendLabels, ConnectionLabels, Metrics};

/// The endpoints of one backend. Readers never wait for an update.
pub struct Balancer {
    state: Arc<BackendState>,
    set: ArcSwap<Set>,
    turns: RoundRobin,
    presence: watch::Sender<Presence>,
    connections: HeldSeries<ConnectionLabels, Counter>,
    connection_durations: HeldSeries<ConnectionLabels, Timing>,
    queued: HeldSeries<BackendLabels, Timing>,
}

/// What stands behind a backend, shared with whoever else holds it, and how it is used.
#[derive(Clone, Debug, Default)]
pub struct SharedEndpoints {
    /// By address, each address once.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// How they are used.
    pub policy: BackendPolicy,
}

/// An endpoint that there was before an update.
struct Known<'a> {
    endpoint: &'a Arc<BalancedEndpoint>,
    is_kept: bool,
}

/// Whether there are endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Some,
    None { since: Instant },
}

/// Why there is no endpoint for a request or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// All were tried.
    #[error("every endpoint was tried")]
    NoOther,
    /// There is none, and has been none for long.
    #[error("no endpoint is ready")]
    NoEndpoint,
    /// As much is under way, and as many wait, as may.
    #[error("as much is under way, and as many wait, as may")]
    Overloaded,
    /// It has waited for as long as it may.
    #[error("nothing under way has ended in time")]
    QueueTimeout,
}

impl Balancer {
    /// No endpoints yet.
    pub fn new(backend: ServicePort) -> Arc<Self> {
        Self::labelled(backend.to_string().into())
    }

    /// The same for what is no service, under this name in logs and metrics.
    pub fn labelled(label: Arc<str>) -> Arc<Self> {
        let policy = Arc::new(BackendPolicy::default());
        Arc::new(Self {
            state: BackendState::new(label),
            set: ArcSwap::from_pointee(Set::new(Vec::new(), policy, &Place::default())),
            turns: RoundRobin::new(&mut rand::rng()),
            presence: watch::Sender::new(Presence::None { since: Instant::now() }),
            connections: HeldSeries::default(),
            connection_durations: HeldSeries::default(),
            queued: HeldSeries::default(),
        })
    }

    /// The backend's name in logs and metrics.
    pub fn label(&self) -> &Arc<str> {
        &self.state.label
    }

    /// How the endpoints are used.
    pub fn policy(&self) -> Arc<BackendPolicy> {
        Arc::clone(&self.state.policy())
    }

    /// Replaces the endpoints and how they are used from `own` place. Those that stay (the same
    /// address, peer and pod) keep all that is known of them; the connections of others end when
    /// their last request does.
    pub fn update(&self, set: impl Into<SharedEndpoints>, own: &Place) {
        let SharedEndpoints { endpoints, policy } = set.into();
        let before = self.set.load();
        let known = before.endpoints.iter().map(|endpoint| Known { endpoint, is_kept: false });
        let mut known: HashMap<SocketAddr, Known<'_>> =
            known.map(|known| (known.endpoint.endpoint.address, known)).collect();
        // All that begin together are equally cold.
        let warms_up = !before.endpoints.is_empty();
        let after: Vec<Arc<BalancedEndpoint>> = endpoints
            .into_iter()
            .map(|endpoint| match known.get_mut(&endpoint.address) {
                Some(known) if known.is(&endpoint) => {
                    known.is_kept = true;
                    Arc::clone(known.endpoint)
                }
                Some(_) | None => {
                    BalancedEndpoint::new(endpoint, Arc::clone(&self.state), warms_up)
                }
            })
            .collect();
        let is_kept = |address| known.get(&address).is_some_and(|known| known.is_kept);
        self.state.set_endpoints(after.len(), is_kept);
        self.replace(after, Arc::new(policy), own);
    }

    /// The proxy's own place has become known, or has changed.
    pub fn move_to(&self, own: &Place) {
        let set = self.set.load();
        self.replace(set.endpoints.clone(), Arc::clone(set.policy()), own);
    }

    fn replace(&self, after: Vec<Arc<BalancedEndpoint>>, policy: Arc<BackendPolicy>, own: &Place) {
        let is_empty = after.is_empty();
        self.state.set_policy(Arc::clone(&policy));
        self.set.store(Arc::new(Set::new(after, policy, own)));
        self.presence.send_if_modified(|presence| {
            let next = match (is_empty, *presence) {
                (false, _) => Presence::Some,
                (true, Presence::Some) => Presence::None { since: Instant::now() },
                (true, none @ Presence::None { .. }) => none,
            };
            std::mem::replace(presence, next) != next
        });
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.set.load().endpoints.len()
    }

    /// Whether there is no endpoint.
    pub fn is_empty(&self) -> bool {
        self.set.load().endpoints.is_empty()
    }

    /// What ties a request to one endpoint by its hash, if the policy has it so. `own` is the
    /// calling workload's pod.
    pub fn key(&self, headers: &HeaderMap, own: &PodUid) -> Option<u64> {
        match &self.state.policy().balance {
            Balance::ConsistentHash(of) => hash::key(of, headers, own),
            Balance::PeakEwma { .. } | Balance::RoundRobin | Balance::Random => None,
        }
    }

    /// Whether something in a request's head decides which endpoint gets it.
    pub fn is_by_head(&self) -> bool {
        let set = self.set.load();
        matches!(set.policy().balance, Balance::ConsistentHash(_)) || set.session().is_some()
    }

    /// The session of a request; `of_route` goes before the policy's. `None`: sessions are not kept.
    pub fn session(
        &self,
        of_route: Option<Arc<SessionPersistence>>,
        headers: &HeaderMap,
    ) -> Option<Session> {
        let rules = of_route.or_else(|| self.set.load().session().cloned())?;
        Some(Session::of(rules, headers, clock::now()))
    }

    /// Whether the endpoint of a session is here.
    pub fn holds(&self, session: &Session) -> bool {
        let is_it = |one: &Arc<BalancedEndpoint>| session.endpoint() == Some(one.number());
        self.set.load().endpoints.iter().any(is_it)
    }

    /// An endpoint, whatever is under way. See [`Set::pick`].
    pub fn pick(
        &self,
        context: &PickContext<'_>,
        random: &mut impl Rng,
    ) -> Option<Arc<BalancedEndpoint>> {
        self.set.load().pick(context, &self.turns, random).cloned()
    }

    /// An endpoint, as soon as there is one and the policy's limits allow for more; `limit` is for
    /// the endpoint alone. Cancel safe: the place in the queue is lost.
    pub async fn admit(
        &self,
        context: &PickContext<'_>,
        limit: usize,
    ) -> Result<InFlight, NotAdmitted> {
        let slots = self.slots(context.purpose);
        if !self.is_empty()
            && let Some(slot) = slots.try_take()
        {
            return self.begin(slot, context, limit);
        }
        // Who was tried and has gone had better be told of.
        if self.is_empty() && !context.tried.is_empty() {
            return Err(NotAdmitted::NoOther);
        }
        Box::pin(self.admit_later(slots, context, limit)).await
    }

    /// The same if nothing has to be waited for.
    pub fn try_admit(&self, context: &PickContext<'_>, limit: usize) -> Option<InFlight> {
        if self.is_empty() {
            return None;
        }
        let slot = self.slots(context.purpose).try_take()?;
        self.begin(slot, context, limit).ok()
    }

    async fn admit_later(
        &self,
        slots: &Arc<Slots>,
        context: &PickContext<'_>,
        limit: usize,
    ) -> Result<InFlight, NotAdmitted> {
        let _queued = context.metrics.map(|metrics| self.begin_queued(metrics));
        let patience = self.state.policy().limits.pending_timeout;
        if let Presence::None { since } = *self.presence.borrow()
            && since.elapsed() >= patience
        {
            return Err(NotAdmitted::NoEndpoint);
        }
        let wanted = match context.purpose {
            Purpose::Request => None,
            Purpose::Connection => Some(self.want_connection()),
        };
        let admitted = self.wait(async {
            let mut presence = self.presence.subscribe();
            // The sender is ours.
            let _ = presence.wait_for(|presence| *presence == Presence::Some).await;
            slots.take().await
        });
        let slot = admitted.await.map_err(|refused| match refused {
            NotAdmitted::QueueTimeout if self.is_empty() => NotAdmitted::NoEndpoint,
            NotAdmitted::QueueTimeout
            | NotAdmitted::NoEndpoint
            | NotAdmitted::NoOther
            | NotAdmitted::Overloaded => refused,
        })?;
        drop(wanted);
        self.begin(slot, context, limit)
    }

    /// One more connection for requests. If there are as many as may be, an idle one makes room.
    pub async fn connection(&self, metrics: &Metrics) -> Result<Slot, NotAdmitted> {
        if let Some(slot) = self.state.connections.try_take() {
            return Ok(slot);
        }
        let _wanted = self.want_connection();
        let _queued = self.begin_queued(metrics);
        Box::pin(self.wait(self.state.connections.take())).await
    }

    /// One more connection, if that leaves one for each endpoint.
    pub fn spare_connection(&self) -> Option<Slot> {
        let slots = &self.state.connections;
        if slots.free() <= self.len() { None } else { slots.try_take() }
    }

    /// While this is held, connections are closed after use.
    fn want_connection(&self) -> Option<crate::balance::queue::Waiter<'_>> {
        let wanted = self.state.connections_wanted.enter(usize::MAX);
        self.set.load().endpoints.iter().any(|endpoint| endpoint.pool.close_idle());
        wanted
    }

    /// In the queue, if there is room, and for as long as the policy allows.
    async fn wait<T>(&self, waited_for: impl Future<Output = T>) -> Result<T, NotAdmitted> {
        let limits = self.state.policy().limits;
        if limits.pending_timeout.is_zero() {
            return Err(NotAdmitted::Overloaded);
        }
        let pending = usize::try_from(limits.pending).unwrap_or(usize::MAX);
        let _place = self.state.queue.enter(pending).ok_or(NotAdmitted::Overloaded)?;
        tokio::time::timeout(limits.pending_timeout, waited_for)
            .await
            .map_err(|_elapsed| NotAdmitted::QueueTimeout)
    }

    fn begin(
        &self,
        slot: Slot,
        context: &PickContext<'_>,
        limit: usize,
    ) -> Result<InFlight, NotAdmitted> {
        let endpoint = self.pick(context, &mut rand::rng()).ok_or(NotAdmitted::NoOther)?;
        endpoint.begin(slot, limit).ok_or(NotAdmitted::Overloaded)
    }

    fn slots(&self, purpose: Purpose) -> &Arc<Slots> {
        match purpose {
            Purpose::Request => &self.state.requests,
            Purpose::Connection => &self.state.connections,
        }
    }

    /// A request is sent for the first time: it adds to what may be repeated.
    pub fn count_request(&self, now: Instant) {
        let rules = self.state.policy().retry_budget;
        self.state.budget.count_request(&rules, self.state.since_born(now));
    }

    /// Whether a request may be repeated; if so, that is used up.
    pub fn may_retry(&self, now: Instant) -> bool {
        let rules = self.state.policy().retry_budget;
        self.state.budget.may_retry(&rules, self.state.since_born(now))
    }

    /// Counts a connection that is carried to this backend as bytes, and how long it is open: until what
    /// is returned is dropped.
    pub fn begin_connection(&self, metrics: &Metrics, labels: &ConnectionLabels) -> Timed {
        let is_it = |held: &ConnectionLabels| held == labels;
        self.connections.metric(&metrics.connections, is_it, || labels.clone()).inc();
        let durations = &metrics.connection_durations;
        self.connection_durations.metric(durations, is_it, || labels.clone()).begin()
    }

    /// Something begins to wait for its turn, until what is returned is dropped.
    fn begin_queued(&self, metrics: &Metrics) -> Timed {
        let make = || BackendLabels { backend: Arc::clone(self.label()) };
        self.queued.metric(&metrics.queued, |_held| true, make).begin()
    }
}

impl Known<'_> {
    fn is(&self, endpoint: &Arc<Endpoint>) -> bool {
        let known = &self.endpoint.endpoint;
        // Of a change most are what they were, which need not be compared.
        Arc::ptr_eq(known, endpoint) || (known.peer == endpoint.peer && known.pod == endpoint.pod)
    }
}

impl From<EndpointSet> for SharedEndpoints {
    fn from(EndpointSet { endpoints, policy }: EndpointSet) -> Self {
        Self { endpoints: endpoints.into_iter().map(Arc::new).collect(), policy }
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("label", self.label()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
