//! What a call depends on, from objects as they are written.

use heddle_model::resource::Version;

use super::*;
use crate::index::Index;
use crate::source::Event;
use crate::source::document::read_file;

/// Only `client` has a proxy that is connected; it holds nothing but what is said.
struct OneProxy(Option<(String, u64)>);

impl Proxied for OneProxy {
    fn proxy(&self, uid: &PodUid) -> Option<wire::Proxy> {
        (uid.to_string() == "client")
            .then(|| wire::Proxy { connected: true, ..wire::Proxy::default() })
    }

    fn held(&self, _uid: &PodUid, key: &ResourceKey) -> Option<(wire::HeldResource, u64)> {
        let (resource, digest) = self.0.as_ref()?;
        let held = wire::HeldResource { version: 7, ..wire::HeldResource::default() };
        (key.to_string() == *resource).then_some((held, *digest))
    }
}

const OBJECTS: &str = "
kind: Pod
apiVersion: v1
metadata: {name: client, namespace: shop, uid: client, annotations: {heddle.dev/injected: 'true'}}
spec: {serviceAccountName: client, containers: []}
status: {podIP: 10.0.0.1}
---
kind: Pod
apiVersion: v1
metadata: {name: api-1, namespace: shop, uid: api-1, annotations: {heddle.dev/injected: 'true', heddle.dev/inbound-mode: strict}}
spec: {serviceAccountName: api, containers: []}
status: {podIP: 10.0.0.2}
---
kind: Pod
apiVersion: v1
metadata: {name: db-0, namespace: shop, uid: db-0}
spec: {serviceAccountName: db, containers: []}
status: {podIP: 10.0.0.3}
---
kind: Service
apiVersion: v1
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.43.0.1, clusterIPs: [10.43.0.1, 'fd43::1'], ports: [{port: 80, name: http, targetPort: web}]}
---
kind: Service
apiVersion: v1
metadata: {name: two, namespace: shop}
spec: {clusterIP: 10.43.0.2, ports: [{port: 80, name: a}, {port: 81, name: b}]}
---
kind: Service
apiVersion: v1
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{port: 5432, name: sql}]}
---
kind: Service
apiVersion: v1
metadata: {name: elsewhere, namespace: shop}
spec: {type: ExternalName, externalName: example.org, ports: [{port: 443}]}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: api-1, namespace: shop, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.2], conditions: {ready: true}, targetRef: {kind: Pod, name: api-1, namespace: shop, uid: api-1}}
- {addresses: [10.0.0.9], conditions: {ready: false}}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
- {addresses: [10.0.0.3], conditions: {ready: true}, targetRef: {kind: Pod, name: db-0, namespace: shop, uid: db-0}}
---
kind: TrafficPolicy
apiVersion: heddle.dev/v1alpha1
metadata: {name: api, namespace: shop}
spec: {targetRefs: [{kind: Service, name: api}], loadBalancing: {type: RoundRobin}}
";

fn snapshot() -> Snapshot {
    snapshot_of(OBJECTS)
}

fn snapshot_of(text: &str) -> Snapshot {
    let mut index = Index::new("cluster.local".parse().unwrap());
    let content = read_file("test.yaml", text);
    assert!(content.failures.is_empty(), "{:?}", content.failures);
    for object in content.objects {
        index.apply(Event::Applied(object.into()));
    }
    let contents = Arc::new(index.contents(&Contents::default()));
    Snapshot::first(Version(9), contents)
}

fn asked(host: &str, port: u32) -> wire::ExplainRequest {
    wire::ExplainRequest {
        namespace: "shop".to_owned(),
        kind: wire::CallerKind::Unspecified.into(),
        name: "client".to_owned(),
        host: host.to_owned(),
        port,
    }
}

fn shown(facts: &wire::CallFacts) -> String {
    use discovery::destination::Destination as Kind;
    let destination = facts.destination.as_ref().and_then(|found| found.destination.as_ref());
    let destination = match destination {
        None => "nothing".to_owned(),
        Some(Kind::PassThrough(_)) => "passed through".to_owned(),
        Some(Kind::Refused(refused)) => format!("refused: {}", refused.reason),
        Some(Kind::Service(service)) => {
            format!("a service with {} rules", service.http_rules.len())
        }
        Some(Kind::Endpoint(_)) => "an endpoint".to_owned(),
    };
    let address = facts.address.clone().map(|address| SocketAddr::try_from(address).unwrap());
    let address = address.map_or("no address".to_owned(), |address| address.to_string());
    format!(
        "{:?} {}/{} at {address}: {destination}",
        facts.named_as(),
        facts.target_namespace,
        facts.target_name
    )
}

#[test]
fn a_name_stands_for_what_dns_would_tell_and_what_its_address_means() {
    let snapshot = snapshot();
    for (host, port, expected) in [
        ("api", 80, "Service shop/api at 10.43.0.1:80: a service with 1 rules"),
        ("api", 0, "Service shop/api at 10.43.0.1:80: a service with 1 rules"),
        ("API.shop", 80, "Service shop/api at 10.43.0.1:80: a service with 1 rules"),
        ("api.shop.svc", 80, "Service shop/api at 10.43.0.1:80: a service with 1 rules"),
        (
            "api.shop.svc.cluster.local.",
            80,
            "Service shop/api at 10.43.0.1:80: a service with 1 rules",
        ),
        (
            "api",
            81,
            "Service shop/api at 10.43.0.1:81: refused: service shop/api has no port 81 (it has 80)",
        ),
        ("two", 0, "Service shop/two at no address: nothing"),
        ("apo", 80, "Missing shop/apo at no address: nothing"),
        ("apo.shop", 80, "Missing shop/apo at no address: nothing"),
        ("api.other.svc", 80, "Missing other/api at no address: nothing"),
        ("example.org", 80, "Outside / at no address: nothing"),
        ("db", 0, "Headless shop/db at 10.0.0.3:5432: passed through"),
        ("db-0.db", 5432, "Pod shop/db-0 at 10.0.0.3:5432: passed through"),
        ("db-0.db.shop.svc.cluster.local", 5432, "Pod shop/db-0 at 10.0.0.3:5432: passed through"),
        ("elsewhere", 443, "External shop/elsewhere at no address: nothing"),
        ("10.43.0.1", 80, "Address / at 10.43.0.1:80: a service with 1 rules"),
        ("10.0.0.2", 8080, "Address / at 10.0.0.2:8080: an endpoint"),
        ("192.0.2.1", 80, "Address / at 192.0.2.1:80: passed through"),
    ] {
        let facts = facts(&snapshot, &OneProxy(None), &asked(host, port));
        assert_eq!(shown(&facts), expected, "case: {host}:{port}");
    }
}

#[test]
fn what_is_behind_a_service_is_told_ready_or_not_with_its_policy() {
    let facts = facts(&snapshot(), &OneProxy(None), &asked("api", 80));
    let [backing] = facts.backings.as_slice() else { panic!("{:?}", facts.backings) };
    let told: Vec<_> = backing
        .endpoints
        .iter()
        .map(|one| {
            let pod = one.pod.as_ref();
            let strict = pod.map(|pod| pod.inbound_mode() == discovery::InboundMode::Strict);
            (one.ready, pod.map(|pod| pod.name.as_str()), strict)
        })
        .collect();
    assert_eq!(told, [(true, Some("api-1"), Some(true)), (false, None, None)]);
    assert_eq!(backing.policy_origin.as_ref().unwrap().name, "api");
    let service = facts.service.unwrap();
    let port = &service.ports[0];
    assert_eq!((port.target.as_str(), port.reason.as_str()), ("web", "by the port's name"));
}

#[test]
fn what_the_callers_proxy_holds_is_told_and_whether_it_is_the_newest() {
    let snapshot = snapshot();
    let key = ServicePort {
        service: heddle_model::names::ServiceName { namespace: "shop".into(), name: "api".into() },
        port: Port::new(80).unwrap(),
    };
    let digest = snapshot.contents.destinations[&key].digest;
    let resource = "destination 10.43.0.1:80";
    for (case, held, expected) in [
        ("nothing", None, None),
        ("another address", Some(("destination 10.43.0.2:80".to_owned(), digest)), None),
        ("the newest", Some((resource.to_owned(), digest)), Some(true)),
        ("by the other address", Some(("destination [fd43::1]:80".to_owned(), digest)), Some(true)),
        ("an older one", Some((resource.to_owned(), digest ^ 1)), Some(false)),
    ] {
        let facts = facts(&snapshot, &OneProxy(held), &asked("api", 80));
        assert_eq!(facts.held.map(|_| facts.held_is_current), expected, "case: {case}");
    }
}

#[test]
fn a_caller_that_does_not_exist_calls_nobody() {
    let mut request = asked("api", 80);
    request.name = "nobody".to_owned();
    let facts = facts(&snapshot(), &OneProxy(None), &request);
    assert_eq!((facts.callers, facts.caller, facts.destination), (0, None, None));
    assert_eq!(facts.named_as, i32::from(wire::NamedAs::Service));
}

#[test]
fn a_backing_says_that_it_is_a_last_resort() {
    let text = OBJECTS
        .replace("status: {podIP: 10.0.0.2}", "status: {podIP: 10.0.0.2, conditions: [{type: ContainersReady, status: 'True'}]}")
        .replace(
            "labels: {kubernetes.io/service-name: api}",
            "labels: {kubernetes.io/service-name: api, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}",
        );
    let unheard = text.replace(
        "{addresses: [10.0.0.2], conditions: {ready: true}",
        "{addresses: [10.0.0.2], conditions: {ready: false}",
    );
    for (case, text, expected) in [("ready", text.clone(), false), ("not heard of", unheard, true)]
    {
        let facts = facts(&snapshot_of(&text), &OneProxy(None), &asked("api", 80));
        let [backing] = facts.backings.as_slice() else { panic!("one backing") };
        assert_eq!(backing.last_resort, expected, "case: {case}");
        let used: Vec<bool> = backing.endpoints.iter().map(|endpoint| endpoint.ready).collect();
        assert_eq!(used, [true, false], "case: {case}");
    }
}
