//! Configuration on its way to a proxy.

use std::net::Ipv4Addr;
use std::time::Duration;

use heddle_model::resource::ResourceKey;
use heddle_proto::discovery as wire;
use heddle_proto::discovery::proxy_message::Message;
use heddle_proto::discovery::update::Resource;
use tokio::time::Instant;
use tonic::Code;

use crate::client::{Client, Stream};
use crate::world::{World, condition, split};

fn api() -> ResourceKey {
    ResourceKey::Destination("10.43.0.1:80".parse().unwrap())
}

fn own() -> ResourceKey {
    ResourceKey::Workload("frontend-1".parse().unwrap())
}

fn key(update: &wire::Update) -> ResourceKey {
    ResourceKey::try_from(update.key.clone().unwrap()).unwrap()
}

fn weights(update: &wire::Update) -> Vec<u32> {
    let Some(Resource::Destination(destination)) = &update.resource else { panic!("{update:?}") };
    match &destination.destination {
        Some(wire::destination::Destination::Service(service)) => {
            service.http_rules[0].backends.iter().map(|backend| backend.weight).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Takes what comes for the service `api`: both leaves' endpoints, then the destination.
async fn first_answer(stream: &mut Stream) -> Vec<wire::Update> {
    let mut updates = Vec::new();
    while updates.last().is_none_or(|update| key(update) != api()) {
        updates.push(stream.taken().await);
    }
    updates
}

#[tokio::test]
async fn nobody_without_a_certificate_is_told_anything() {
    let world = World::start().await;
    let refused = Client::new(&world).stream(&world).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_proxy_is_told_its_own_workload_and_no_others() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&own(), None).await;
    let update = stream.taken().await;
    let Some(Resource::Workload(workload)) = update.resource else { panic!("{update:?}") };
    assert_eq!((workload.namespace.as_str(), workload.name.as_str()), ("shop", "frontend"));
    assert_eq!(workload.ports[0].port, 8080);
    stream.subscribe(&ResourceKey::Workload("api-v1-1".parse().unwrap()), None).await;
    assert_eq!(stream.end().await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn endpoints_come_before_the_destination_that_needs_them() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&api(), None).await;
    let updates = first_answer(&mut stream).await;
    let keys: Vec<String> = updates.iter().map(|update| key(update).to_string()).collect();
    insta::assert_snapshot!(keys.join("\n"), @r"
    endpoints shop/api-v1:80
    endpoints shop/api-v2:80
    destination 10.43.0.1:80
    ");
    assert_eq!(weights(&updates[2]), [9, 1]);
    for (address, expected) in [
        ("10.43.0.1:81", "service shop/api has no port 81 (it has 80)"),
        ("10.42.0.3:8080", "spiffe://cluster.local/ns/shop/sa/api"),
        ("192.0.2.1:443", "PassThrough"),
    ] {
        stream.subscribe(&ResourceKey::Destination(address.parse().unwrap()), None).await;
        let update = stream.taken().await;
        assert!(format!("{update:?}").contains(expected), "case: {address}: {update:?}");
    }
}

#[tokio::test]
async fn a_second_stream_of_a_pod_ends_the_first() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut first = client.stream(&world).await.unwrap();
    first.subscribe(&api(), None).await;
    first_answer(&mut first).await;
    let mut second = client.stream(&world).await.unwrap();
    assert_eq!(first.end().await.code(), Code::Aborted);
    second.subscribe(&api(), None).await;
    first_answer(&mut second).await;
}

#[tokio::test]
async fn a_new_proxy_that_refuses_what_there_is_gets_what_another_took() {
    let world = World::start().await;
    let mut old = Client::certified(&world).await.stream(&world).await.unwrap();
    old.subscribe(&api(), None).await;
    let first = first_answer(&mut old).await.pop().unwrap();
    let programmed = |status: &_| condition(status, "TrafficSplit", "api", "Programmed");
    world.status_where(|status| programmed(status) == "True Programmed 1 of 1 proxies").await;
    let no = |update: &wire::Update| {
        let (key, version) = (update.key.clone(), update.version);
        Message::Nack(wire::Nack { key, version, reason: "no".into(), ..wire::Nack::default() })
    };
    world.write("split.yaml", &split(50, 50));
    let update = old.update().await;
    old.send(no(&update)).await;
    world.status_where(|status| programmed(status).starts_with("False Refused 0 of 1")).await;

    world.write(
        "store.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: store, namespace: shop, uid: store-1}, spec: \
         {serviceAccountName: store, containers: [{name: a}]}, status: {podIP: 127.0.0.2}}",
    );
    world.status_where(|status| !condition(status, "Pod", "store", "Accepted").is_empty()).await;
    let new = Client::certified_by(&world, "secret of store", Ipv4Addr::new(127, 0, 0, 2)).await;
    let mut new = new.stream(&world).await.unwrap();
    new.subscribe(&api(), None).await;
    let update = loop {
        let update = new.update().await;
        if matches!(update.resource, Some(Resource::Destination(_))) {
            break update;
        }
        let ack = wire::Ack { key: update.key.clone(), version: update.version };
        new.send(Message::Ack(ack)).await;
    };
    assert_eq!(weights(&update), [1, 1]);
    new.send(no(&update)).await;
    let stand_in = new.taken().await;
    assert_eq!((weights(&stand_in), stand_in.digest), (weights(&first), first.digest));
    world.status_where(|status| programmed(status).starts_with("False Refused 0 of 2")).await;
}

#[tokio::test]
async fn a_proxy_that_is_away_does_not_act_on_what_is_new() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&api(), None).await;
    first_answer(&mut stream).await;
    let programmed = |status: &_| condition(status, "TrafficSplit", "api", "Programmed");
    world.status_where(|status| programmed(status) == "True Programmed 1 of 1 proxies").await;
    drop(stream);
    world.status_where(|status| !status.proxies[0].connected).await;
    world.write("split.yaml", &split(50, 50));
    let expected = "Unknown Pending 0 of 1 proxies; not connected: shop/frontend";
    world.status_where(|status| programmed(status) == expected).await;
}

#[tokio::test]
async fn a_changed_file_reaches_the_proxy_within_a_second_and_its_answer_the_status() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&api(), None).await;
    let first = first_answer(&mut stream).await.pop().unwrap();
    let done = |status: &_| {
        condition(status, "TrafficSplit", "api", "Programmed") == "True Programmed 1 of 1 proxies"
    };
    world.status_where(done).await;

    let written = Instant::now();
    world.write("split.yaml", &split(50, 50));
    let update = stream.update().await;
    assert!(written.elapsed() < Duration::from_secs(1), "{:?}", written.elapsed());
    assert_eq!(weights(&update), [1, 1]);
    assert!(update.version > first.version);
    stream
        .send(Message::Nack(wire::Nack {
            key: update.key.clone(),
            version: update.version,
            reason: "no thanks".into(),
            origin: Some(wire::ObjectReference {
                kind: "TrafficSplit".into(),
                namespace: "shop".into(),
                name: "api".into(),
            }),
            field: "spec.backends[0]".into(),
        }))
        .await;
    let refused = |status: &_| {
        condition(status, "TrafficSplit", "api", "Programmed").starts_with("False Refused")
    };
    let status = world.status_where(refused).await;
    assert_eq!(
        condition(&status, "TrafficSplit", "api", "Programmed"),
        format!(
            "False Refused 0 of 1 proxies; shop/frontend refused version {}: spec.backends[0]: no thanks",
            update.version
        )
    );
    assert_eq!(status.proxies[0].refusals[0].object, "TrafficSplit shop/api");
    // The service itself is not at fault, but its newest state is not there either.
    assert_eq!(
        condition(&status, "Service", "api", "Programmed"),
        "Unknown Pending 0 of 1 proxies; waits: shop/frontend refused TrafficSplit shop/api: spec.backends[0]"
    );

    world.write("split.yaml", &split(0, 100));
    assert_eq!(weights(&stream.taken().await), [0, 1]);
    world.status_where(done).await;
}

#[tokio::test]
async fn a_file_with_an_error_changes_nothing_and_says_so() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&api(), None).await;
    first_answer(&mut stream).await;
    let accepted = |status: &_| condition(status, "TrafficSplit", "api", "Accepted");
    for (text, expected) in [
        (
            split(50, 50).replace("weight: 50}\n", "wieght: 50}\n"),
            "False Invalid split.yaml:7: spec.backends[0].wieght: is not a known field; did you mean \
             \"weight\"?; its last good state stays in use",
        ),
        (
            split(50, 50).replacen("weight: 50", "weight: -50", 1),
            "False Invalid split.yaml:1: spec.backends[0].weight: -50 is negative (want a whole number of \
             0 or more); its last good state stays in use",
        ),
        (
            split(50, 50).replace("api-v2", "api-v3"),
            "False BackendNotFound spec.backends[1].service: service shop/api-v3 does not exist; its last \
             good state stays in use",
        ),
    ] {
        world.write("split.yaml", &text);
        let status = world.status_where(|status| accepted(status) == expected).await;
        assert_eq!(status.objects.iter().filter(|object| object.kind == "TrafficSplit").count(), 1);
    }
    world.write("split.yaml", &split(20, 80));
    // Nothing was sent in between: the next update is that of the good text.
    assert_eq!(weights(&stream.taken().await), [1, 4]);
}

#[tokio::test]
async fn a_proxy_that_comes_back_is_sent_only_what_changed() {
    let mut world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&api(), None).await;
    let held = first_answer(&mut stream).await;
    drop(stream);
    world.restart().await;

    let mut stream = client.stream(&world).await.unwrap();
    for update in &held {
        stream.subscribe(&key(update), Some(update)).await;
    }
    // What is asked for last is answered first, since all the rest is known.
    stream.subscribe(&own(), None).await;
    assert_eq!(key(&stream.taken().await), own());
    world.write("split.yaml", &split(50, 50));
    let update = stream.taken().await;
    assert_eq!((key(&update), weights(&update)), (api(), vec![1, 1]));
}

#[tokio::test]
async fn versions_go_on_above_what_a_proxy_has() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&own(), None).await;
    let mut ahead = stream.taken().await;
    ahead.version += 1 << 40;
    ahead.digest ^= 1;
    drop(stream);

    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&own(), Some(&ahead)).await;
    let update = stream.taken().await;
    assert!(update.version > ahead.version);
    assert_eq!(world.status().await.version, update.version);
}

#[tokio::test]
async fn endpoints_that_come_and_go_are_sent_as_deltas_until_one_is_refused() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&api(), None).await;
    let first = first_answer(&mut stream).await;
    let slice = |addresses: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: api-v1-b, namespace: \
             shop, labels: {{kubernetes.io/service-name: api-v1}}}}\naddressType: IPv4\nports: [{{name: \
             http, port: 8080}}]\nendpoints: [{{addresses: [{addresses}]}}]\n"
        )
    };
    let endpoints = |update: wire::Update| match update.resource {
        Some(Resource::Endpoints(endpoints)) => endpoints,
        other => panic!("{other:?}"),
    };
    world.write("more.yaml", &slice("10.42.0.8"));
    let update = stream.taken().await;
    let version = update.version;
    let delta = endpoints(update);
    assert_eq!(delta.base_version, first[0].version);
    assert_eq!((delta.upserted.len(), delta.removed.len()), (1, 0));
    assert_eq!(delta.upserted[0].mesh, None);

    world.write("more.yaml", &slice("10.42.0.9"));
    let update = stream.update().await;
    let refusal = wire::Nack {
        key: update.key.clone(),
        version: update.version,
        reason: "another base".into(),
        ..wire::Nack::default()
    };
    let delta = endpoints(update);
    assert_eq!(delta.base_version, version);
    assert_eq!((delta.upserted.len(), delta.removed.len()), (1, 1));
    stream.send(Message::Nack(refusal)).await;
    let whole = endpoints(stream.taken().await);
    assert_eq!((whole.base_version, whole.upserted.len()), (0, 2));
}

#[tokio::test]
async fn a_file_may_be_written_in_place_and_in_a_new_directory() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let mut stream = client.stream(&world).await.unwrap();
    stream.subscribe(&api(), None).await;
    first_answer(&mut stream).await;
    let manifests = world.root.path().join("manifests");
    let written = Instant::now();
    std::fs::write(manifests.join("split.yaml"), split(50, 50)).unwrap();
    assert_eq!(weights(&stream.taken().await), [1, 1]);

    std::fs::remove_file(manifests.join("split.yaml")).unwrap();
    let update = first_answer(&mut stream).await.pop().unwrap();
    assert_eq!(weights(&update), [1]);
    // Nothing refers to the leaves any more.
    let removed = [stream.update().await, stream.update().await];
    assert!(removed.iter().all(|update| matches!(update.resource, Some(Resource::Removed(_)))));

    let directory = manifests.join(".generated/splits");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("split.yaml"), split(20, 80)).unwrap();
    let update = first_answer(&mut stream).await.pop().unwrap();
    assert_eq!(weights(&update), [1, 4]);
    // The slow scan would have taken five seconds for the first alone.
    assert!(written.elapsed() < Duration::from_secs(3), "{:?}", written.elapsed());
}

#[tokio::test]
async fn a_route_of_the_callers_namespace_goes_before_the_producers() {
    let world = World::start().await;
    let route = |namespace: &str, backend: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: of-{namespace}, \
             namespace: {namespace}}}\nspec: {{parentRefs: [{{kind: Service, group: '', name: ledger, namespace: \
             bank}}], rules: [{{backendRefs: [{{name: {backend}, namespace: {namespace}, port: 80}}]}}]}}\n---\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: ledger, namespace: bank}\nspec: {clusterIP: \
                   10.43.0.9, ports: [{port: 80, name: http}]}\n---\n";
    let producer = service.to_owned() + &route("bank", "ledger");
    world.write("bank.yaml", &(producer.clone() + &route("shop", "api-v1")));
    world
        .status_where(|status| !condition(status, "HTTPRoute", "of-shop", "Accepted").is_empty())
        .await;
    let mut stream = Client::certified(&world).await.stream(&world).await.unwrap();
    let ledger = ResourceKey::Destination("10.43.0.9:80".parse().unwrap());
    stream.subscribe(&ledger, None).await;
    let mut keys = Vec::new();
    while keys.last().is_none_or(|last| *last != ledger) {
        keys.push(key(&stream.taken().await));
    }
    assert_eq!(keys[0].to_string(), "endpoints shop/api-v1:80");
    let programmed =
        |name: &'static str| move |status: &_| condition(status, "HTTPRoute", name, "Programmed");
    let own = programmed("of-shop");
    let status = world.status_where(|status| own(status) == "True Programmed 1 of 1 proxies").await;
    assert_eq!(programmed("of-bank")(&status), "Unknown NoProxies no proxy has asked for it");
    // Without it, the producer's counts for this caller, too.
    world.write("bank.yaml", &producer);
    let bank = programmed("of-bank");
    let mut served = stream.taken().await;
    while key(&served) != ledger {
        served = stream.taken().await;
    }
    assert!(format!("{served:?}").contains("of-bank"), "{served:?}");
    world.status_where(|status| bank(status) == "True Programmed 1 of 1 proxies").await;
}
