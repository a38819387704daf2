//! A tiny proxy that does what it is told must end up with what there is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use heddle_model::destination::{Destination, ServiceDestination};
use heddle_model::endpoint::{Endpoint, EndpointSet, ExpectedPeer};
use heddle_model::names::{Port, Protocol, ServiceName};
use heddle_model::policy::BackendPolicy;
use heddle_model::route::{ConnectionRule, RuleOrigin, WeightedBackend};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::push::held::Answer;
use crate::snapshot::{Content, Contents};

/// What a service sends to, and what is behind it, in a world of four services with one port.
#[derive(Clone, Debug, Default)]
struct World {
    backends: Vec<Vec<u8>>,
    endpoints: Vec<Vec<u8>>,
}

fn port(service: u8) -> ServicePort {
    let name = ServiceName { namespace: "n".into(), name: format!("s{service}") };
    ServicePort { service: name, port: Port::new(80).unwrap() }
}

fn address(service: u8) -> SocketAddr {
    SocketAddr::from(([10, 43, 0, service], 80))
}

fn key(service: u8) -> ResourceKey {
    ResourceKey::Destination(address(service))
}

fn uid() -> PodUid {
    "u".parse().unwrap()
}

/// As the proxy reads it.
fn next_update(ledger: &mut Ledger, snapshot: &Snapshot) -> Option<wire::Update> {
    let message = ledger.next_update(snapshot)?.encode(&snapshot.encodings);
    match wire::ControlMessage::decode(message).unwrap().message {
        Some(wire::control_message::Message::Update(update)) => Some(update),
        other @ (Some(wire::control_message::Message::Digest(_)) | None) => panic!("{other:?}"),
    }
}

impl World {
    fn snapshot(&self, version: u64) -> Snapshot {
        Snapshot::first(Version(version), self.contents())
    }

    fn contents(&self) -> Arc<Contents> {
        let mut contents = Contents::default();
        for (service, (backends, endpoints)) in
            (0_u8..).zip(self.backends.iter().zip(&self.endpoints))
        {
            let destination = Destination::Service(ServiceDestination {
                service: port(service),
                protocol: Protocol::Detect,
                http_rules: Vec::new(),
                tls_rules: Vec::new(),
                connections: ConnectionRule {
                    backends: backends
                        .iter()
                        .map(|backend| WeightedBackend { backend: port(*backend), weight: 1 })
                        .collect(),
                    missing_weight: 0,
                    origin: RuleOrigin::ServiceDefault,
                },
            });
            let endpoint = |last: &u8| Endpoint {
                address: SocketAddr::from(([10, 42, 0, *last], 80)),
                peer: ExpectedPeer::Plaintext,
                zone: String::new(),
                node: String::new(),
                pod: String::new(),
            };
            let endpoints = endpoints.iter().map(endpoint).collect();
            let resource = |content| Arc::new(Resource::new(content, Vec::new()));
            Arc::make_mut(&mut contents.services_by_address)
                .insert(address(service).ip(), port(service).service);
            Arc::make_mut(&mut contents.destinations)
                .insert(port(service), resource(Content::Destination(destination)));
            let set = EndpointSet { endpoints, policy: BackendPolicy::default() };
            Arc::make_mut(&mut contents.endpoints)
                .insert(port(service), resource(Content::Endpoints(set)));
        }
        Arc::new(contents)
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let sets = |limit: u8| {
        let set = proptest::collection::btree_set(0..limit, 0..3);
        proptest::collection::vec(set.prop_map(|set| set.into_iter().collect()), 4)
    };
    (sets(4), sets(6)).prop_map(|(backends, endpoints)| World { backends, endpoints })
}

#[derive(Clone, Debug)]
enum Step {
    Change(World),
    /// Endpoints of one service, and no more.
    Move(u8, Vec<u8>),
    Subscribe(u8),
    Unsubscribe(u8),
    /// The proxy reads and answers some updates; the bits say which it refuses.
    Read(u8, u8),
    /// The stream breaks; the proxy comes back with what it has.
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => worlds().prop_map(Step::Change),
        4 => (0_u8..4, proptest::collection::btree_set(0_u8..6, 0..3))
            .prop_map(|(service, set)| Step::Move(service, set.into_iter().collect())),
        3 => (0_u8..4).prop_map(Step::Subscribe),
        1 => (0_u8..4).prop_map(Step::Unsubscribe),
        4 => (0_u8..6, any::<u8>()).prop_map(|(count, refused)| Step::Read(count, refused)),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 0..40)
}

/// What a proxy holds.
#[derive(Debug, Default)]
struct Proxy {
    destinations: BTreeMap<ResourceKey, (u64, u64)>,
    endpoints: BTreeMap<ResourceKey, HeldEndpoints>,
    /// The endpoints that each destination refers to.
    needs: BTreeMap<ResourceKey, BTreeSet<ResourceKey>>,
    /// What was refused since, in this stream.
    refused: BTreeSet<ResourceKey>,
}

/// Version, digest, and the endpoints by address.
type HeldEndpoints = (u64, u64, BTreeMap<Vec<u8>, wire::Endpoint>);

impl Proxy {
    /// Takes an update, or tells that it cannot.
    fn take(&mut self, update: &wire::Update) -> bool {
        use wire::update::Resource as Kind;

        let key = ResourceKey::try_from(update.key.clone().unwrap()).unwrap();
        match update.resource.as_ref().unwrap() {
            Kind::Destination(destination) => {
                let Some(wire::destination::Destination::Service(service)) =
                    &destination.destination
                else {
                    panic!("only services are known: {destination:?}");
                };
                let mut needs = BTreeSet::new();
                for backend in service.connections.iter().flat_map(|rule| &rule.backends) {
                    let needed = ServicePort::try_from(backend.backend.clone().unwrap()).unwrap();
                    let needed = ResourceKey::Endpoints(needed);
                    assert!(self.endpoints.contains_key(&needed), "{needed} comes before {key}");
                    needs.insert(needed);
                }
                assert!(
                    self.destinations.get(&key).is_none_or(|(held, _)| *held <= update.version)
                );
                self.destinations.insert(key.clone(), (update.version, update.digest));
                self.needs.insert(key, needs);
            }
            Kind::Endpoints(change) => {
                let held = self.endpoints.get(&key);
                let mut now = match (change.base_version, held) {
                    (0, _) => BTreeMap::new(),
                    (base, Some((version, _, held))) if base == *version => held.clone(),
                    (_, _) => return false,
                };
                for gone in &change.removed {
                    assert!(now.remove(&gone.ip).is_some(), "only what is held is removed");
                }
                for endpoint in &change.upserted {
                    now.insert(endpoint.address.clone().unwrap().ip, endpoint.clone());
                }
                self.endpoints.insert(key, (update.version, update.digest, now));
            }
            Kind::Removed(_) => {
                let needed = self.needs.values().any(|needs| needs.contains(&key));
                assert!(!needed, "{key} is removed while what the proxy acts on needs it");
                assert!(self.endpoints.remove(&key).is_some(), "only what is held is removed");
            }
            Kind::Workload(_) => panic!("none was asked for"),
        }
        true
    }
}

struct Run {
    ledger: Ledger,
    proxy: Proxy,
    world: World,
    snapshot: Snapshot,
    known_to_others: Snapshot,
    wanted: BTreeSet<u8>,
    /// Something happened that concerns the proxy, and nobody has looked since.
    woken: bool,
}

impl Run {
    fn change(&mut self, version: u64, changed: Option<Vec<ResourceKey>>) {
        let contents = self.world.contents();
        let concerns: BTreeSet<ResourceKey> = self.ledger.concerns().collect();
        let is_concerned = |keys: &Vec<ResourceKey>| keys.iter().any(|key| concerns.contains(key));
        self.woken |= changed.as_ref().is_none_or(is_concerned);
        self.snapshot = self.snapshot.next(Version(version), contents, changed);
    }

    fn read(&mut self, count: usize, refused: u8) {
        // As a session does: what does not concern the proxy has nobody look.
        if std::mem::take(&mut self.woken) || self.ledger.must_look() {
            self.ledger.follow(&self.snapshot);
        }
        for index in 0..count {
            let Some(update) = next_update(&mut self.ledger, &self.snapshot) else { return };
            self.answer(&update, refused >> (index % 8) & 1 == 1);
        }
    }

    fn answer(&mut self, update: &wire::Update, refuse: bool) {
        let key = ResourceKey::try_from(update.key.clone().unwrap()).unwrap();
        let removed = matches!(update.resource, Some(wire::update::Resource::Removed(_)));
        // What destinations need is not refused here: a real proxy would refuse those then, too.
        let refuse = refuse && matches!(key, ResourceKey::Destination(_));
        let taken = !refuse && self.proxy.take(update);
        if removed {
            return;
        }
        if taken {
            self.proxy.refused.remove(&key);
            if self.ledger.acknowledge(&key, Version(update.version)) {
                self.ledger.follow(&self.snapshot);
            }
        } else {
            self.proxy.refused.insert(key.clone());
            let refusal = Refusal {
                version: Version(0),
                reason: "no".into(),
                object: None,
                field: String::new(),
            };
            let again = self.ledger.refuse(&key, Version(update.version), refusal);
            let lacks_all_but = self.ledger.lacks_all_but(&key);
            let stand_in = lacks_all_but.and_then(|refused| {
                let known = self.known_to_others.contents.resource(&key, &uid());
                known.filter(|known| known.digest != refused)
            });
            if let Some(stand_in) = &stand_in {
                self.ledger.stand_in(&key, Arc::clone(stand_in));
            }
            if again || stand_in.is_some() {
                self.ledger.follow(&self.snapshot);
            }
        }
    }

    /// What it holds that it did not refuse, or goes on with after a refusal, has current endpoints,
    /// and both ends agree on what is held.
    fn check_what_is_acted_on(&mut self) {
        for needed in self.proxy.needs.values().flatten() {
            let (_, digest, _) = &self.proxy.endpoints[needed];
            assert_eq!(*digest, self.snapshot.contents.resource(needed, &uid()).unwrap().digest);
        }
        let destinations = self.proxy.destinations.iter();
        let standing = destinations.filter(|(key, _)| !self.proxy.refused.contains(key));
        let fold = standing.map(|(_, (_, digest))| digest);
        let fold = fold.chain(self.proxy.endpoints.values().map(|(_, digest, _)| digest));
        let fold = fold.fold(0, |fold, digest| fold ^ digest);
        assert_eq!(self.ledger.digest(Patience::Left).map(|digest| digest.fold), Some(fold));
    }

    fn reconnect(&mut self) {
        self.proxy.refused.clear();
        self.ledger = Ledger::new(uid(), Version(0));
        for (key, (version, digest, _)) in &self.proxy.endpoints {
            let known = Known { version: Version(*version), digest: *digest };
            self.ledger.subscribe(key.clone(), known).unwrap();
        }
        for service in &self.wanted {
            let known = self.proxy.destinations.get(&key(*service)).copied().unwrap_or_default();
            let known = Known { version: Version(known.0), digest: known.1 };
            self.ledger.subscribe(key(*service), known).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn a_proxy_that_takes_what_it_is_sent_ends_up_with_what_there_is(
        first in worlds(), steps in steps()
    ) {
        let snapshot = first.snapshot(1);
        let mut run = Run {
            ledger: Ledger::new(uid(), Version(0)),
            proxy: Proxy::default(),
            world: first,
            known_to_others: snapshot.clone(),
            snapshot,
            wanted: BTreeSet::new(),
            woken: true,
        };
        for (version, step) in (2..).zip(steps) {
            match step {
                Step::Change(world) => {
                    run.world = world;
                    run.change(version, None);
                }
                Step::Move(service, endpoints) => {
                    run.world.endpoints[usize::from(service)] = endpoints;
                    run.change(version, Some(vec![ResourceKey::Endpoints(port(service))]));
                }
                Step::Subscribe(service) => {
                    if run.wanted.insert(service) {
                        run.ledger.subscribe(key(service), Known::default()).unwrap();
                    }
                }
                Step::Unsubscribe(service) => {
                    run.wanted.remove(&service);
                    run.proxy.destinations.remove(&key(service));
                    run.proxy.needs.remove(&key(service));
                    run.proxy.refused.remove(&key(service));
                    run.ledger.unsubscribe(&key(service));
                }
                Step::Read(count, refused) => run.read(usize::from(count), refused),
                Step::Reconnect => run.reconnect(),
            }
        }
        run.read(1000, 0b1010_1010);
        run.check_what_is_acted_on();
        // Where no more was looked at than what had changed, there was no more.
        while run.ledger.planned.is_none() {
            run.read(1000, 0);
        }
        run.ledger.plan(&run.snapshot);
        prop_assert_eq!(next_update(&mut run.ledger, &run.snapshot), None);
        // What was refused is not sent again until it changes, or the proxy comes back.
        run.reconnect();
        run.read(1000, 0);
        let mut fold = 0;
        for service in &run.wanted {
            let wished = run.snapshot.contents.resource(&key(*service), &uid()).unwrap();
            prop_assert_eq!(run.proxy.destinations[&key(*service)].1, wished.digest);
            fold ^= wished.digest;
            for port in wished.needs() {
                let key = ResourceKey::Endpoints(port.clone());
                let wished = run.snapshot.contents.resource(&key, &uid()).unwrap();
                let (_, digest, held) = &run.proxy.endpoints[&key];
                prop_assert_eq!(*digest, wished.digest);
                let Content::Endpoints(EndpointSet { endpoints, .. }) = &wished.content else {
                    panic!("endpoints")
                };
                let whole: Vec<wire::Endpoint> = endpoints.iter().map(Into::into).collect();
                prop_assert_eq!(held.values().cloned().collect::<Vec<_>>(), whole);
            }
        }
        for (_, digest, _) in run.proxy.endpoints.values() {
            fold ^= digest;
        }
        prop_assert_eq!(run.ledger.digest(Patience::Left).map(|digest| digest.fold), Some(fold));
        run.ledger.plan(&run.snapshot);
        prop_assert_eq!(next_update(&mut run.ledger, &run.snapshot), None);
    }
}

#[test]
fn what_a_proxy_goes_on_with_keeps_its_endpoints_and_they_stay_current() {
    let refusal =
        || Refusal { version: Version(0), reason: "no".into(), object: None, field: String::new() };
    let endpoints = |service| ResourceKey::Endpoints(port(service));
    let sent = |ledger: &mut Ledger, snapshot: &Snapshot| {
        ledger.plan(snapshot);
        let updates = std::iter::from_fn(|| next_update(ledger, snapshot));
        let keys: Vec<_> = updates
            .map(|update| {
                let removed = matches!(update.resource, Some(wire::update::Resource::Removed(_)));
                (ResourceKey::try_from(update.key.unwrap()).unwrap(), removed)
            })
            .collect();
        keys
    };
    let world = |backend: u8, last: u8| World {
        backends: vec![vec![backend], vec![], vec![]],
        endpoints: vec![vec![], vec![last], vec![9]],
    };
    let mut ledger = Ledger::new(uid(), Version(0));
    ledger.subscribe(key(0), Known::default()).unwrap();
    assert_eq!(
        sent(&mut ledger, &world(1, 1).snapshot(1)),
        [(endpoints(1), false), (key(0), false)]
    );
    ledger.acknowledge(&endpoints(1), Version(1));
    ledger.acknowledge(&key(0), Version(1));

    let update = sent(&mut ledger, &world(2, 1).snapshot(2));
    assert_eq!(update, [(endpoints(2), false), (key(0), false)], "nothing is taken back yet");
    ledger.acknowledge(&endpoints(2), Version(2));
    ledger.refuse(&key(0), Version(2), refusal());
    let update = sent(&mut ledger, &world(2, 7).snapshot(3));
    assert_eq!(update, [(endpoints(1), false)], "the old backend's endpoints are still told");

    assert_eq!(
        sent(&mut ledger, &world(0, 7).snapshot(4)),
        [(endpoints(0), false), (key(0), false), (endpoints(2), true)]
    );
    ledger.acknowledge(&endpoints(0), Version(4));
    assert!(ledger.acknowledge(&key(0), Version(4)));
    assert_eq!(sent(&mut ledger, &world(0, 7).snapshot(4)), [(endpoints(1), true)]);
}

#[test]
fn a_resource_that_is_known_is_not_sent_again() {
    let world = World { backends: vec![vec![0]], endpoints: vec![vec![1]] };
    let snapshot = world.snapshot(5);
    let wished = snapshot.contents.resource(&key(0), &uid()).unwrap();
    let behind = snapshot.contents.resource(&ResourceKey::Endpoints(port(0)), &uid()).unwrap();
    let mut ledger = Ledger::new(uid(), Version(0));
    let known = |digest| Known { version: Version(3), digest };
    ledger.subscribe(ResourceKey::Endpoints(port(0)), known(behind.digest)).unwrap();
    ledger.subscribe(key(0), known(wished.digest)).unwrap();
    ledger.plan(&snapshot);
    assert_eq!(next_update(&mut ledger, &snapshot), None);
    assert_eq!(ledger.digest(Patience::Left).unwrap().resources, 2);
}

#[test]
fn a_version_beyond_ours_has_to_be_exceeded_first() {
    let snapshot = World::default().snapshot(5);
    let mut ledger = Ledger::new(uid(), Version(0));
    ledger.subscribe(key(0), Known { version: Version(5), digest: 1 }).unwrap();
    assert_eq!(ledger.version_to_exceed(&snapshot), None);
    ledger.subscribe(key(1), Known { version: Version(6), digest: 1 }).unwrap();
    assert_eq!(ledger.version_to_exceed(&snapshot), Some(Version(6)));
    ledger.resume(Version(9)).unwrap();
    assert_eq!(
        ledger.version_to_exceed(&snapshot),
        Some(Version(9)),
        "of endpoints, which are not named"
    );
    let impossible = Known { version: Version(u64::MAX), digest: 1 };
    assert!(matches!(
        ledger.subscribe(key(2), impossible),
        Err(NotSubscribed::ImpossibleVersion(_))
    ));
}

#[test]
fn subscriptions_have_a_limit() {
    let mut ledger = Ledger::new(uid(), Version(0));
    let at = |index: usize| {
        let low = u16::try_from(index % 60_000).unwrap();
        ResourceKey::Destination(SocketAddr::from(([10, 0, 0, 1], low)))
    };
    for index in 0..SUBSCRIPTIONS_LIMIT {
        ledger.subscribe(at(index), Known::default()).unwrap();
    }
    assert_eq!(
        ledger.subscribe(at(SUBSCRIPTIONS_LIMIT), Known::default()),
        Err(NotSubscribed::TooMany)
    );
    ledger.subscribe(at(0), Known::default()).unwrap();
    ledger.unsubscribe(&at(1));
    ledger.subscribe(at(SUBSCRIPTIONS_LIMIT), Known::default()).unwrap();
}

#[test]
fn a_refused_update_is_not_part_of_the_digest() {
    let world = World { backends: vec![vec![]], endpoints: vec![vec![]] };
    let snapshot = world.snapshot(5);
    let mut ledger = Ledger::new(uid(), Version(0));
    ledger.subscribe(key(0), Known::default()).unwrap();
    ledger.plan(&snapshot);
    let update = next_update(&mut ledger, &snapshot).unwrap();
    assert_eq!(ledger.digest(Patience::Left), None);
    assert_eq!(ledger.digest(Patience::Over).unwrap().fold, update.digest);
    let refusal =
        Refusal { version: Version(0), reason: "no".into(), object: None, field: String::new() };
    assert!(!ledger.refuse(&key(0), Version(5), refusal), "a whole update is not sent again");
    assert_eq!(ledger.digest(Patience::Left), Some(wire::Digest { fold: 0, resources: 0 }));
    assert_eq!(ledger.counts().refused, 1);
}

#[test]
fn what_a_proxy_brings_is_kept_as_long_as_it_may_be_needed() {
    let endpoints = |service| ResourceKey::Endpoints(port(service));
    let known = |digest| Known { version: Version(3), digest };
    let snapshot = |last, version| {
        World { backends: vec![vec![0], vec![]], endpoints: vec![vec![1], vec![last]] }
            .snapshot(version)
    };
    let mut ledger = Ledger::new(uid(), Version(0));
    ledger.subscribe(endpoints(1), known(7)).unwrap();
    ledger.subscribe(key(0), known(8)).unwrap();
    let keys = |ledger: &mut Ledger, snapshot: &Snapshot| {
        ledger.plan(snapshot);
        let updates = std::iter::from_fn(|| next_update(ledger, snapshot));
        updates
            .map(|update| ResourceKey::try_from(update.key.unwrap()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&mut ledger, &snapshot(2, 5)), [endpoints(0), key(0), endpoints(1)]);
    ledger.acknowledge(&endpoints(0), Version(5));
    ledger.acknowledge(&endpoints(1), Version(5));
    let refusal =
        Refusal { version: Version(0), reason: "no".into(), object: None, field: String::new() };
    ledger.refuse(&key(0), Version(5), refusal);
    assert_eq!(keys(&mut ledger, &snapshot(3, 6)), [endpoints(1)], "it goes on with the old one");
    ledger.acknowledge(&endpoints(1), Version(6));
    ledger.unsubscribe(&key(0));
    assert_eq!(keys(&mut ledger, &snapshot(3, 6)), [endpoints(0), endpoints(1)]);
    assert_eq!(ledger.digest(Patience::Left).unwrap().resources, 0, "both are taken back");
}

#[test]
fn what_stands_in_for_what_a_new_proxy_refused_is_held_beside_the_refusal() {
    let world = |backend: u8| World {
        backends: vec![vec![backend], vec![], vec![]],
        endpoints: vec![vec![0], vec![1], vec![2]],
    };
    let (good, bad) = (world(1).snapshot(1), world(2).snapshot(2));
    let refusal =
        || Refusal { version: Version(2), reason: "no".into(), object: None, field: String::new() };
    let endpoints = |service| ResourceKey::Endpoints(port(service));
    let mut ledger = Ledger::new(uid(), Version(0));
    ledger.subscribe(key(0), Known::default()).unwrap();
    let sent = |ledger: &mut Ledger, snapshot: &Snapshot| {
        ledger.plan(snapshot);
        let updates = std::iter::from_fn(|| next_update(ledger, snapshot));
        updates
            .map(|update| (ResourceKey::try_from(update.key.unwrap()).unwrap(), update.digest))
            .collect::<Vec<_>>()
    };
    sent(&mut ledger, &bad);
    ledger.acknowledge(&endpoints(2), Version(2));
    assert_eq!(ledger.lacks_all_but(&key(0)), None, "there is no answer yet");
    ledger.refuse(&key(0), Version(2), refusal());
    let wished = good.contents.resource(&key(0), &uid()).unwrap();
    let refused = bad.contents.resource(&key(0), &uid()).unwrap();
    assert_eq!(ledger.lacks_all_but(&key(0)), Some(refused.digest));

    ledger.stand_in(&key(0), Arc::clone(&wished));
    let behind = bad.contents.resource(&endpoints(1), &uid()).unwrap().digest;
    let updates = sent(&mut ledger, &bad);
    assert_eq!(updates, [(endpoints(1), behind), (key(0), wished.digest)]);
    ledger.acknowledge(&endpoints(1), Version(2));
    assert_eq!(ledger.digest(Patience::Left), None, "its answer is outstanding");
    ledger.acknowledge(&key(0), Version(2));
    assert_eq!(ledger.digest(Patience::Left).unwrap().resources, 3);
    assert!(matches!(ledger.held[&key(0)].answer, Answer::Refused(_)), "the status tells");
    assert_eq!(sent(&mut ledger, &bad), []);
    assert_eq!(ledger.lacks_all_but(&key(0)), None);

    // What is refused after that leaves it in force.
    let worse = world(0).snapshot(3);
    let updates: Vec<_> = sent(&mut ledger, &worse).into_iter().map(|(key, _)| key).collect();
    assert_eq!(updates, [endpoints(0), key(0), endpoints(2)]);
    ledger.acknowledge(&endpoints(0), Version(3));
    ledger.refuse(&key(0), Version(3), refusal());
    assert_eq!(sent(&mut ledger, &worse), []);
    assert!(ledger.holds(&endpoints(1)));
}

#[test]
fn a_stand_in_that_is_refused_too_is_not_sent_again() {
    let world = World { backends: vec![vec![0]], endpoints: vec![vec![1]] };
    let other = World { backends: vec![vec![]], endpoints: vec![vec![1]] }.snapshot(1);
    let snapshot = world.snapshot(2);
    let refusal =
        || Refusal { version: Version(2), reason: "no".into(), object: None, field: String::new() };
    let mut ledger = Ledger::new(uid(), Version(0));
    ledger.subscribe(key(0), Known::default()).unwrap();
    ledger.plan(&snapshot);
    while ledger.next_update(&snapshot).is_some() {}
    ledger.acknowledge(&ResourceKey::Endpoints(port(0)), Version(2));
    ledger.refuse(&key(0), Version(2), refusal());
    ledger.stand_in(&key(0), other.contents.resource(&key(0), &uid()).unwrap());
    ledger.plan(&snapshot);
    assert!(ledger.next_update(&snapshot).is_some());
    assert!(ledger.refuse(&key(0), Version(2), refusal()));
    assert_eq!(ledger.lacks_all_but(&key(0)), None);
    ledger.plan(&snapshot);
    assert_eq!(next_update(&mut ledger, &snapshot), None);
    assert_eq!(ledger.digest(Patience::Left).unwrap().resources, 1);
}
