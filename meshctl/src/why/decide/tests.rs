//! What follows from facts, by table and in full.

use std::net::SocketAddr;

use heddle_model::destination::{EndpointDestination, ServiceDestination};
use heddle_model::filter::{HttpFilter, Redirect};
use heddle_model::names::{ObjectReference, Port, ServiceName};
use heddle_model::route::{
    ConnectionRule, Hostname, HttpBackend, HttpMatch, HttpRule, NamedMatch, PathMatch, RuleOrigin,
    TlsRule, ValueMatch, WeightedBackend,
};
use heddle_proto::admin::{
    BackingFacts, Certificate, EndpointFacts, HeldIdentity, HeldResource, PortFacts, Proxy,
    ServiceFacts, held_resource,
};
use heddle_proto::discovery;

use super::*;
use crate::output::Colour;
use crate::why::question;
use crate::why::render::{self, Detail};

const NOW: i64 = 1_000_000;

fn port(name: &str) -> ServicePort {
    let service = ServiceName { namespace: "shop".to_owned(), name: name.to_owned() };
    ServicePort { service, port: Port::new(8080).unwrap() }
}

fn pod(name: &str, meshed: bool, strict: bool) -> PodFacts {
    let mode = match strict {
        true => discovery::InboundMode::Strict,
        false => discovery::InboundMode::Permissive,
    };
    let identity =
        HeldIdentity { current_bundle: true, current_issuer: true, not_after: NOW + 80_000 };
    PodFacts {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        pod_uid: format!("uid-{name}"),
        meshed,
        inbound_mode: mode.into(),
        identity: format!("spiffe://cluster.local/ns/shop/sa/{name}"),
        zone: "a".to_owned(),
        proxy: meshed.then(|| Proxy {
            connected: true,
            identity: Some(identity),
            ..Proxy::default()
        }),
        ..PodFacts::default()
    }
}

/// One endpoint of this pod, as a caller with a proxy is told of it.
fn endpoint(pod: PodFacts, ready: bool) -> EndpointFacts {
    let address: SocketAddr = "10.0.0.2:8080".parse().unwrap();
    let mesh = pod.meshed.then(|| discovery::MeshPeer {
        identity: pod.identity.clone(),
        pod_uid: pod.pod_uid.clone(),
    });
    let endpoint = discovery::Endpoint {
        address: Some(address.into()),
        mesh,
        zone: pod.zone.clone(),
        pod: pod.name.clone(),
        ..discovery::Endpoint::default()
    };
    EndpointFacts { endpoint: Some(endpoint), ready, pod: Some(pod) }
}

fn backing(name: &str, endpoints: Vec<EndpointFacts>) -> BackingFacts {
    BackingFacts {
        port: Some((&port(name)).into()),
        endpoints,
        policy: Some((&heddle_model::policy::BackendPolicy::default()).into()),
        policy_origin: None,
        last_resort: false,
    }
}

fn origin(field: &str) -> RuleOrigin {
    let object = ObjectReference {
        kind: "HTTPRoute".to_owned(),
        namespace: "shop".to_owned(),
        name: "api".to_owned(),
    };
    RuleOrigin::Object { object, field: field.to_owned() }
}

fn rule(field: &str, condition: HttpMatch, backends: &[(&str, u32)]) -> HttpRule {
    let backends = backends
        .iter()
        .map(|(name, weight)| HttpBackend {
            backend: port(name),
            weight: *weight,
            filters: Vec::new(),
        })
        .collect();
    HttpRule { matches: vec![condition], ..HttpRule::to(backends, origin(field)) }
}

fn prefix(path: &str) -> HttpMatch {
    HttpMatch { path: Some(PathMatch::Prefix(path.to_owned())), ..HttpMatch::default() }
}

fn with_header(name: &str, value: &str) -> HttpMatch {
    let value = ValueMatch::Exact(value.to_owned());
    let headers = vec![NamedMatch { name: name.to_owned(), value }];
    HttpMatch { headers, ..prefix("/") }
}

/// `api` with routes to two versions; v1 is well, and v2 is what a row makes of it.
fn routed() -> CallFacts {
    let moved = Redirect {
        scheme: None,
        hostname: Some("example.org".to_owned()),
        path: None,
        port: None,
        status: 302,
    };
    let mut old = rule("spec.rules[0]", prefix("/old"), &[]);
    old.filters = vec![HttpFilter::Redirect(moved)];
    let mut broken = rule("spec.rules[3]", prefix("/broken"), &[]);
    broken.missing_weight = 1;
    let mut admin = rule("spec.rules[5]", prefix("/admin"), &[("api-v1", 1)]);
    admin.hostnames = vec![Hostname::Exact("admin.example.com".to_owned())];
    let rules = vec![
        old,
        rule("spec.rules[1]", prefix("/canary"), &[("api-v1", 90), ("api-v2", 10)]),
        rule("spec.rules[2]", with_header("x-user", "tester"), &[("api-v2", 1)]),
        broken,
        rule("spec.rules[4]", prefix("/items"), &[("api-v1", 1)]),
        admin,
    ];
    facts(Destination::Service(ServiceDestination {
        service: port("api"),
        protocol: Protocol::Http1,
        http_rules: rules,
        tls_rules: vec![TlsRule {
            hostnames: vec![Hostname::Exact("api".to_owned())],
            connections: to("api-v1"),
        }],
        connections: to("api"),
    }))
}

fn to(name: &str) -> ConnectionRule {
    ConnectionRule {
        backends: vec![WeightedBackend { backend: port(name), weight: 1 }],
        missing_weight: 0,
        origin: RuleOrigin::ServiceDefault,
    }
}

fn facts(destination: Destination) -> CallFacts {
    let address: SocketAddr = "10.43.0.1:8080".parse().unwrap();
    CallFacts {
        version: 9,
        caller: Some(pod("frontend", true, false)),
        callers: 3,
        named_as: NamedAs::Service.into(),
        target_namespace: "shop".to_owned(),
        target_name: "api".to_owned(),
        service: Some(ServiceFacts {
            namespace: "shop".to_owned(),
            name: "api".to_owned(),
            addresses: vec!["10.43.0.1".to_owned()],
            ports: vec![PortFacts {
                port: 8080,
                name: "http".to_owned(),
                target: "web".to_owned(),
                protocol: discovery::Protocol::Http1.into(),
                reason: "by the port's name".to_owned(),
            }],
            external_name: String::new(),
        }),
        port: 8080,
        address: Some(address.into()),
        addresses: 1,
        destination: Some((&destination).into()),
        held: Some(HeldResource {
            version: 9,
            answer: held_resource::Answer::Acknowledged.into(),
            ..HeldResource::default()
        }),
        held_is_current: true,
        origins: vec![discovery::ObjectReference {
            kind: "HTTPRoute".to_owned(),
            namespace: "shop".to_owned(),
            name: "api".to_owned(),
        }],
        issuer: Some(Certificate {
            subject: "CN=heddle issuer".to_owned(),
            not_after: NOW + 30 * 86_400,
            ..Certificate::default()
        }),
        backings: vec![
            backing("api", vec![endpoint(pod("api-v1-a", true, false), true)]),
            backing("api-v1", vec![endpoint(pod("api-v1-a", true, false), true)]),
            backing("api-v2", vec![endpoint(pod("api-v2-a", true, true), false)]),
        ],
        ..CallFacts::default()
    }
}

fn asked(
    facts: &CallFacts,
    method: Option<&str>,
    path: Option<&str>,
    headers: &[&str],
) -> WhyReport {
    let host: Host = "api:8080".parse().unwrap();
    let headers: Vec<_> = headers.iter().map(|header| header.parse().unwrap()).collect();
    let sent = question::request(&host, (method, path), &headers).unwrap();
    explain(facts, &host, &sent, NOW).unwrap()
}

fn field(report: &WhyReport) -> &str {
    report.rule.as_ref().map_or("", |rule| rule.field.as_str())
}

#[test]
fn a_request_follows_the_first_rule_that_is_for_it() {
    for (case, method, path, headers, expected) in [
        ("a redirect", "GET", "/old/a", &[][..], ("answered", "spec.rules[0]")),
        ("a share without endpoints", "GET", "/canary", &[], ("partly", "spec.rules[1]")),
        ("a header", "GET", "/", &["x-user: tester"], ("no_endpoint", "spec.rules[2]")),
        ("the path comes first", "GET", "/items", &["x-user: other"], ("served", "spec.rules[4]")),
        ("no backend exists", "POST", "/broken", &[], ("no_backend", "spec.rules[3]")),
        ("another host", "GET", "/admin", &[], ("no_route", "")),
        (
            "its own host",
            "GET",
            "/admin",
            &["host: admin.example.com:8080"],
            ("served", "spec.rules[5]"),
        ),
        ("no rule", "GET", "/", &[], ("no_route", "")),
    ] {
        let report = asked(&routed(), Some(method), Some(path), headers);
        let found =
            (report.outcome, if report.outcome == "no_route" { "" } else { field(&report) });
        assert_eq!(found, expected, "case: {case}: {}", report.verdict);
        assert_eq!(report.served, matches!(expected.0, "served" | "answered"), "case: {case}");
        assert_eq!(report.remedy.is_some(), !report.served, "case: {case}");
    }
}

#[test]
fn a_last_resort_serves_and_is_said() {
    let mut facts = routed();
    let steps = |facts: &CallFacts| {
        let report = asked(facts, Some("GET"), Some("/items"), &[]);
        assert_eq!(report.outcome, "served", "{}", report.verdict);
        let step = report.steps.into_iter().find(|step| step.step == "backend").unwrap();
        (step.state, step.says)
    };
    let (state, says) = steps(&facts);
    assert!(matches!(state, State::Good) && says == "100 %, 1 of 1 endpoints ready", "{says}");
    facts.backings[1].last_resort = true;
    let (state, says) = steps(&facts);
    assert!(matches!(state, State::Note), "{says}");
    assert!(
        says.starts_with("100 %, none of 1 endpoints ready; 1 used as a last resort"),
        "{says}"
    );
}

#[test]
fn how_endpoints_are_secured_decides_beside_routes() {
    let own = |backing_pod: PodFacts| {
        let mut facts = facts(Destination::Service(ServiceDestination {
            service: port("api"),
            protocol: Protocol::Detect,
            http_rules: vec![HttpRule::to(
                vec![HttpBackend { backend: port("api"), weight: 1, filters: Vec::new() }],
                RuleOrigin::ServiceDefault,
            )],
            tls_rules: Vec::new(),
            connections: to("api"),
        }));
        facts.backings = vec![backing("api", vec![endpoint(backing_pod, true)])];
        facts
    };
    let from_outside = |mut facts: CallFacts| {
        facts.caller = Some(pod("outsider", false, false));
        facts.held = None;
        facts
    };
    let expired = |mut facts: CallFacts| {
        let proxies = facts.caller.iter_mut().filter_map(|pod| pod.proxy.as_mut());
        proxies.filter_map(|proxy| proxy.identity.as_mut()).for_each(|held| held.not_after = NOW);
        facts
    };
    let strict = || pod("api", true, true);
    let permissive = || pod("api", true, false);
    let plain = || pod("api", false, false);
    for (case, facts, expected) in [
        ("mesh to strict", own(strict()), ("served", Some("mtls"))),
        ("mesh to permissive", own(permissive()), ("served", Some("mtls"))),
        ("mesh to plain", own(plain()), ("served", Some("plaintext"))),
        ("plain to strict", from_outside(own(strict())), ("no_certificate", Some("refused"))),
        ("plain to permissive", from_outside(own(permissive())), ("served", Some("plaintext"))),
        ("plain to plain", from_outside(own(plain())), ("served", Some("plaintext"))),
        ("an expired caller", expired(own(strict())), ("certificate_expired", None)),
    ] {
        let report = asked(&facts, None, None, &[]);
        assert_eq!((report.outcome, report.tls), expected, "case: {case}: {}", report.verdict);
    }
}

#[test]
fn what_ends_before_any_route_says_where_and_what_would_do() {
    let refused = facts(Destination::Refused {
        reason: "service shop/api has no port 81 (it has 8080)".to_owned(),
    });
    let named = |named_as: NamedAs| CallFacts {
        named_as: named_as.into(),
        destination: None,
        address: None,
        service: None,
        ..routed()
    };
    let nobody = CallFacts { caller: None, callers: 0, ..routed() };
    let no_port = CallFacts { port: 0, destination: None, address: None, ..routed() };
    let headless = CallFacts { addresses: 0, ..named(NamedAs::Headless) };
    for (case, facts, expected) in [
        ("nobody calls", nobody, "no_caller"),
        ("an unknown port", refused, "refused"),
        ("a missing service", named(NamedAs::Missing), "unknown_name"),
        ("a host elsewhere", named(NamedAs::Outside), "passed_through"),
        ("another name", named(NamedAs::External), "passed_through"),
        ("nobody behind a headless service", headless, "no_endpoint"),
        ("several ports", no_port, "which_port"),
        ("an address that is nobody's", facts(Destination::PassThrough), "passed_through"),
    ] {
        let report = asked(&facts, None, None, &[]);
        assert_eq!(report.outcome, expected, "case: {case}: {}", report.verdict);
        assert_eq!(report.served, expected == "passed_through", "case: {case}");
    }
}

#[test]
fn a_pod_is_called_by_its_own_address_without_a_route() {
    let EndpointFacts { endpoint, pod, .. } = endpoint(pod("api-1", true, true), true);
    let endpoint = endpoint.unwrap().try_into().unwrap();
    let destination = Destination::Endpoint(EndpointDestination {
        endpoint,
        protocol: Protocol::Detect,
        service: None,
    });
    let facts =
        CallFacts { pod, named_as: NamedAs::Address.into(), service: None, ..facts(destination) };
    let report = asked(&facts, None, None, &[]);
    assert_eq!((report.outcome, report.tls), ("served", Some("mtls")), "{}", report.verdict);
    let outside = CallFacts { caller: Some(self::pod("outsider", false, false)), ..facts };
    assert_eq!(asked(&outside, None, None, &[]).outcome, "no_certificate");
}

#[test]
fn what_the_application_encrypts_follows_routes_by_its_name() {
    for (host, expected) in [("api:8080", "served"), ("other:8080", "no_tls_route")] {
        let report = explain(&routed(), &host.parse().unwrap(), &Sent::Tls, NOW).unwrap();
        assert_eq!(report.outcome, expected, "case: {host}: {}", report.verdict);
    }
}

#[test]
fn how_far_the_callers_proxy_has_come_is_said() {
    use held_resource::Answer;
    for (answer, current, expected) in [
        (Answer::Acknowledged, true, Some(true)),
        (Answer::Acknowledged, false, Some(false)),
        (Answer::Refused, true, Some(false)),
        (Answer::Pending, true, Some(false)),
    ] {
        let mut facts = CallFacts { held_is_current: current, ..routed() };
        facts.held.as_mut().unwrap().answer = answer.into();
        let report = asked(&facts, None, Some("/items"), &[]);
        assert_eq!(report.acknowledged, expected, "case: {answer:?} {current}");
        let unsure = report.verdict.contains("does not act on yet");
        assert_eq!(unsure, expected == Some(false), "case: {answer:?} {current}");
    }
}

#[test]
fn a_call_that_is_served_is_explained_step_by_step() {
    let report = asked(&routed(), Some("GET"), Some("/items?page=2"), &[]);
    insta::assert_snapshot!(render::text(&report, Detail::Short, NOW, Colour::Never));
}

#[test]
fn a_call_that_is_served_in_part_says_what_fails_and_what_would_do() {
    let report = asked(&routed(), Some("GET"), Some("/canary"), &[]);
    insta::assert_snapshot!(render::text(&report, Detail::Wide, NOW, Colour::Never));
}

#[test]
fn the_answer_for_machines_has_stable_fields() {
    insta::assert_json_snapshot!(asked(&routed(), Some("GET"), Some("/canary"), &[]));
}
