//! A backend's ready endpoints, with what is kept for each: its load, its pool, whether it failed a
//! moment ago. Choosing among them is in p2c.rs.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use heddle_model::endpoint::Endpoint;
use heddle_model::names::ServicePort;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use rand::Rng;
use tokio::time::Instant;

use crate::balance::p2c;
use crate::http::pool::Pool;
use crate::metrics::leased::HeldSeries;
use crate::metrics::{
    ConnectionLabels, Direction, DurationLabels, Metrics, RequestLabels, RequestOutcome,
};

/// The endpoints of one backend. Readers never wait for an update.
pub struct Balancer {
    label: Arc<str>,
    endpoints: ArcSwap<Vec<Arc<BalancedEndpoint>>>,
    durations: HeldSeries<DurationLabels, Histogram>,
    connections: HeldSeries<ConnectionLabels, Counter>,
}

impl Balancer {
    /// No endpoints yet.
    pub fn new(backend: ServicePort) -> Arc<Self> {
        Self::labelled(backend.to_string().into())
    }

    /// The same for what is no service, under this name in logs and metrics.
    pub fn labelled(label: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            label,
            endpoints: ArcSwap::default(),
            durations: HeldSeries::default(),
            connections: HeldSeries::default(),
        })
    }

    /// The backend's name in logs and metrics.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Replaces the endpoints. Those that stay (the same address, peer and pod) keep load and pool;
    /// the connections of others end when their last request does.
    pub fn update(&self, endpoints: Vec<Endpoint>) {
        let before = self.endpoints.load();
        let known: HashMap<SocketAddr, &Arc<BalancedEndpoint>> =
            before.iter().map(|endpoint| (endpoint.endpoint.address, endpoint)).collect();
        let after = endpoints
            .into_iter()
            .map(|endpoint| {
                let kept = known.get(&endpoint.address).filter(|kept| {
                    kept.endpoint.peer == endpoint.peer && kept.endpoint.pod == endpoint.pod
                });
                match kept {
                    Some(kept) => Arc::clone(kept),
                    None => BalancedEndpoint::new(endpoint, Arc::clone(&self.label)),
                }
            })
            .collect();
        self.endpoints.store(Arc::new(after));
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.endpoints.load().len()
    }

    /// Whether there is no endpoint.
    pub fn is_empty(&self) -> bool {
        self.endpoints.load().is_empty()
    }

    /// An endpoint other than those that were tried. Those that failed a moment ago are taken only
    /// if there is no better one: refusing all of them would turn one failure into many.
    pub fn pick(
        &self,
        tried: &[SocketAddr],
        random: &mut impl Rng,
    ) -> Option<Arc<BalancedEndpoint>> {
        let endpoints = self.endpoints.load();
        let now = Instant::now();
        let cost = |index: usize| {
            let candidate = endpoints.get(index)?;
            (!tried.contains(&candidate.endpoint.address)).then(|| candidate.cost(now))
        };
        endpoints.get(p2c::pick(endpoints.len(), cost, random)?).cloned()
    }

    /// Where the durations of requests to this backend are observed.
    pub fn durations(
        &self,
        metrics: &Metrics,
        direction: Direction,
        service: &Arc<str>,
    ) -> Histogram {
        self.durations.metric(
            &metrics.durations,
            |labels| labels.direction == direction && labels.service == *service,
            || DurationLabels {
                direction,
                service: Arc::clone(service),
                backend: Arc::clone(&self.label),
            },
        )
    }

    /// Counts a connection that is carried to this backend as bytes.
    pub fn count_connection(&self, metrics: &Metrics, labels: &ConnectionLabels) {
        self.connections
            .metric(&metrics.connections, |held| held == labels, || labels.clone())
            .inc();
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("label", &self.label).finish_non_exhaustive()
    }
}

/// One endpoint of one backend.
pub struct BalancedEndpoint {
    /// Where it is and who must answer there.
    pub endpoint: Endpoint,
    /// Connections to it that can be used again.
    pub pool: Pool,
    backend: Arc<str>,
    pod: Arc<str>,
    in_flight: AtomicUsize,
    failed_at: Mutex<Option<Instant>>,
    unreachable_at: Mutex<Option<Instant>>,
    requests: HeldSeries<RequestLabels, Counter>,
}

impl BalancedEndpoint {
    fn new(endpoint: Endpoint, backend: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            pod: endpoint.pod.as_str().into(),
            endpoint,
            pool: Pool::default(),
            backend,
            in_flight: AtomicUsize::new(0),
            failed_at: Mutex::new(None),
            unreachable_at: Mutex::new(None),
            requests: HeldSeries::default(),
        })
    }

    /// The backend's name.
    pub fn backend(&self) -> &Arc<str> {
        &self.backend
    }

    /// Takes on one more request or connection; `None` if it has `limit` of them.
    pub fn begin(self: &Arc<Self>, limit: usize) -> Option<InFlight> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight(Arc::clone(self));
        (before < limit).then_some(in_flight)
    }

    /// Requests and connections that it has.
    pub fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// There is reason to think that it does not work: for a short time others are preferred.
    pub fn mark_failing(&self) {
        *self.failed_at.lock() = Some(Instant::now());
    }

    /// It could not be connected to. That is more than reason to think so: whoever waits for the
    /// same connection has failed too.
    pub fn mark_unreachable(&self) {
        self.mark_failing();
        *self.unreachable_at.lock() = Some(Instant::now());
    }

    /// Whether it could not be connected to since `instant`.
    pub fn was_unreachable_since(&self, instant: Instant) -> bool {
        self.unreachable_at.lock().is_some_and(|failed| failed >= instant)
    }

    /// Whether others are preferred.
    pub fn is_failing(&self, now: Instant) -> bool {
        self.failed_at.lock().is_some_and(|failed| now.duration_since(failed) < FAILING_FOR)
    }

    fn cost(&self, now: Instant) -> u64 {
        let load = u64::try_from(self.load()).unwrap_or(u64::MAX);
        if self.is_failing(now) { load.saturating_add(FAILING_COST) } else { load }
    }

    /// Counts a request that was answered by this endpoint.
    pub fn count_request(
        &self,
        metrics: &Metrics,
        direction: Direction,
        service: &Arc<str>,
        outcome: RequestOutcome,
    ) {
        let RequestOutcome { status, grpc_status, tls } = outcome;
        let is_it = |labels: &RequestLabels| {
            labels.status == status
                && labels.grpc_status == grpc_status
                && labels.service == *service
                && labels.direction == direction
                && labels.tls == tls
        };
        let make = || RequestLabels {
            direction,
            service: Arc::clone(service),
            backend: Arc::clone(&self.backend),
            backend_pod: Arc::clone(&self.pod),
            status,
            grpc_status,
            tls,
        };
        self.requests.metric(&metrics.requests, is_it, make).inc();
    }
}

impl fmt::Debug for BalancedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedEndpoint").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// One request or connection that an endpoint has; its load until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<BalancedEndpoint>);

impl InFlight {
    /// Whose load it is.
    pub fn endpoint(&self) -> &Arc<BalancedEndpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Long enough for a readiness probe to notice, short enough not to miss a restart.
const FAILING_FOR: Duration = Duration::from_secs(3);
/// More than any load.
const FAILING_COST: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use heddle_model::endpoint::ExpectedPeer;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::http::grpc::GrpcStatus;
    use crate::metrics::Protection;

    fn endpoint(number: u8, pod: &str) -> Endpoint {
        Endpoint {
            address: ([10, 0, 0, number], 80).into(),
            peer: ExpectedPeer::Plaintext,
            zone: String::new(),
            node: String::new(),
            pod: pod.to_owned(),
        }
    }

    fn balancer(endpoints: Vec<Endpoint>) -> Arc<Balancer> {
        let balancer = Balancer::labelled("default/api:80".into());
        balancer.update(endpoints);
        balancer
    }

    fn random() -> SmallRng {
        SmallRng::seed_from_u64(3)
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_load() {
        let balancer = balancer(vec![endpoint(1, "a")]);
        let kept = balancer.pick(&[], &mut random()).unwrap();
        let _in_flight = kept.begin(10).unwrap();
        balancer.update(vec![endpoint(2, "b"), endpoint(1, "a")]);
        for _ in 0..20 {
            let chosen = balancer.pick(&[], &mut random()).unwrap();
            assert_eq!(chosen.endpoint.pod, "b", "the one without load");
        }
    }

    #[test]
    fn another_pod_at_the_same_address_inherits_nothing() {
        let balancer = balancer(vec![endpoint(1, "a")]);
        let before = balancer.pick(&[], &mut random()).unwrap();
        balancer.update(vec![endpoint(1, "b")]);
        let after = balancer.pick(&[], &mut random()).unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
    }

    #[test]
    fn what_was_tried_is_not_picked_again() {
        let balancer = balancer(vec![endpoint(1, "a"), endpoint(2, "b")]);
        let first = balancer.pick(&[], &mut random()).unwrap().endpoint.address;
        let second = balancer.pick(&[first], &mut random()).unwrap().endpoint.address;
        assert_ne!(first, second);
        assert!(balancer.pick(&[first, second], &mut random()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_failed_is_avoided_for_a_while() {
        let balancer = balancer(vec![endpoint(1, "a"), endpoint(2, "b")]);
        let failed = balancer.pick(&[], &mut random()).unwrap();
        failed.mark_failing();
        let mut random = random();
        let mut picks = |count: usize| {
            let is_failed =
                |_| balancer.pick(&[], &mut random).unwrap().endpoint == failed.endpoint;
            (0..count).map(is_failed).filter(|is_failed| *is_failed).count()
        };
        assert_eq!(picks(50), 0);
        tokio::time::advance(FAILING_FOR).await;
        assert!(picks(50) > 0);
    }

    #[test]
    fn series_of_an_endpoint_that_is_gone_are_removed() {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let balancer = balancer(vec![endpoint(1, "a"), endpoint(2, "b")]);
        let service = "default/api:80".into();
        for address in [[10, 0, 0, 1], [10, 0, 0, 2]] {
            let others = [endpoint(if address[3] == 1 { 2 } else { 1 }, "").address];
            let chosen = balancer.pick(&others, &mut random()).unwrap();
            let outcome = RequestOutcome {
                status: 200,
                grpc_status: GrpcStatus::NotGrpc,
                tls: Protection::Mutual,
            };
            chosen.count_request(&metrics, Direction::Outbound, &service, outcome);
            chosen.count_request(&metrics, Direction::Outbound, &service, outcome);
        }
        let count = |pod: &str| {
            let labels = RequestLabels {
                direction: Direction::Outbound,
                service: Arc::clone(&service),
                backend: Arc::clone(balancer.label()),
                backend_pod: pod.into(),
                status: 200,
                grpc_status: GrpcStatus::NotGrpc,
                tls: Protection::Mutual,
            };
            metrics.requests.family().get(&labels).map(|counter| counter.get())
        };
        assert_eq!((count("a"), count("b")), (Some(2), Some(2)));
        balancer.update(vec![endpoint(2, "b")]);
        assert_eq!((count("a"), count("b")), (None, Some(2)));
    }

    #[test]
    fn load_is_bounded() {
        let balancer = balancer(vec![endpoint(1, "a")]);
        let only = balancer.pick(&[], &mut random()).unwrap();
        let first = only.begin(1);
        assert!(first.is_some());
        assert!(only.begin(1).is_none());
        drop(first);
        assert!(only.begin(1).is_some());
    }
}
