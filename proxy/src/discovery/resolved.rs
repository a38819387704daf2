//! What a connection finds out about the address it was going to: routes compiled, backends as
//! balancers. Made from state.rs's changes; read by the data path.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;

use heddle_matcher::host;
use heddle_model::destination::{EndpointDestination, ServiceDestination};
use heddle_model::endpoint::{Endpoint, EndpointSet, ExpectedPeer};
use heddle_model::filter::{Fraction, HttpFilter};
use heddle_model::names::{Port, Protocol, ServiceName, ServicePort};
use heddle_model::policy::SessionPersistence;
use heddle_model::route::{
    ConnectionRule, Hostname, HttpRule, RuleOrigin, Timeouts, WeightedBackend,
};
use heddle_runtime::clock;
use http::HeaderMap;
use rand::Rng;

use crate::balance::balancer::{Balancer, SharedEndpoints};
use crate::balance::locality::Place;
use crate::balance::session::Session;
use crate::balance::weighted;
use crate::discovery::state::Meaning;
use crate::http::filter::Filters;
use crate::http::route::CompiledRule;

/// What an address means.
#[derive(Clone)]
pub enum Resolved {
    /// Not the mesh's: connect to the address itself, unchanged.
    PassThrough,
    /// Not to be connected to.
    Refused {
        /// A sentence for people.
        reason: String,
    },
    /// A service's virtual address.
    Service(Arc<ResolvedService>),
    /// A pod's own address.
    Endpoint(Arc<ResolvedEndpoint>),
}

/// A service's port with its routes.
pub struct ResolvedService {
    /// The port of the service that was called.
    pub service: ServicePort,
    /// What is known of the protocol.
    pub protocol: Protocol,
    /// In order of precedence: the first that matches serves the request; none: 404.
    pub rules: Vec<Arc<ResolvedRule>>,
    /// For what the application encrypts, in order of precedence. Empty: it goes where others go; if
    /// there are some and none matches, it is reset.
    pub tls_rules: Vec<ResolvedTlsRule>,
    /// Where all other connections go that are not HTTP.
    pub connections: ResolvedConnections,
}

/// One rule of a route.
#[derive(Debug)]
pub struct ResolvedRule {
    /// Decides whether a request is this rule's, and what is done to it.
    pub compiled: CompiledRule,
    /// Where requests go. Empty, or all weights zero: 500.
    pub backends: Vec<ResolvedBackend>,
    /// The share of backends that do not exist: 500.
    pub missing_weight: u32,
    /// Who gets copies, whichever backend is picked.
    pub mirrors: Vec<ResolvedMirror>,
    /// How requests of one client stay with one endpoint, and so with its backend; `None`: as each
    /// backend's policy has it.
    pub session: Option<Arc<SessionPersistence>>,
    /// Limits on time.
    pub timeouts: Timeouts,
    /// The object it came from.
    pub origin: RuleOrigin,
    /// Its name, for metrics; `None` if there is none.
    pub route: Option<Arc<str>>,
    /// Whether every request with a path is of this rule, and all that is done to it is that one of the backends is
    /// picked and gets it: what is in its head makes no difference.
    pub is_plain: bool,
}

/// The name of the object that a rule came from.
pub fn route_name(origin: &RuleOrigin) -> Option<Arc<str>> {
    match origin {
        RuleOrigin::ServiceDefault => None,
        RuleOrigin::Object { object, .. } => Some(object.name.as_str().into()),
    }
}

impl ResolvedRule {
    /// Whether something is done to requests, at least to those of one backend.
    pub fn changes_requests(&self) -> bool {
        self.all_filters().any(Filters::change_requests)
    }

    /// Whether something is done to responses, at least to those of one backend.
    pub fn changes_responses(&self) -> bool {
        self.all_filters().any(Filters::change_responses)
    }

    /// The index of the backend that the request's session is with, if the rule keeps sessions and
    /// still sends something there.
    pub fn backend_of_session(&self, headers: &HeaderMap) -> Option<usize> {
        let session = Session::of(Arc::clone(self.session.as_ref()?), headers, clock::now());
        let is_it = |one: &ResolvedBackend| one.weight > 0 && one.balancer.holds(&session);
        self.backends.iter().position(is_it)
    }

    fn all_filters(&self) -> impl Iterator<Item = &Filters> {
        std::iter::once(&self.compiled.filters).chain(&self.compiled.backend_filters)
    }
}

/// A backend of requests, its share, and who gets copies of its requests.
#[derive(Debug)]
pub struct ResolvedBackend {
    /// Picks the endpoint.
    pub balancer: Arc<Balancer>,
    /// Its part of the sum of all weights.
    pub weight: u32,
    /// Who gets copies.
    pub mirrors: Vec<ResolvedMirror>,
}

/// Who gets copies of requests.
#[derive(Debug)]
pub struct ResolvedMirror {
    /// Picks the endpoint.
    pub balancer: Arc<Balancer>,
    /// Of how many requests.
    pub fraction: Fraction,
}

/// A rule for connections that the application encrypts.
#[derive(Debug)]
pub struct ResolvedTlsRule {
    /// Any of these selects the rule; empty: every name, and none at all.
    pub hostnames: Vec<Hostname>,
    /// Where its connections go.
    pub connections: ResolvedConnections,
}

impl ResolvedTlsRule {
    /// Whether a connection is this rule's, by the server name of its ClientHello.
    pub fn matches(&self, server_name: Option<&str>) -> bool {
        host::is_named(&self.hostnames, server_name)
    }
}

/// Where connections go that are carried as bytes.
#[derive(Debug)]
pub struct ResolvedConnections {
    /// Empty, or all weights zero: they are reset.
    pub backends: Vec<WeightedBalancer>,
    /// The share of backends that do not exist: it is reset.
    pub missing_weight: u32,
}

impl ResolvedConnections {
    /// The backend of the next connection; `None` if it is to be reset.
    pub fn pick(&self, random: &mut impl Rng) -> Option<&Arc<Balancer>> {
        let weights = self.backends.iter().map(|(_balancer, weight)| *weight);
        let index = weighted::pick_of(weights, self.missing_weight, random)?;
        self.backends.get(index).map(|(balancer, _weight)| balancer)
    }
}

/// A balancer and its share.
pub type WeightedBalancer = (Arc<Balancer>, u32);

/// A pod that was called by its own address.
pub struct ResolvedEndpoint {
    /// Holds exactly this pod.
    pub balancer: Arc<Balancer>,
    /// What is known of the protocol.
    pub protocol: Protocol,
    /// The service it stands behind, if exactly one does; for metrics.
    pub service: Option<ServicePort>,
}

/// Keeps one balancer for each service's port, which all destinations share: its pools and loads
/// outlive every change of routes.
#[derive(Default)]
pub struct Resolver {
    services: HashMap<ServicePort, Arc<Balancer>>,
    pods: HashMap<SocketAddr, (ServicePort, Arc<Balancer>)>,
    /// Where the own workload runs.
    own: Place,
}

impl Resolver {
    /// Refers to balancers; one whose endpoints never came is empty, and answers 503.
    pub fn resolve(&mut self, address: SocketAddr, meaning: Meaning) -> Resolved {
        let resolved = match meaning {
            Meaning::PassThrough => Resolved::PassThrough,
            Meaning::Refused { reason } => Resolved::Refused { reason },
            Meaning::Service { service, compiled } => {
                Resolved::Service(Arc::new(self.service(*service, compiled)))
            }
            Meaning::Endpoint(endpoint) => {
                return self.endpoint(address, *endpoint);
            }
        };
        self.pods.remove(&address);
        resolved
    }

    /// Where the own workload runs: endpoints that are close may be preferred.
    pub fn set_place(&mut self, own: Place) {
        if own != self.own {
            self.own = own;
            for balancer in self.services.values() {
                balancer.move_to(&self.own);
            }
        }
    }

    /// All endpoints of a service's port.
    pub fn update(&mut self, service: &ServicePort, set: impl Into<SharedEndpoints>) {
        self.balancer(service).update(set, &self.own);
    }

    /// Endpoints that are not held any more. A destination that still refers to them keeps its
    /// balancer, emptied, so that it is filled again should they return.
    pub fn remove(&mut self, service: &ServicePort) {
        if let Entry::Occupied(entry) = self.services.entry(service.clone()) {
            entry.get().update(EndpointSet::default(), &self.own);
            if Arc::strong_count(entry.get()) == 1 {
                entry.remove();
            }
        }
    }

    /// Forgets a pod's own address.
    pub fn forget(&mut self, address: SocketAddr) {
        self.pods.remove(&address);
    }

    /// Drops balancers that neither a destination nor held endpoints stand behind.
    pub fn drop_unused(&mut self, holds: impl Fn(&ServicePort) -> bool) {
        self.services.retain(|service, balancer| Arc::strong_count(balancer) > 1 || holds(service));
    }

    fn service(
        &mut self,
        destination: ServiceDestination,
        compiled: Vec<CompiledRule>,
    ) -> ResolvedService {
        let ServiceDestination { service, protocol, http_rules, tls_rules, connections } =
            destination;
        debug_assert_eq!(http_rules.len(), compiled.len(), "one compiled rule for each");
        let rules = http_rules.into_iter().zip(compiled);
        let rules = rules.map(|(rule, compiled)| Arc::new(self.rule(rule, compiled))).collect();
        let tls_rules = tls_rules
            .into_iter()
            .map(|rule| ResolvedTlsRule {
                hostnames: rule.hostnames,
                connections: self.connections(&rule.connections),
            })
            .collect();
        let connections = self.connections(&connections);
        ResolvedService { service, protocol, rules, tls_rules, connections }
    }

    fn rule(&mut self, rule: HttpRule, compiled: CompiledRule) -> ResolvedRule {
        let backends: Vec<ResolvedBackend> = rule
            .backends
            .iter()
            .map(|backend| ResolvedBackend {
                balancer: self.balancer(&backend.backend),
                weight: backend.weight,
                mirrors: self.mirrors(&backend.filters),
            })
            .collect();
        let mirrors = self.mirrors(&rule.filters);
        let is_plain = compiled.is_plain()
            && mirrors.is_empty()
            && backends.iter().all(|backend| backend.mirrors.is_empty())
            && rule.session.is_none()
            && rule.missing_weight == 0
            && rule.timeouts == Timeouts::default();
        ResolvedRule {
            is_plain,
            compiled,
            backends,
            missing_weight: rule.missing_weight,
            mirrors,
            session: rule.session.map(Arc::new),
            timeouts: rule.timeouts,
            route: route_name(&rule.origin),
            origin: rule.origin,
        }
    }

    fn mirrors(&mut self, filters: &[HttpFilter]) -> Vec<ResolvedMirror> {
        let mut mirrors = Vec::new();
        for filter in filters {
            match filter {
                HttpFilter::Mirror(mirror) => mirrors.push(ResolvedMirror {
                    balancer: self.balancer(&mirror.backend),
                    fraction: mirror.fraction,
                }),
                HttpFilter::RequestHeaders(_)
                | HttpFilter::ResponseHeaders(_)
                | HttpFilter::Redirect(_)
                | HttpFilter::Rewrite(_)
                | HttpFilter::Cors(_) => {}
            }
        }
        mirrors
    }

    fn connections(&mut self, rule: &ConnectionRule) -> ResolvedConnections {
        let backends = self.weighted(&rule.backends);
        ResolvedConnections { backends, missing_weight: rule.missing_weight }
    }

    fn endpoint(&mut self, address: SocketAddr, destination: EndpointDestination) -> Resolved {
        let EndpointDestination { endpoint, protocol, service } = destination;
        let Some(backend) = service.clone().or_else(|| stand_in(&endpoint)) else {
            return Resolved::Refused { reason: "the endpoint's port is zero".to_owned() };
        };
        let balancer = match self.pods.get(&address) {
            Some((known, balancer)) if *known == backend => Arc::clone(balancer),
            Some(_) | None => Balancer::new(backend.clone()),
        };
        balancer
            .update(EndpointSet { endpoints: vec![endpoint], ..EndpointSet::default() }, &self.own);
        self.pods.insert(address, (backend, Arc::clone(&balancer)));
        Resolved::Endpoint(Arc::new(ResolvedEndpoint { balancer, protocol, service }))
    }

    fn weighted(&mut self, backends: &[WeightedBackend]) -> Vec<WeightedBalancer> {
        backends
            .iter()
            .map(|weighted| (self.balancer(&weighted.backend), weighted.weight))
            .collect()
    }

    fn balancer(&mut self, service: &ServicePort) -> Arc<Balancer> {
        match self.services.get(service) {
            Some(balancer) => Arc::clone(balancer),
            None => {
                let balancer = Balancer::new(service.clone());
                self.services.insert(service.clone(), Arc::clone(&balancer));
                balancer
            }
        }
    }
}

/// Names the backend of a pod that stands behind no service, or behind several, by the pod itself.
/// `None` for port zero, where nothing can be connected to.
fn stand_in(endpoint: &Endpoint) -> Option<ServicePort> {
    let namespace = match &endpoint.peer {
        ExpectedPeer::Mesh { identity, .. } => identity.namespace().to_owned(),
        ExpectedPeer::Plaintext => String::new(),
    };
    let name = match endpoint.pod.as_str() {
        "" => endpoint.address.ip().to_string(),
        pod => pod.to_owned(),
    };
    let port = Port::new(endpoint.address.port())?;
    Some(ServicePort { service: ServiceName { namespace, name }, port })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use heddle_model::filter::{FaultDelay, HeaderChange, Mirror};
    use heddle_model::policy::{BackendPolicy, Balance, Locality, Preference};
    use heddle_model::route::{HttpBackend, HttpMatch, PathMatch, Retry};

    use super::*;
    use crate::balance::set::{PickContext, Purpose};
    use crate::http::route::compile;
    use crate::testing::{plain, service};

    fn zoned(number: u8, zone: &str) -> Endpoint {
        Endpoint { zone: zone.to_owned(), ..plain(([10, 0, 0, number], 80).into()) }
    }

    fn zones(balancer: &Balancer) -> BTreeSet<String> {
        let mut random = rand::rng();
        let mut pick = || balancer.pick(&PickContext::first(Purpose::Request), &mut random);
        (0..20).map(|_pick| pick().unwrap().endpoint.zone.clone()).collect()
    }

    #[test]
    fn a_policy_comes_with_the_endpoints_and_the_own_zone_in_any_order() {
        let locality = Locality { preference: Preference::SameZone, ..Locality::default() };
        let balance = Balance::RoundRobin;
        let policy = BackendPolicy { balance, locality, ..BackendPolicy::default() };
        let endpoints = vec![zoned(1, "a"), zoned(2, "b"), zoned(3, "b")];
        let set = EndpointSet { endpoints, policy };
        let own = |zone: &str| Place { zone: zone.to_owned(), node: String::new() };
        let of = |zones: &[&str]| zones.iter().map(|zone| (*zone).to_owned()).collect();

        let mut resolver = Resolver::default();
        let balancer = resolver.balancer(&service("api"));
        resolver.update(&service("api"), set.clone());
        assert_eq!(zones(&balancer), of(&["a", "b"]), "it is not known where we are");
        resolver.set_place(own("a"));
        assert_eq!(zones(&balancer), of(&["a"]));
        resolver.set_place(own("b"));
        assert_eq!(zones(&balancer), of(&["b"]));

        resolver.update(&service("other"), set);
        assert_eq!(zones(&resolver.balancer(&service("other"))), of(&["b"]));
    }

    /// Whether a rule is plain that differs from the simplest one in this.
    fn is_plain(change: impl FnOnce(&mut HttpRule)) -> bool {
        let backend = HttpBackend { backend: service("api"), weight: 1, filters: Vec::new() };
        let mut rule = HttpRule::to(vec![backend], RuleOrigin::ServiceDefault);
        change(&mut rule);
        let compiled = compile(std::slice::from_ref(&rule)).unwrap().remove(0);
        Resolver::default().rule(rule, compiled).is_plain
    }

    #[test]
    fn a_rule_is_plain_if_nothing_of_a_request_makes_a_difference_to_it() {
        let second = Some(Duration::from_secs(1));
        let prefix = |path: &str| HttpMatch {
            path: Some(PathMatch::Prefix(path.to_owned())),
            ..HttpMatch::default()
        };
        let mirror = Mirror { backend: service("shadow"), fraction: Fraction::ALL };
        let mirror = HttpFilter::Mirror(mirror);
        assert!(is_plain(|_rule| {}));
        assert!(is_plain(|rule| rule.matches = vec![prefix("/")]), "all paths");
        assert!(is_plain(|rule| rule.backends.push(rule.backends[0].clone())), "a split");
        assert!(!is_plain(|rule| rule.matches = vec![prefix("/a")]), "some paths");
        assert!(!is_plain(|rule| rule.hostnames = vec![Hostname::Exact("a".to_owned())]), "a host");
        assert!(!is_plain(|rule| rule.missing_weight = 1), "some fail");
        assert!(!is_plain(|rule| rule.timeouts.request = second), "a limit");
        assert!(!is_plain(|rule| rule.timeouts.backend_request = second), "a limit of attempts");
        assert!(!is_plain(|rule| rule.filters.push(mirror.clone())), "a mirror");
        assert!(
            !is_plain(|rule| rule.backends[0].filters.push(mirror.clone())),
            "one of a backend"
        );
        let retry = Retry { codes: vec![503], attempts: 2, backoff: Duration::ZERO };
        assert!(!is_plain(|rule| rule.retry = Some(retry)), "retries");
        let delay = FaultDelay { duration: Duration::from_secs(1), fraction: Fraction::ALL };
        assert!(!is_plain(|rule| rule.fault.delay = Some(delay)), "a fault");
        let changes = HeaderChange { remove: vec!["x-a".to_owned()], ..HeaderChange::default() };
        let header = HttpFilter::ResponseHeaders(changes);
        assert!(!is_plain(|rule| rule.filters.push(header)), "a header");
    }
}
