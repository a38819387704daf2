//! A backend under each policy: who is picked, who is left out, who waits. Random, and seeded.

use std::time::Duration;

use heddle_model::endpoint::ExpectedPeer;
use heddle_model::policy::{CircuitLimits, Ejection, HashKey, Locality, Preference};
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::balance::ejection::Sign;
use crate::balance::endpoint::{FAILING_FOR, Standing};
use crate::http::grpc::GrpcStatus;
use crate::metrics::{
    BackendLabels, Direction, EjectionLabels, EjectionReason, Protection, RequestLabels,
    RequestOutcome,
};
use crate::testing::slot;

fn endpoint(number: u8, pod: &str) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, number], 80).into(),
        peer: ExpectedPeer::Plaintext,
        zone: String::new(),
        node: String::new(),
        pod: pod.to_owned(),
    }
}

fn endpoints(count: u8) -> Vec<Endpoint> {
    (1..=count).map(|number| endpoint(number, &format!("pod-{number}"))).collect()
}

fn set(balancer: &Balancer, endpoints: Vec<Endpoint>, policy: &BackendPolicy) {
    balancer.update(EndpointSet { endpoints, policy: policy.clone() }, &Place::default());
}

fn with(endpoints: Vec<Endpoint>, policy: &BackendPolicy) -> Arc<Balancer> {
    let balancer = Balancer::labelled("default/api:80".into());
    set(&balancer, endpoints, policy);
    balancer
}

fn balancer(endpoints: Vec<Endpoint>) -> Arc<Balancer> {
    with(endpoints, &BackendPolicy::default())
}

fn random() -> SmallRng {
    SmallRng::seed_from_u64(3)
}

fn first() -> PickContext<'static> {
    PickContext::first(Purpose::Request)
}

fn pick(balancer: &Balancer, random: &mut SmallRng) -> Arc<BalancedEndpoint> {
    balancer.pick(&first(), random).unwrap()
}

/// The endpoint with this address.
fn at(balancer: &Balancer, number: u8) -> Arc<BalancedEndpoint> {
    let set = balancer.set.load();
    let is_it =
        |one: &&Arc<BalancedEndpoint>| one.endpoint.address == ([10, 0, 0, number], 80).into();
    Arc::clone(set.endpoints.iter().find(is_it).unwrap())
}

/// How often each is picked; nothing is under way.
fn counts(balancer: &Balancer, picks: usize) -> HashMap<String, usize> {
    let mut random = random();
    let mut counts = HashMap::new();
    for _ in 0..picks {
        *counts.entry(pick(balancer, &mut random).endpoint.pod.clone()).or_insert(0) += 1;
    }
    counts
}

fn metrics() -> Arc<Metrics> {
    Metrics::register(&mut Registry::default())
}

fn fail(endpoint: &BalancedEndpoint, metrics: &Metrics, times: u32) {
    for _ in 0..times {
        endpoint.observe(Sign::BadConnection, metrics);
    }
}

#[tokio::test]
async fn an_endpoint_that_stays_keeps_its_load() {
    let balancer = balancer(vec![endpoint(1, "a")]);
    let _in_flight = balancer.admit(&first(), 10).await.unwrap();
    set(&balancer, vec![endpoint(2, "b"), endpoint(1, "a")], &BackendPolicy::default());
    assert_eq!(counts(&balancer, 20).get("a"), None, "the other one has no load");
}

#[test]
fn another_pod_at_the_same_address_inherits_nothing() {
    let balancer = balancer(vec![endpoint(1, "a")]);
    let before = pick(&balancer, &mut random());
    set(&balancer, vec![endpoint(1, "b")], &BackendPolicy::default());
    let after = pick(&balancer, &mut random());
    assert!(!Arc::ptr_eq(&before, &after));
}

#[test]
fn what_was_tried_is_not_picked_again() {
    for balance in balances() {
        let policy = BackendPolicy { balance, ..BackendPolicy::default() };
        let balancer = with(endpoints(2), &policy);
        let pick = |tried: &[SocketAddr]| {
            let context = PickContext { tried, key: Some(7), ..first() };
            balancer.pick(&context, &mut random()).map(|found| found.endpoint.address)
        };
        let one = pick(&[]).unwrap();
        let other = pick(&[one]).unwrap();
        assert_ne!(one, other, "{policy:?}");
        assert_eq!(pick(&[one, other]), None, "{policy:?}");
    }
}

fn balances() -> [Balance; 4] {
    [
        Balance::default(),
        Balance::RoundRobin,
        Balance::Random,
        Balance::ConsistentHash(HashKey::Source),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_failed_is_avoided_for_a_while() {
    for balance in balances() {
        let policy = BackendPolicy { balance, ..BackendPolicy::default() };
        let balancer = with(endpoints(3), &policy);
        let failed = pick(&balancer, &mut random());
        failed.mark_failing();
        assert_eq!(counts(&balancer, 50).get(&failed.endpoint.pod), None, "{policy:?}");
        tokio::time::advance(FAILING_FOR).await;
        assert!(counts(&balancer, 50).contains_key(&failed.endpoint.pod), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_slow_one_gets_less_and_is_tried_again() {
    let balancer = balancer(endpoints(3));
    // All have answered something, one of them slowly.
    let answer = |millis: [u64; 3]| {
        let balancer = Arc::clone(&balancer);
        async move {
            let sent_at = Instant::now();
            for (number, after) in millis.into_iter().enumerate() {
                tokio::time::advance(Duration::from_millis(after)).await;
                at(&balancer, u8::try_from(number).unwrap() + 1).observe_latency(sent_at);
            }
        }
    };
    answer([5, 1, 1000]).await;
    assert_eq!(counts(&balancer, 300).get("pod-3"), None, "it answers after a second");
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let sent_at = Instant::now();
        tokio::time::advance(Duration::from_millis(5)).await;
        at(&balancer, 1).observe_latency(sent_at);
        at(&balancer, 2).observe_latency(sent_at);
    }
    assert!(counts(&balancer, 300)["pod-3"] > 50, "that was a minute ago");
}

#[tokio::test]
async fn one_that_has_answered_nothing_is_tried_and_not_flooded() {
    let balancer = balancer(endpoints(3));
    for number in 1..=2 {
        at(&balancer, number).observe_latency(Instant::now());
    }
    let mut held = Vec::new();
    for _ in 0..30 {
        held.push(balancer.admit(&first(), 1000).await.unwrap());
    }
    assert_eq!(at(&balancer, 3).load(), 1);
}

#[test]
fn round_robin_takes_turns() {
    let policy = BackendPolicy { balance: Balance::RoundRobin, ..BackendPolicy::default() };
    let counts = counts(&with(endpoints(5), &policy), 100);
    assert!(counts.len() == 5 && counts.values().all(|count| *count == 20), "{counts:?}");
}

#[test]
fn random_is_even_in_the_long_run() {
    let policy = BackendPolicy { balance: Balance::Random, ..BackendPolicy::default() };
    let counts = counts(&with(endpoints(5), &policy), 10_000);
    assert!(counts.values().all(|count| (1800..2200).contains(count)), "{counts:?}");
}

#[test]
fn the_same_key_goes_to_the_same_endpoint_until_it_is_gone() {
    let balance = Balance::ConsistentHash(HashKey::Header("x-user".to_owned()));
    let policy = BackendPolicy { balance, ..BackendPolicy::default() };
    let balancer = with(endpoints(5), &policy);
    let of = |user: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", user.parse().unwrap());
        let key = balancer.key(&headers, &"u1".parse().unwrap());
        assert!(key.is_some());
        balancer.pick(&PickContext { key, ..first() }, &mut random()).unwrap().endpoint.clone()
    };
    let users: Vec<String> = (0..200).map(|user| format!("user-{user}")).collect();
    let before: Vec<Arc<Endpoint>> = users.iter().map(|user| of(user)).collect();
    set(&balancer, endpoints(4), &policy);
    for (user, before) in users.iter().zip(before) {
        let after = of(user);
        assert!(after == before || before.pod == "pod-5", "{user}: {before:?}, then {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_warms_up() {
    for balance in [Balance::default(), Balance::RoundRobin, Balance::Random] {
        let policy = BackendPolicy {
            balance,
            slow_start: Some(Duration::from_secs(60)),
            ..BackendPolicy::default()
        };
        let balancer = with(endpoints(4), &policy);
        assert!(counts(&balancer, 1000).values().all(|count| *count > 150), "all are new");
        set(&balancer, endpoints(5), &policy);
        let share = |counts: HashMap<String, usize>| counts["pod-5"];
        let (new, half) = (share(counts(&balancer, 10_000)), {
            tokio::time::advance(Duration::from_secs(30)).await;
            share(counts(&balancer, 10_000))
        });
        tokio::time::advance(Duration::from_secs(30)).await;
        let full = share(counts(&balancer, 10_000));
        assert!((100..500).contains(&new), "a fortieth: {new}, {policy:?}");
        assert!((900..1500).contains(&half), "an eighth: {half}, {policy:?}");
        assert!((1750..2250).contains(&full), "a fifth: {full}, {policy:?}");
    }
}

fn placed(number: u8, zone: &str, node: &str) -> Endpoint {
    let (zone, node) = (zone.to_owned(), node.to_owned());
    Endpoint { zone, node, ..endpoint(number, &format!("pod-{number}")) }
}

#[tokio::test(start_paused = true)]
async fn close_endpoints_are_used_until_too_few_are_healthy() {
    let locality = Locality { preference: Preference::SameZone, minimum_healthy_percent: 70 };
    let policy = BackendPolicy { locality, ..BackendPolicy::default() };
    let endpoints = vec![
        placed(1, "a", "1"),
        placed(2, "a", "2"),
        placed(3, "a", "3"),
        placed(4, "b", "4"),
        placed(5, "b", "5"),
    ];
    let balancer = with(endpoints, &policy);
    assert_eq!(counts(&balancer, 200).len(), 5, "it is not known yet where we are");
    balancer.move_to(&Place { zone: "a".to_owned(), node: "9".to_owned() });
    let mut found: Vec<String> = counts(&balancer, 200).into_keys().collect();
    found.sort_unstable();
    assert_eq!(found, ["pod-1", "pod-2", "pod-3"]);
    at(&balancer, 1).mark_failing();
    let mut found: Vec<String> = counts(&balancer, 200).into_keys().collect();
    found.sort_unstable();
    assert_eq!(found, ["pod-2", "pod-3", "pod-4", "pod-5"]);
    tokio::time::advance(FAILING_FOR).await;
    assert_eq!(counts(&balancer, 200).len(), 3, "all are healthy again");
}

#[tokio::test(start_paused = true)]
async fn one_of_five_that_is_dead_is_ejected_and_comes_back_on_probation() {
    let (balancer, metrics) = (balancer(endpoints(5)), metrics());
    let dead = at(&balancer, 3);
    fail(&dead, &metrics, 4);
    assert_eq!(dead.standing(Instant::now()), Standing::Good, "not yet");
    fail(&dead, &metrics, 1);
    assert_eq!(dead.standing(Instant::now()), Standing::Ejected);
    assert_eq!(counts(&balancer, 300).get("pod-3"), None);
    let backend: Arc<str> = Arc::clone(balancer.label());
    let labels =
        EjectionLabels { backend: Arc::clone(&backend), reason: EjectionReason::Connections };
    let ejections = || metrics.ejections.family().get(&labels).map(|count| count.get());
    let gauge = BackendLabels { backend };
    let ejected = || metrics.ejected.family().get(&gauge).map(|count| count.get());
    assert_eq!((ejections(), ejected()), (Some(1), Some(1)));

    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(counts(&balancer, 300)["pod-3"] > 0, "its time is over");
    assert_eq!((ejections(), ejected()), (Some(1), Some(0)));
    let tested = dead.begin(slot(), 10).unwrap();
    assert_eq!(dead.standing(Instant::now()), Standing::Avoided, "one request at a time");
    drop(tested);
    fail(&dead, &metrics, 1);
    assert_eq!(dead.standing(Instant::now()), Standing::Ejected, "one failure is enough");
    tokio::time::advance(Duration::from_secs(19)).await;
    assert_eq!(dead.standing(Instant::now()), Standing::Ejected, "for longer");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(dead.standing(Instant::now()), Standing::Good);
    dead.observe(Sign::GoodConnection, &metrics);
    fail(&dead, &metrics, 4);
    assert_eq!(dead.standing(Instant::now()), Standing::Good, "it has shown that it works");
}

#[tokio::test(start_paused = true)]
async fn most_endpoints_are_never_ejected() {
    let (balancer, metrics) = (balancer(endpoints(5)), metrics());
    for number in 1..=5 {
        fail(&at(&balancer, number), &metrics, 20);
    }
    let ejected =
        |number: &u8| at(&balancer, *number).standing(Instant::now()) == Standing::Ejected;
    assert_eq!((1..=5).filter(ejected).count(), 2, "half of them at most");
    set(&balancer, endpoints(1), &BackendPolicy::default());
    assert!(ejected(&1));
    assert_eq!(pick(&balancer, &mut random()).endpoint.pod, "pod-1", "better than none");
}

#[tokio::test(start_paused = true)]
async fn of_ejected_endpoints_those_count_that_stay() {
    let gone = endpoints(5).split_off(2);
    let replaced = [endpoint(1, "another"), endpoint(2, "pod-2")].into_iter().chain(gone.clone());
    for (case, after, expected) in [
        ("all stay", endpoints(5), 2),
        ("one is gone", endpoints(5).split_off(1), 1),
        ("one is another pod", replaced.collect(), 1),
        ("both are gone", gone, 0),
    ] {
        let (balancer, metrics) = (balancer(endpoints(5)), metrics());
        fail(&at(&balancer, 1), &metrics, 5);
        fail(&at(&balancer, 2), &metrics, 5);
        set(&balancer, after, &BackendPolicy::default());
        let labels = BackendLabels { backend: Arc::clone(balancer.label()) };
        let ejected = metrics.ejected.family().get(&labels).map(|count| count.get());
        assert_eq!(ejected, Some(expected), "case: {case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_keeps_what_is_known_of_endpoints() {
    let (balancer, metrics) = (balancer(endpoints(3)), metrics());
    fail(&at(&balancer, 1), &metrics, 5);
    let in_flight = balancer.admit(&first(), 10).await.unwrap();
    let limits = CircuitLimits { requests: 1, pending: 0, ..CircuitLimits::default() };
    let policy = BackendPolicy { balance: Balance::RoundRobin, limits, ..BackendPolicy::default() };
    set(&balancer, endpoints(3), &policy);
    assert_eq!(at(&balancer, 1).standing(Instant::now()), Standing::Ejected);
    assert_eq!(in_flight.endpoint().load(), 1);
    let refused = balancer.admit(&first(), 10).await;
    assert_eq!(refused.unwrap_err(), NotAdmitted::Overloaded, "what is under way counts");
    drop(in_flight);
    assert!(balancer.admit(&first(), 10).await.is_ok());
}

fn limited(limits: CircuitLimits) -> Arc<Balancer> {
    with(endpoints(2), &BackendPolicy { limits, ..BackendPolicy::default() })
}

#[tokio::test(start_paused = true)]
async fn requests_over_the_limit_wait_and_no_more_than_may() {
    let limits = CircuitLimits { requests: 1, pending: 1, ..CircuitLimits::default() };
    let balancer = limited(limits);
    let context = first();
    let held = balancer.admit(&context, 10).await.unwrap();
    let mut waits = Box::pin(balancer.admit(&context, 10));
    assert!(futures_util::poll!(&mut waits).is_pending());
    let refused = balancer.admit(&context, 10).await;
    assert_eq!(refused.unwrap_err(), NotAdmitted::Overloaded, "the queue is full");
    drop(held);
    let held = waits.await.unwrap();
    let start = Instant::now();
    let refused = balancer.admit(&context, 10).await;
    assert_eq!(refused.unwrap_err(), NotAdmitted::QueueTimeout);
    assert_eq!(start.elapsed(), limits.pending_timeout);
    drop(held);
    assert!(balancer.admit(&context, 10).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_an_endpoint_requests_wait_and_later_ones_fail_fast() {
    let balancer = balancer(Vec::new());
    let context = first();
    let mut waits = Box::pin(balancer.admit(&context, 10));
    assert!(futures_util::poll!(&mut waits).is_pending());
    set(&balancer, endpoints(1), &BackendPolicy::default());
    drop(waits.await.unwrap());

    set(&balancer, Vec::new(), &BackendPolicy::default());
    let start = Instant::now();
    let patience = BackendPolicy::default().limits.pending_timeout;
    assert_eq!(balancer.admit(&context, 10).await.unwrap_err(), NotAdmitted::NoEndpoint);
    assert_eq!(start.elapsed(), patience, "the first waits");
    assert_eq!(balancer.admit(&context, 10).await.unwrap_err(), NotAdmitted::NoEndpoint);
    assert_eq!(start.elapsed(), patience, "the next does not");
    set(&balancer, endpoints(1), &BackendPolicy::default());
    assert!(balancer.admit(&context, 10).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn connections_are_limited_by_themselves() {
    let limits = CircuitLimits {
        connections: 1,
        pending_timeout: Duration::ZERO,
        ..CircuitLimits::default()
    };
    let balancer = limited(limits);
    let connection = PickContext::first(Purpose::Connection);
    let held = balancer.connection(&metrics()).await.unwrap();
    let refused = balancer.admit(&connection, 10).await;
    assert_eq!(refused.unwrap_err(), NotAdmitted::Overloaded);
    assert!(balancer.admit(&first(), 10).await.is_ok(), "a request may go over what is open");
    drop(held);
    assert!(balancer.admit(&connection, 10).await.is_ok());
}

#[test]
fn series_of_an_endpoint_that_is_gone_are_removed() {
    let (metrics, balancer) = (metrics(), balancer(endpoints(2)));
    let service = "default/api:80".into();
    for number in [1, 2] {
        let outcome = RequestOutcome {
            status: 200,
            grpc_status: GrpcStatus::NotGrpc,
            tls: Protection::Mutual,
        };
        let chosen = at(&balancer, number);
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
    assert_eq!((count("pod-1"), count("pod-2")), (Some(2), Some(2)));
    set(&balancer, vec![endpoint(2, "pod-2")], &BackendPolicy::default());
    assert_eq!((count("pod-1"), count("pod-2")), (None, Some(2)));
}

#[tokio::test]
async fn the_load_of_one_endpoint_is_bounded() {
    let balancer = balancer(endpoints(1));
    let held = balancer.admit(&first(), 1).await.unwrap();
    assert_eq!(balancer.admit(&first(), 1).await.unwrap_err(), NotAdmitted::Overloaded);
    drop(held);
    assert!(balancer.admit(&first(), 1).await.is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_healthy_endpoint_is_picked_while_there_is_one(
        zones in proptest::collection::vec(0_u8..3, 1..8),
        failing in proptest::collection::vec(any::<bool>(), 8),
        which in 0_usize..4,
        minimum_healthy_percent in 0_u8..=100,
        seed: u64,
    ) {
        let locality = Locality { preference: Preference::SameZone, minimum_healthy_percent };
        let policy =
            BackendPolicy { balance: balances()[which].clone(), locality, ..BackendPolicy::default() };
        let endpoints: Vec<Endpoint> = (1..).zip(&zones).map(|(number, zone)| placed(number, &zone.to_string(), "")).collect();
        let balancer = Balancer::labelled("api".into());
        let own = Place { zone: "1".to_owned(), node: String::new() };
        balancer.update(EndpointSet { endpoints, policy }, &own);
        let mut is_any_good = false;
        for (number, is_failing) in (1..).zip(&failing).take(zones.len()) {
            if *is_failing { at(&balancer, number).mark_failing() } else { is_any_good = true }
        }
        let mut random = SmallRng::seed_from_u64(seed);
        let found = balancer.pick(&PickContext { key: Some(seed), ..first() }, &mut random).unwrap();
        prop_assert_eq!(found.standing(Instant::now()) == Standing::Good, is_any_good);
    }

    #[test]
    fn ejections_leave_some(
        count in 1_u8..8,
        steps in proptest::collection::vec((0_u8..8, any::<bool>()), 0..100),
        maximum_percent in 0_u8..=100,
    ) {
        let ejection = Ejection { maximum_percent, consecutive_connections: Some(2), ..Ejection::default() };
        let balancer = with(endpoints(count), &BackendPolicy { ejection, ..BackendPolicy::default() });
        let metrics = metrics();
        for (which, is_good) in steps {
            let sign = if is_good { Sign::GoodConnection } else { Sign::BadConnection };
            at(&balancer, which % count + 1).observe(sign, &metrics);
            let is_left = |number: &u8| at(&balancer, *number).standing(Instant::now()) != Standing::Ejected;
            prop_assert!((1..=count).any(|number| is_left(&number)));
        }
    }
}
