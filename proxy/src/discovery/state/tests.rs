//! Tables and properties of what is held after which updates.

use heddle_model::endpoint::ExpectedPeer;
use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName};
use heddle_model::policy::BackendPolicy;
use heddle_model::route::{
    ConnectionRule, HttpBackend, HttpMatch, HttpRule, PathMatch, RuleOrigin,
};
use heddle_model::workload::{InboundMode, NodeProbes};
use proptest::prelude::*;

use super::*;

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 43, 0, number], 80))
}

fn service(name: &str) -> ServicePort {
    let service = ServiceName { namespace: "default".into(), name: name.into() };
    ServicePort { service, port: Port::new(80).unwrap() }
}

fn endpoint(number: u8) -> Endpoint {
    Endpoint {
        address: SocketAddr::from(([10, 42, 0, number], 8080)),
        peer: ExpectedPeer::Plaintext,
        zone: String::new(),
        node: String::new(),
        pod: format!("pod-{number}"),
    }
}

fn state() -> State {
    let mut state = State::new("uid-1".parse().unwrap());
    for number in 0..4 {
        state.want(address(number));
    }
    state.begin_session();
    state
}

fn destination(number: u8, version: u64, content: Destination) -> Update {
    Update {
        key: ResourceKey::Destination(address(number)),
        version: Version(version),
        digest: version * 31 + u64::from(number),
        content: Content::Destination(content),
    }
}

fn routed(backend: &str, path: PathMatch) -> Destination {
    let origin = RuleOrigin::Object {
        object: ObjectReference {
            kind: "HTTPRoute".into(),
            namespace: "default".into(),
            name: "api".into(),
        },
        field: "spec.rules[0]".into(),
    };
    let backend = HttpBackend { backend: service(backend), weight: 1, filters: Vec::new() };
    let rule = HttpRule {
        matches: vec![HttpMatch { path: Some(path), ..HttpMatch::default() }],
        ..HttpRule::to(vec![backend], origin)
    };
    Destination::Service(ServiceDestination {
        service: service("api"),
        protocol: Protocol::Http1,
        http_rules: vec![rule],
        tls_rules: Vec::new(),
        connections: ConnectionRule {
            backends: Vec::new(),
            missing_weight: 0,
            origin: RuleOrigin::ServiceDefault,
        },
    })
}

fn to(backend: &str) -> Destination {
    routed(backend, PathMatch::Prefix("/".into()))
}

fn endpoints(name: &str, version: u64, base: u64, up: &[u8], gone: &[u8]) -> Update {
    Update {
        key: ResourceKey::Endpoints(service(name)),
        version: Version(version),
        digest: version * 17,
        content: Content::Endpoints(EndpointsChange {
            base: Version(base),
            upserted: up.iter().copied().map(endpoint).collect(),
            removed: gone.iter().map(|number| endpoint(*number).address).collect(),
            policy: BackendPolicy::default(),
        }),
    }
}

fn removed(name: &str, version: u64) -> Update {
    let content = Content::EndpointsRemoved;
    Update { content, ..endpoints(name, version, 0, &[], &[]) }
}

fn pods(outcome: Outcome) -> Vec<String> {
    let Outcome::Ack(Change::Endpoints(_, set)) = outcome else {
        panic!("no endpoints: {outcome:?}")
    };
    set.endpoints.iter().map(|endpoint| endpoint.pod.clone()).collect()
}

#[test]
fn what_a_change_does_not_name_is_shared_with_the_version_before() {
    let mut state = state();
    let mut endpoints_after = |update| {
        let Outcome::Ack(Change::Endpoints(_, set)) = state.apply(update) else { panic!("none") };
        set.endpoints
    };
    let before = endpoints_after(endpoints("v1", 5, 0, &[1, 2, 3], &[]));
    let after = endpoints_after(endpoints("v1", 6, 5, &[2, 4], &[3]));
    let is_shared = |one: &Arc<Endpoint>| before.iter().any(|known| Arc::ptr_eq(known, one));
    let shared: Vec<bool> = after.iter().map(is_shared).collect();
    assert_eq!(shared, [true, false, false], "{after:?}");
}

#[test]
fn a_refused_update_keeps_the_old_one_and_names_what_is_at_fault() {
    let mut state = state();
    assert!(matches!(state.apply(destination(1, 5, to("v1"))), Outcome::Ack(_)));
    let before = state.fold();

    let bad = routed("v1", PathMatch::Regex("(".into()));
    let Outcome::Nack(refusal) = state.apply(destination(1, 6, bad)) else { panic!("taken") };
    assert_eq!(refusal.origin.unwrap().to_string(), "HTTPRoute default/api");
    assert!(refusal.field.starts_with("spec.rules[0]"), "{}", refusal.field);

    assert_eq!(state.fold(), (0, 0), "a refused resource is not in the digest");

    let key = ResourceKey::Destination(address(1));
    let again = state.begin_session();
    let known = again.iter().find(|subscription| subscription.key == key).unwrap();
    assert_eq!(known.known_version, Version(5), "the good version is what is known");
    assert_eq!(state.fold(), before, "which is all that the control plane was told of");

    assert!(matches!(state.apply(destination(1, 7, to("v1"))), Outcome::Ack(_)));
    assert_eq!(state.fold(), (7 * 31 + 1, 1));
}

#[test]
fn an_update_older_than_what_is_held_is_ignored_also_a_refused_or_unreadable_one() {
    let mut state = state();
    state.apply(destination(1, 5, to("v1")));
    let held = |outcome| {
        let Outcome::IgnoredOlder { held } = outcome else { panic!("not ignored: {outcome:?}") };
        held
    };
    assert_eq!(held(state.apply(destination(1, 4, Destination::PassThrough))), Version(5));
    let bad = routed("v1", PathMatch::Regex("(".into()));
    assert_eq!(held(state.apply(destination(1, 4, bad))), Version(5));
    let key = ResourceKey::Destination(address(1));
    assert_eq!(held(state.refuse(key, Version(3), refusal("unreadable"))), Version(5));
    assert_eq!(state.fold(), (5 * 31 + 1, 1));
}

#[test]
fn the_same_version_again_changes_nothing() {
    let mut state = state();
    state.apply(destination(1, 5, to("v1")));
    let outcome = state.apply(destination(1, 5, to("v1")));
    assert!(matches!(outcome, Outcome::Ack(Change::None)), "{outcome:?}");
    state.apply(endpoints("v1", 5, 0, &[1], &[]));
    let outcome = state.apply(endpoints("v1", 5, 0, &[1], &[]));
    assert!(matches!(outcome, Outcome::Ack(Change::None)), "{outcome:?}");
}

#[test]
fn a_change_of_endpoints_applies_to_exactly_the_version_it_names() {
    let mut state = state();
    assert!(matches!(state.apply(endpoints("api", 2, 1, &[1], &[])), Outcome::Nack(_)));
    assert_eq!(pods(state.apply(endpoints("api", 3, 0, &[1, 2], &[]))), ["pod-1", "pod-2"]);
    assert!(matches!(state.apply(endpoints("api", 5, 4, &[3], &[])), Outcome::Nack(_)));
    let outcome = state.apply(endpoints("api", 6, 3, &[3], &[1]));
    assert_eq!(pods(outcome), ["pod-2", "pod-3"], "what was refused left no trace");
    assert_eq!(pods(state.apply(endpoints("api", 7, 0, &[4], &[]))), ["pod-4"]);
    assert_eq!(pods(state.apply(endpoints("api", 8, 7, &[], &[4]))), Vec::<String>::new());
}

#[test]
fn endpoints_come_before_the_destination_that_refers_to_them() {
    let mut state = state();
    assert_eq!(pods(state.apply(endpoints("v1", 2, 0, &[1], &[]))), ["pod-1"]);
    assert!(state.holds(&ResourceKey::Endpoints(service("v1"))), "it is still to come");
    assert!(matches!(state.apply(destination(1, 2, to("v1"))), Outcome::Ack(_)));
    state.apply(destination(1, 3, Destination::PassThrough));
    let outcome = state.apply(removed("v1", 3));
    assert!(matches!(outcome, Outcome::Ack(Change::EndpointsRemoved(_))), "{outcome:?}");
    assert!(!state.holds(&ResourceKey::Endpoints(service("v1"))));
    let outcome = state.apply(removed("v1", 4));
    assert!(matches!(outcome, Outcome::Ack(_)), "removing twice is no fault");
}

#[test]
fn endpoints_are_in_use_as_long_as_a_destination_refers_to_them() {
    let mut state = state();
    state.apply(endpoints("v1", 2, 0, &[1], &[]));
    state.apply(destination(1, 2, to("v1")));
    state.apply(destination(2, 2, to("v1")));
    let bad = routed("v2", PathMatch::Regex("(".into()));
    assert!(matches!(state.apply(destination(1, 3, bad)), Outcome::Nack(_)));
    let outcome = state.apply(removed("v1", 3));
    assert!(matches!(outcome, Outcome::Ack(Change::None)), "readers keep them: {outcome:?}");
    assert_eq!(state.fold(), (2 * 31 + 2, 1), "for the control plane they are not held");

    let unused = |outcome| {
        let Outcome::Ack(Change::Destination { unused, .. }) = outcome else {
            panic!("not taken: {outcome:?}")
        };
        unused
    };
    assert_eq!(unused(state.apply(destination(1, 4, to("v2")))), [], "2 refers to them");
    assert_eq!(state.unwant(address(2)), [service("v1")]);

    state.apply(endpoints("v2", 4, 0, &[2], &[]));
    state.apply(removed("v2", 5));
    assert_eq!(pods(state.apply(endpoints("v2", 6, 0, &[3], &[]))), ["pod-3"]);
    let outcome = state.apply(destination(1, 7, Destination::PassThrough));
    assert_eq!(unused(outcome), [], "what is held the control plane takes back");
}

#[test]
fn a_reconnect_names_what_is_known() {
    let mut state = state();
    state.apply(endpoints("v1", 4, 0, &[1], &[]));
    state.apply(destination(1, 5, to("v1")));
    let subscriptions = state.begin_session();
    let known: Vec<u64> =
        subscriptions.iter().map(|subscription| subscription.known_version.0).collect();
    let first = ResourceKey::Endpoints(service("v1"));
    assert_eq!(subscriptions[0].key, first, "before the destinations that need them");
    assert_eq!(subscriptions[1].key, ResourceKey::Workload("uid-1".parse().unwrap()));
    assert_eq!(known, [4, 0, 0, 5, 0, 0]);
    assert_eq!(subscriptions[3].known_digest, 5 * 31 + 1);
}

#[test]
fn after_two_digests_that_differ_everything_is_asked_for_anew() {
    let mut state = state();
    state.apply(destination(1, 5, to("v1")));
    let (fold, count) = state.fold();
    assert_eq!(state.compare(fold, count), Agreement::Same);
    assert_eq!(state.compare(fold ^ 1, count), Agreement::Differs);
    assert_eq!(state.compare(fold, count), Agreement::Same);
    assert_eq!(state.compare(fold, count + 1), Agreement::Differs);
    assert_eq!(state.compare(fold, count + 1), Agreement::Resync);
    let from_nothing = state.begin_session();
    assert!(from_nothing.iter().all(|subscription| subscription.known_digest == 0));
    assert!(from_nothing.iter().any(|subscription| subscription.known_version == Version(5)));
    let resumed = state.begin_session();
    assert!(resumed.iter().any(|subscription| subscription.known_digest == 5 * 31 + 1));
}

#[test]
fn nothing_is_held_of_what_is_not_wanted() {
    let mut state = state();
    let outcome = state.apply(destination(99, 5, to("v1")));
    assert!(matches!(outcome, Outcome::Ack(Change::None)), "it crossed an unsubscribe");
    assert!(state.is_empty());
    let other = Workload {
        namespace: "default".into(),
        name: "other".into(),
        pod_uid: "uid-2".parse().unwrap(),
        inbound_mode: InboundMode::Strict,
        ports: Vec::new(),
        rate_limits: Vec::new(),
        zone: String::new(),
        node: String::new(),
        probes: NodeProbes::default(),
        access_log: Default::default(),
    };
    for uid in ["uid-1", "uid-2"] {
        let update = Update {
            key: ResourceKey::Workload(uid.parse().unwrap()),
            version: Version(1),
            digest: 1,
            content: Content::Workload(other.clone()),
        };
        assert!(matches!(state.apply(update), Outcome::Nack(_)), "case: {uid}");
    }
    let mixed = Update { content: Content::EndpointsRemoved, ..destination(1, 5, to("v1")) };
    assert!(matches!(state.apply(mixed), Outcome::Nack(_)));
    assert!(state.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Destination { number: u8, version: u64, good: bool },
    Endpoints { version: u64, base: u64, up: Vec<u8>, gone: Vec<u8> },
    Removed { version: u64 },
    Unwant { number: u8 },
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let pods = || proptest::collection::vec(0..6_u8, 0..4);
    prop_oneof![
        4 => (0..4_u8, 1..20_u64, any::<bool>())
            .prop_map(|(number, version, good)| Step::Destination { number, version, good }),
        4 => (1..20_u64, 0..20_u64, pods(), pods())
            .prop_map(|(version, base, up, gone)| Step::Endpoints { version, base, up, gone }),
        1 => (1..20_u64).prop_map(|version| Step::Removed { version }),
        1 => (0..4_u8).prop_map(|number| Step::Unwant { number }),
        1 => Just(Step::Reconnect),
    ]
}

fn take(state: &mut State, step: Step) -> Option<(ResourceKey, Version, Outcome)> {
    let update = match step {
        Step::Destination { number, version, good: true } => destination(number, version, to("v1")),
        Step::Destination { number, version, good: false } => {
            destination(number, version, routed("v1", PathMatch::Regex("[".into())))
        }
        Step::Endpoints { version, base, up, gone } => endpoints("v1", version, base, &up, &gone),
        Step::Removed { version } => removed("v1", version),
        Step::Unwant { number } => {
            state.unwant(address(number));
            state.want(address(number));
            return None;
        }
        Step::Reconnect => {
            state.begin_session();
            return None;
        }
    };
    let (key, version) = (update.key.clone(), update.version);
    let outcome = state.apply(update);
    Some((key, version, outcome))
}

proptest! {
    #[test]
    fn what_is_held_never_gets_older_and_only_an_acknowledged_update_changes_it(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut state = state();
        for step in steps {
            let version_of = |state: &State, key: &ResourceKey| {
                state.held.get(key).map(|held| held.version)
            };
            let held: HashMap<ResourceKey, Version> =
                state.held.iter().map(|(key, held)| (key.clone(), held.version)).collect();
            let Some((key, version, outcome)) = take(&mut state, step) else { continue };
            let before = held.get(&key).copied();
            let after = version_of(&state, &key);
            match outcome {
                Outcome::Ack(Change::EndpointsRemoved(_)) => prop_assert_eq!(after, None),
                Outcome::Ack(Change::None) if after.is_none() => {
                    prop_assert!(state.withdrawn.contains(&service("v1")));
                }
                Outcome::Ack(_) => {
                    prop_assert_eq!(after, Some(version));
                    prop_assert!(before <= after);
                }
                Outcome::Nack(_) => prop_assert_eq!(after, before),
                Outcome::IgnoredOlder { held } => {
                    prop_assert_eq!((before, after), (Some(held), Some(held)));
                    prop_assert!(version < held);
                }
            }
        }
    }

    #[test]
    fn references_are_counted_as_often_as_destinations_refer(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut state = state();
        for step in steps {
            take(&mut state, step);
            let referring = state
                .held
                .values()
                .filter(|held| match &held.value {
                    Value::Destination { refers_to } => refers_to.contains(&service("v1")),
                    Value::Workload | Value::Endpoints(_) => false,
                })
                .count();
            let counted = state.referrers.get(&service("v1")).copied().unwrap_or(0);
            prop_assert_eq!(counted, referring);
        }
    }

    #[test]
    fn the_fold_is_that_of_everything_held_and_not_refused(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut state = state();
        let mut refused = std::collections::HashSet::new();
        for step in steps {
            if let Some((key, _, outcome)) = take(&mut state, step) {
                match outcome {
                    Outcome::Ack(_) => { refused.remove(&key); }
                    Outcome::Nack(_) => { refused.insert(key); }
                    Outcome::IgnoredOlder { .. } => {}
                }
            }
            refused.retain(|key| state.refused.contains_key(key));
            let standing: Vec<u64> = state
                .held
                .iter()
                .filter(|(key, _)| !refused.contains(*key))
                .map(|(_, held)| held.digest)
                .collect();
            let fold = standing.iter().fold(0, |fold, digest| fold ^ digest);
            prop_assert_eq!(state.fold(), (fold, u32::try_from(standing.len()).unwrap()));
        }
    }
}
