//! What is sent is what is received, and what cannot be read is refused with its place.

use std::net::SocketAddr;
use std::time::Duration;

use heddle_model::access_log::{AccessLogFormat, AccessLogMode, AccessLogWish};
use heddle_model::destination::{Destination, EndpointDestination, ServiceDestination};
use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_model::filter::{
    Cors, Fault, FaultAbort, FaultDelay, Fraction, HeaderChange, HttpFilter, Mirror, NamedValue,
    PathChange, Redirect, Rewrite,
};
use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName, ServicePort};
use heddle_model::policy::{
    BackendPolicy, Balance, CircuitLimits, Ejection, HashKey, KeepAlive, Locality, Preference,
    RateLimit, RateLimitScope, RetryBudget, SessionKind, SessionPersistence,
};
use heddle_model::resource::ResourceKey;
use heddle_model::route::{
    ConnectionRule, Hostname, HttpBackend, HttpMatch, HttpRule, NamedMatch, PathMatch, Retry,
    RuleOrigin, Timeouts, TlsRule, ValueMatch, WeightedBackend,
};
use heddle_model::workload::{
    InboundMode, InboundPort, NodeProbes, Probe, ProbeGet, ProbeKind, Workload,
};
use proptest::prelude::*;

use super::*;
use crate::discovery as wire;

fn name() -> &'static str {
    "[a-z][a-z0-9-]{0,10}[a-z0-9]"
}

fn port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(|number| Port::new(number).unwrap())
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    (name(), name(), port()).prop_map(|(namespace, name, port)| ServicePort {
        service: ServiceName { namespace, name },
        port,
    })
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), 1..=u16::MAX).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![
        Protocol::Detect,
        Protocol::Http1,
        Protocol::Http2,
        Protocol::Tls,
        Protocol::Opaque,
    ])
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let mesh = (name(), name(), name()).prop_map(|(namespace, account, uid)| ExpectedPeer::Mesh {
        identity: format!("spiffe://mesh.local/ns/{namespace}/sa/{account}").parse().unwrap(),
        pod_uid: uid.parse().unwrap(),
    });
    let peer = prop_oneof![Just(ExpectedPeer::Plaintext), mesh];
    (address(), peer, name(), name(), name())
        .prop_map(|(address, peer, zone, node, pod)| Endpoint { address, peer, zone, node, pod })
}

fn value_match() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![".{0,9}".prop_map(ValueMatch::Exact), ".{0,9}".prop_map(ValueMatch::Regex)]
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let named = || {
        let one = (name(), value_match()).prop_map(|(name, value)| NamedMatch { name, value });
        prop::collection::vec(one, 0..3)
    };
    let path = prop_oneof![
        ".{0,9}".prop_map(PathMatch::Exact),
        ".{0,9}".prop_map(PathMatch::Prefix),
        ".{0,9}".prop_map(PathMatch::Regex)
    ];
    (prop::option::of(path), named(), named(), prop::option::of("[A-Z]{3,7}")).prop_map(
        |(path, headers, query_parameters, method)| HttpMatch {
            path,
            headers,
            query_parameters,
            method,
        },
    )
}

fn backends() -> impl Strategy<Value = Vec<WeightedBackend>> {
    let one = (service_port(), any::<u32>())
        .prop_map(|(backend, weight)| WeightedBackend { backend, weight });
    prop::collection::vec(one, 0..3)
}

fn milliseconds() -> impl Strategy<Value = Duration> {
    (1..100_000_u64).prop_map(Duration::from_millis)
}

fn origin() -> impl Strategy<Value = RuleOrigin> {
    prop_oneof![
        Just(RuleOrigin::ServiceDefault),
        (name(), name(), name()).prop_map(|(kind, namespace, name)| RuleOrigin::Object {
            object: ObjectReference { kind, namespace, name },
            field: "spec.rules[0]".to_owned(),
        })
    ]
}

fn hostnames() -> impl Strategy<Value = Vec<Hostname>> {
    let one = prop_oneof![name().prop_map(Hostname::Exact), name().prop_map(Hostname::Below)];
    prop::collection::vec(one, 0..3)
}

fn fraction() -> impl Strategy<Value = Fraction> {
    (0..10_u32, 10..20_u32).prop_map(|(part, whole)| Fraction::new(part, whole).unwrap())
}

fn filter() -> impl Strategy<Value = HttpFilter> {
    let named = || {
        let one = (name(), ".{0,9}").prop_map(|(name, value)| NamedValue { name, value });
        prop::collection::vec(one, 0..3)
    };
    let names = || prop::collection::vec(name(), 0..3);
    let change = || {
        (named(), named(), names()).prop_map(|(set, add, remove)| HeaderChange { set, add, remove })
    };
    let path = || {
        prop::option::of(prop_oneof![
            ".{0,9}".prop_map(PathChange::Full),
            ".{0,9}".prop_map(PathChange::Prefix)
        ])
    };
    let text = || prop::option::of(name());
    let statuses = prop::sample::select(vec![301, 302, 303, 307, 308]);
    let redirect = (text(), text(), path(), prop::option::of(port()), statuses).prop_map(
        |(scheme, hostname, path, port, status)| Redirect { scheme, hostname, path, port, status },
    );
    let cors = ((names(), names(), names(), names()), any::<bool>(), any::<u32>()).prop_map(
        |((allow_origins, allow_methods, allow_headers, expose_headers), credentials, age)| Cors {
            allow_origins,
            allow_methods,
            allow_headers,
            expose_headers,
            allow_credentials: credentials,
            max_age: Duration::from_secs(u64::from(age)),
        },
    );
    prop_oneof![
        change().prop_map(HttpFilter::RequestHeaders),
        change().prop_map(HttpFilter::ResponseHeaders),
        redirect.prop_map(HttpFilter::Redirect),
        (text(), path())
            .prop_map(|(hostname, path)| HttpFilter::Rewrite(Rewrite { hostname, path })),
        (service_port(), fraction())
            .prop_map(|(backend, fraction)| HttpFilter::Mirror(Mirror { backend, fraction })),
        cors.prop_map(HttpFilter::Cors),
    ]
}

fn session() -> impl Strategy<Value = SessionPersistence> {
    let kinds = vec![SessionKind::SessionCookie, SessionKind::PermanentCookie, SessionKind::Header];
    let limit = || prop::option::of(milliseconds());
    (name(), prop::sample::select(kinds), limit(), limit()).prop_map(
        |(name, kind, absolute_timeout, idle_timeout)| SessionPersistence {
            name,
            kind,
            absolute_timeout,
            idle_timeout,
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    let delay = (milliseconds(), fraction())
        .prop_map(|(duration, fraction)| FaultDelay { duration, fraction });
    let abort = (400..600_u16, 1..=16_u8, fraction())
        .prop_map(|(status, grpc_status, fraction)| FaultAbort { status, grpc_status, fraction });
    (prop::option::of(delay), prop::option::of(abort))
        .prop_map(|(delay, abort)| Fault { delay, abort })
}

fn http_backends() -> impl Strategy<Value = Vec<HttpBackend>> {
    let filters = prop::collection::vec(filter(), 0..2);
    let one = (service_port(), any::<u32>(), filters)
        .prop_map(|(backend, weight, filters)| HttpBackend { backend, weight, filters });
    prop::collection::vec(one, 0..3)
}

fn rule() -> impl Strategy<Value = HttpRule> {
    let limit = || prop::option::of(milliseconds());
    let codes = prop::collection::vec(400..600_u16, 0..3);
    let retry = (codes, any::<u32>(), milliseconds())
        .prop_map(|(codes, attempts, backoff)| Retry { codes, attempts, backoff });
    let conditions = (hostnames(), prop::collection::vec(http_match(), 0..3));
    let weights = (http_backends(), any::<u32>());
    let filters = (prop::collection::vec(filter(), 0..3), fault());
    let extras = (prop::option::of(retry), prop::option::of(session()));
    (conditions, filters, weights, (limit(), limit()), extras, origin()).prop_map(
        |((hostnames, matches), (filters, fault), weights, limits, (retry, session), origin)| {
            let (backends, missing_weight) = weights;
            let (request, backend_request) = limits;
            HttpRule {
                hostnames,
                matches,
                filters,
                backends,
                missing_weight,
                timeouts: Timeouts { request, backend_request },
                retry,
                session,
                fault,
                origin,
            }
        },
    )
}

fn connections() -> impl Strategy<Value = ConnectionRule> {
    (backends(), any::<u32>(), origin()).prop_map(|(backends, missing_weight, origin)| {
        ConnectionRule { backends, missing_weight, origin }
    })
}

fn policy() -> impl Strategy<Value = BackendPolicy> {
    let balance = prop_oneof![
        milliseconds().prop_map(|decay| Balance::PeakEwma { decay }),
        Just(Balance::RoundRobin),
        Just(Balance::Random),
        name().prop_map(|name| Balance::ConsistentHash(HashKey::Header(name))),
        name().prop_map(|name| Balance::ConsistentHash(HashKey::Cookie(name))),
        Just(Balance::ConsistentHash(HashKey::Source)),
    ];
    let preferences = vec![Preference::None, Preference::SameZone, Preference::SameNode];
    let locality = (prop::sample::select(preferences), 0..=100_u8).prop_map(
        |(preference, minimum_healthy_percent)| Locality { preference, minimum_healthy_percent },
    );
    let count = || prop::option::of(1..9_u32);
    let ejection = (count(), count(), milliseconds(), milliseconds(), 0..=100_u8).prop_map(
        |(responses, connections, base_duration, maximum_duration, maximum_percent)| Ejection {
            consecutive_responses: responses,
            consecutive_connections: connections,
            base_duration,
            maximum_duration,
            maximum_percent,
        },
    );
    let limits = (1..9_u32, 1..9_u32, 0..9_u32, milliseconds()).prop_map(
        |(connections, requests, pending, pending_timeout)| CircuitLimits {
            connections,
            requests,
            pending,
            pending_timeout,
        },
    );
    let budget = (any::<u32>(), any::<u32>(), milliseconds()).prop_map(
        |(percent, minimum_per_second, interval)| RetryBudget {
            percent,
            minimum_per_second,
            interval,
        },
    );
    let keep_alive = (milliseconds(), milliseconds(), milliseconds(), 1..9_u32).prop_map(
        |(idle_timeout, tcp_time, tcp_interval, tcp_probes)| KeepAlive {
            idle_timeout,
            tcp_time,
            tcp_interval,
            tcp_probes,
        },
    );
    let optional = (prop::option::of(session()), prop::option::of(milliseconds()));
    (balance, locality, optional, ejection, limits, (budget, keep_alive)).prop_map(
        |(balance, locality, (session, slow_start), ejection, limits, rest)| BackendPolicy {
            balance,
            locality,
            session,
            slow_start,
            ejection,
            limits,
            retry_budget: rest.0,
            keep_alive: rest.1,
        },
    )
}

fn destination() -> impl Strategy<Value = Destination> {
    let tls = (hostnames(), connections())
        .prop_map(|(hostnames, connections)| TlsRule { hostnames, connections });
    let tls = prop::collection::vec(tls, 0..3);
    let rules = prop::collection::vec(rule(), 0..3);
    let service = (service_port(), protocol(), rules, tls, connections());
    let endpoint = (endpoint(), protocol(), prop::option::of(service_port()));
    prop_oneof![
        Just(Destination::PassThrough),
        ".{0,20}".prop_map(|reason| Destination::Refused { reason }),
        service.prop_map(|(service, protocol, http_rules, tls_rules, connections)| {
            Destination::Service(ServiceDestination {
                service,
                protocol,
                http_rules,
                tls_rules,
                connections,
            })
        }),
        endpoint.prop_map(|(endpoint, protocol, service)| {
            Destination::Endpoint(EndpointDestination { endpoint, protocol, service })
        }),
    ]
}

fn probes() -> impl Strategy<Value = NodeProbes> {
    let get = (name(), prop::collection::vec(name(), 0..3))
        .prop_map(|(name, headers)| ProbeGet { path: format!("/{name}"), headers });
    let kind = prop_oneof![
        get.clone().prop_map(ProbeKind::Http),
        get.prop_map(ProbeKind::Https),
        Just(ProbeKind::Tcp),
        Just(ProbeKind::Grpc),
    ];
    let probe = (port(), kind).prop_map(|(port, kind)| Probe { port, kind });
    let sources = prop::collection::vec(any::<std::net::IpAddr>(), 0..3);
    (sources, prop::collection::vec(probe, 0..3))
        .prop_map(|(sources, probes)| NodeProbes { sources, probes })
}

fn workload() -> impl Strategy<Value = Workload> {
    let mode = prop::sample::select(vec![InboundMode::Permissive, InboundMode::Strict]);
    let ports = prop::collection::vec(
        (port(), protocol()).prop_map(|(port, protocol)| InboundPort { port, protocol }),
        0..3,
    );
    let scopes = vec![RateLimitScope::Workload, RateLimitScope::Caller];
    let limit = (
        prop::option::of(port()),
        1..9_u32,
        milliseconds(),
        1..9_u32,
        prop::sample::select(scopes),
    );
    let limit = limit.prop_map(|(port, requests, interval, burst, scope)| RateLimit {
        port,
        requests,
        interval,
        burst,
        scope,
    });
    let mode_of_log =
        [None, Some(AccessLogMode::Off), Some(AccessLogMode::Errors), Some(AccessLogMode::All)];
    let format_of_log = [None, Some(AccessLogFormat::Text), Some(AccessLogFormat::Json)];
    let access_log =
        (prop::sample::select(mode_of_log.to_vec()), prop::sample::select(format_of_log.to_vec()));
    let guards = (mode, ports, prop::collection::vec(limit, 0..3), probes());
    (name(), name(), name(), guards, (name(), name(), access_log)).prop_map(
        |(namespace, name, uid, guards, (zone, node, (mode, format)))| {
            let (inbound_mode, ports, rate_limits, probes) = guards;
            Workload {
                namespace,
                name,
                pod_uid: uid.parse().unwrap(),
                inbound_mode,
                ports,
                rate_limits,
                zone,
                node,
                probes,
                access_log: AccessLogWish { mode, format },
            }
        },
    )
}

proptest! {
    #[test]
    fn a_destination_arrives_as_it_was_sent(sent in destination()) {
        prop_assert_eq!(Destination::try_from(wire::Destination::from(&sent)), Ok(sent));
    }

    #[test]
    fn a_workload_arrives_as_it_was_sent(sent in workload()) {
        prop_assert_eq!(Workload::try_from(wire::Workload::from(&sent)), Ok(sent));
    }

    #[test]
    fn an_endpoint_arrives_as_it_was_sent(sent in endpoint()) {
        prop_assert_eq!(Endpoint::try_from(wire::Endpoint::from(&sent)), Ok(sent));
    }

    #[test]
    fn a_policy_arrives_as_it_was_sent(sent in policy()) {
        prop_assert_eq!(BackendPolicy::try_from(wire::BackendPolicy::from(&sent)), Ok(sent));
    }

    #[test]
    fn a_key_arrives_as_it_was_sent(port in service_port(), address in address()) {
        for sent in [ResourceKey::Endpoints(port), ResourceKey::Destination(address)] {
            prop_assert_eq!(ResourceKey::try_from(wire::ResourceKey::from(&sent)), Ok(sent));
        }
    }

    #[test]
    fn no_bytes_panic_the_conversion(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use prost::Message;

        if let Ok(message) = wire::Destination::decode(bytes.as_slice()) {
            let _ = Destination::try_from(message);
        }
        if let Ok(message) = wire::Workload::decode(bytes.as_slice()) {
            let _ = Workload::try_from(message);
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let backend = wire::HttpBackend {
        backend: Some(wire::ServicePort {
            service: Some(wire::ServiceName { namespace: "a".into(), name: "b".into() }),
            port: 70_000,
        }),
        weight: 1,
        filters: Vec::new(),
    };
    let rule = wire::HttpRule { backends: vec![backend], ..wire::HttpRule::default() };
    let error = HttpRule::try_from(rule).unwrap_err();
    assert_eq!(error.to_string(), "backends[0].backend.port: 70000 is not a port (want 1-65535)");

    let empty_condition = wire::HttpMatch {
        path: Some(wire::PathMatch { path: None }),
        ..wire::HttpMatch::default()
    };
    assert!(HttpMatch::try_from(empty_condition).is_err(), "it would match every path");

    let no_limit = wire::BackendPolicy {
        limits: Some(wire::CircuitLimits::default()),
        ..wire::BackendPolicy::from(&BackendPolicy::default())
    };
    let error = BackendPolicy::try_from(no_limit).unwrap_err();
    assert_eq!(error.to_string(), "limits.connections: want more than zero");

    let strange_log = wire::AccessLog { mode: 9, ..wire::AccessLog::default() };
    let error = AccessLogWish::try_from(strange_log).unwrap_err();
    assert_eq!(error.to_string(), "access_log.mode: 9 is not known");

    let no_mode = wire::Workload { pod_uid: "u".into(), ..wire::Workload::default() };
    assert!(Workload::try_from(no_mode).is_err(), "it would be served in plain text");
}

#[test]
fn a_digest_differs_when_the_content_does() {
    let one = wire::Refused { reason: "no port 81".into() };
    let other = wire::Refused { reason: "no port 82".into() };
    assert_eq!(digest(&one), digest(&one.clone()));
    assert_ne!(digest(&one), digest(&other));
    assert_ne!(digest(&wire::PassThrough {}), 0);
}
