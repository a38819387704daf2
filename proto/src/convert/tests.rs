//! What is sent is what is received, and what cannot be read is refused with its place.

use std::net::SocketAddr;
use std::time::Duration;

use heddle_model::destination::{Destination, EndpointDestination, ServiceDestination};
use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName, ServicePort};
use heddle_model::resource::ResourceKey;
use heddle_model::route::{
    HttpMatch, HttpRule, NamedMatch, PathMatch, RuleOrigin, Timeouts, ValueMatch, WeightedBackend,
};
use heddle_model::workload::{InboundMode, InboundPort, Workload};
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
    (address(), peer, name(), name()).prop_map(|(address, peer, zone, pod)| Endpoint {
        address,
        peer,
        zone,
        pod,
    })
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

fn rule() -> impl Strategy<Value = HttpRule> {
    let limit = || prop::option::of((1..100_000_u64).prop_map(Duration::from_millis));
    let origin = prop_oneof![
        Just(RuleOrigin::ServiceDefault),
        (name(), name(), name()).prop_map(|(kind, namespace, name)| RuleOrigin::Object {
            object: ObjectReference { kind, namespace, name },
            field: "spec.rules[0]".to_owned(),
        })
    ];
    let weights = (backends(), any::<u32>());
    (prop::collection::vec(http_match(), 0..3), weights, limit(), limit(), origin).prop_map(
        |(matches, (backends, missing_weight), request, backend_request, origin)| HttpRule {
            matches,
            backends,
            missing_weight,
            timeouts: Timeouts { request, backend_request },
            origin,
        },
    )
}

fn destination() -> impl Strategy<Value = Destination> {
    let service = (service_port(), protocol(), prop::collection::vec(rule(), 0..3), backends());
    let endpoint = (endpoint(), protocol(), prop::option::of(service_port()));
    prop_oneof![
        Just(Destination::PassThrough),
        ".{0,20}".prop_map(|reason| Destination::Refused { reason }),
        service.prop_map(|(service, protocol, http_rules, tcp_backends)| {
            Destination::Service(ServiceDestination { service, protocol, http_rules, tcp_backends })
        }),
        endpoint.prop_map(|(endpoint, protocol, service)| {
            Destination::Endpoint(EndpointDestination { endpoint, protocol, service })
        }),
    ]
}

fn workload() -> impl Strategy<Value = Workload> {
    let mode = prop::sample::select(vec![InboundMode::Permissive, InboundMode::Strict]);
    let ports = prop::collection::vec(
        (port(), protocol()).prop_map(|(port, protocol)| InboundPort { port, protocol }),
        0..3,
    );
    (name(), name(), name(), mode, ports).prop_map(|(namespace, name, uid, inbound_mode, ports)| {
        Workload { namespace, name, pod_uid: uid.parse().unwrap(), inbound_mode, ports }
    })
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
    let backend = wire::WeightedBackend {
        backend: Some(wire::ServicePort {
            service: Some(wire::ServiceName { namespace: "a".into(), name: "b".into() }),
            port: 70_000,
        }),
        weight: 1,
    };
    let rule = wire::HttpRule { backends: vec![backend], ..wire::HttpRule::default() };
    let error = HttpRule::try_from(rule).unwrap_err();
    assert_eq!(error.to_string(), "backends[0].backend.port: 70000 is not a port (want 1-65535)");

    let empty_condition = wire::HttpMatch {
        path: Some(wire::PathMatch { path: None }),
        ..wire::HttpMatch::default()
    };
    assert!(HttpMatch::try_from(empty_condition).is_err(), "it would match every path");

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
