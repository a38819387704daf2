//! What is kept, for whom, and for how long.

use std::time::Duration;

use heddle_model::names::Port;
use proptest::prelude::*;

use super::*;

fn peer(name: &str, port: u16) -> Peer {
    let identity = format!("spiffe://cluster.local/ns/default/sa/{name}").parse().unwrap();
    let pod_uid = name.parse().unwrap();
    let target = PeerTarget { identity, pod_uid, port: Port::new(port).unwrap() };
    Peer { target, ip: [10, 0, 0, 1].into() }
}

fn moment(start: Instant, seconds: u64, generation: u64) -> Moment {
    Moment { now: start + Duration::from_secs(seconds), generation }
}

fn kept(number: usize, moment: Moment) -> Kept<usize> {
    let keep_alive = KeepAlive { idle_timeout: Duration::from_secs(60), ..KeepAlive::default() };
    Kept { stream: number, term: Term::new(moment.generation, moment.now, None), keep_alive }
}

fn pool_of(of_peer: usize) -> Pool<usize> {
    Pool::new(PoolLimits { of_peer, in_all: KEPT_LIMIT }, Gauge::default())
}

fn still(_stream: &mut usize) -> bool {
    true
}

fn take(pool: &Pool<usize>, peer: &Peer, moment: Moment) -> Option<usize> {
    pool.take(peer, moment, still).map(|kept| kept.stream)
}

#[test]
fn a_connection_is_for_exactly_whom_it_was_made_with() {
    let (pool, now) = (pool_of(4), moment(Instant::now(), 0, 1));
    let api = peer("api", 80);
    pool.give_back(api.clone(), kept(1, now), now);
    let moved = Peer { ip: [10, 0, 0, 2].into(), ..api.clone() };
    let other_pod = Peer {
        target: PeerTarget { pod_uid: "other".parse().unwrap(), ..api.target.clone() },
        ..api.clone()
    };
    let other_identity = Peer {
        target: PeerTarget { identity: peer("db", 80).target.identity, ..api.target.clone() },
        ..api.clone()
    };
    for other in [peer("db", 80), peer("api", 81), moved, other_pod, other_identity] {
        assert_eq!(take(&pool, &other, now), None, "{other:?}");
    }
    assert_eq!(take(&pool, &api, now), Some(1));
    assert_eq!(take(&pool, &api, now), None, "once");
}

#[test]
fn what_may_not_be_used_any_more_is_not_handed_out() {
    let start = Instant::now();
    for (case, at, is_still, expected) in [
        ("at once", moment(start, 0, 1), true, Some(7)),
        ("before it was idle for long", moment(start, 59, 1), true, Some(7)),
        ("idle for long", moment(start, 60, 1), true, None),
        ("other credentials", moment(start, 0, 2), true, None),
        ("the peer spoke, or closed", moment(start, 0, 1), false, None),
    ] {
        let (pool, peer, now) = (pool_of(4), peer("api", 80), moment(start, 0, 1));
        assert_eq!(pool.give_back(peer.clone(), kept(7, now), now), Given::First);
        let taken = pool.take(&peer, at, |_stream| is_still).map(|kept| kept.stream);
        assert_eq!(taken, expected, "case: {case}");
        assert!(pool.is_empty(), "case: {case}");
    }
}

#[test]
fn a_connection_whose_time_is_over_is_not_taken_back() {
    let (pool, start) = (pool_of(4), Instant::now());
    let made = kept(1, moment(start, 0, 1));
    let given = pool.give_back(peer("api", 80), made, moment(start, 601, 1));
    assert_eq!(given, Given::Closed, "old");
    let given = pool.give_back(peer("api", 80), kept(1, moment(start, 0, 1)), moment(start, 1, 2));
    assert_eq!(given, Given::Closed, "the credentials were swapped during its turn");
    let none = pool_of(0);
    let now = moment(start, 0, 1);
    assert_eq!(none.give_back(peer("api", 80), kept(1, now), now), Given::Closed, "told so");
}

#[test]
fn the_warmest_is_used_first_and_the_coldest_makes_room() {
    let (pool, start) = (pool_of(2), Instant::now());
    let api = peer("api", 80);
    for number in 0..3 {
        let now = moment(start, number, 1);
        pool.give_back(api.clone(), kept(usize::try_from(number).unwrap(), now), now);
    }
    let now = moment(start, 3, 1);
    assert_eq!(pool.len(), 2);
    assert_eq!(take(&pool, &api, now), Some(2));
    assert_eq!(take(&pool, &api, now), Some(1));
    assert_eq!(take(&pool, &api, now), None);
}

#[test]
fn all_peers_together_have_a_limit() {
    let (pool, start) = (pool_of(4), Instant::now());
    for number in 0..KEPT_LIMIT + 10 {
        let now = moment(start, u64::try_from(number / 20).unwrap(), 1);
        let port = u16::try_from(number + 1).unwrap();
        pool.give_back(peer("api", port), kept(number, now), now);
    }
    assert_eq!(pool.len(), KEPT_LIMIT);
    let now = moment(start, 40, 1);
    let newest = u16::try_from(KEPT_LIMIT + 10).unwrap();
    assert_eq!(take(&pool, &peer("api", newest), now), Some(KEPT_LIMIT + 9));
    let first = (1..=20).filter(|port| take(&pool, &peer("api", *port), now).is_some()).count();
    assert_eq!(first, 10, "those that were idle for longest made room");
}

#[test]
fn where_few_files_may_be_open_few_are_kept() {
    for (case, of_peer, connection_limit, in_all) in [
        ("as usual", 128, 10_000, KEPT_LIMIT),
        ("an old machine", 128, 819, 204),
        ("next to nothing", 128, 3, 0),
    ] {
        let expected = PoolLimits { of_peer, in_all };
        assert_eq!(PoolLimits::new(of_peer, connection_limit), expected, "case: {case}");
    }
    let now = moment(Instant::now(), 0, 1);
    for (in_all, expected) in [(0, 0), (3, 3)] {
        let pool = Pool::new(PoolLimits { of_peer: 4, in_all }, Gauge::default());
        for port in 1..9 {
            pool.give_back(peer("api", port), kept(usize::from(port), now), now);
        }
        assert_eq!(pool.len(), expected);
    }
}

#[test]
fn how_many_are_kept_is_shown_after_every_change() {
    let (shown, now) = (Gauge::default(), moment(Instant::now(), 0, 1));
    let pool = Pool::new(PoolLimits { of_peer: 4, in_all: 8 }, shown.clone());
    let fill = || {
        for port in 1..=8 {
            pool.give_back(peer("api", port), kept(1, now), now);
        }
        assert_eq!(shown.get(), 8);
    };
    fill();
    assert_eq!(take(&pool, &peer("api", 1), now), Some(1));
    assert_eq!(shown.get(), 7);
    pool.forget(&peer("api", 2));
    assert_eq!(shown.get(), 6);
    pool.sweep(Moment { generation: 2, ..now }, still);
    assert_eq!(shown.get(), 0);
    fill();
    pool.clear();
    assert_eq!(shown.get(), 0);
}

#[test]
fn a_sweep_leaves_what_is_of_use_and_says_when_nothing_is() {
    let (pool, start) = (pool_of(4), Instant::now());
    for (number, seconds) in [(1, 0), (2, 30)] {
        let now = moment(start, seconds, 1);
        pool.give_back(peer("api", 80), kept(number, now), now);
    }
    assert!(!pool.sweep(moment(start, 61, 1), still));
    assert_eq!(pool.len(), 1);
    assert!(pool.sweep(moment(start, 62, 2), still), "the credentials were swapped");
    let now = moment(start, 62, 2);
    assert_eq!(pool.give_back(peer("api", 80), kept(3, now), now), Given::First, "again");
    assert!(pool.sweep(now, |_stream| false), "lost");
    pool.close();
    assert_eq!(pool.give_back(peer("api", 80), kept(4, now), now), Given::Closed, "draining");
}

proptest! {
    #[test]
    fn limits_hold_and_nothing_is_handed_out_twice(
        steps in prop::collection::vec((0..4_u16, 0..4_u8, 0..30_u64), 1..200),
    ) {
        let (pool, start, limit) = (pool_of(3), Instant::now(), 3);
        let (mut next, mut seconds) = (0_usize, 0_u64);
        let mut out = std::collections::HashSet::new();
        for (port, what, later) in steps {
            seconds += later;
            let now = moment(start, seconds, 1);
            let peer = peer("api", port + 1);
            match what {
                0 | 1 => {
                    pool.give_back(peer, kept(next, now), now);
                    next += 1;
                }
                2 => {
                    if let Some(number) = take(&pool, &peer, now) {
                        prop_assert!(out.insert(number), "handed out twice");
                    }
                }
                _ => {
                    pool.sweep(now, still);
                }
            }
            prop_assert!(pool.len() <= 4 * limit);
        }
    }
}
