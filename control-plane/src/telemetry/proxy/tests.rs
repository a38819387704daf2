//! Tests of what one proxy's exports add up to.

use super::*;
use crate::telemetry::labels::{Direction, Transport};

fn origin() -> Origin {
    Origin {
        pod_uid: "u".parse().unwrap(),
        identity: "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap(),
        workload: Workload::default(),
        pod: "api-1".to_owned(),
    }
}

fn labels(service: &str) -> Labels {
    Labels {
        direction: Direction::Outbound,
        service: service.into(),
        backend: "".into(),
        route: "".into(),
        peer: "".into(),
        transport: Transport::Mtls,
    }
}

fn point(print: u8, service: &str, (start, time): (u64, u64), value: Value) -> Point {
    Point {
        fingerprint: [print; 16],
        labels: labels(service),
        start_nanos: start * 1_000_000_000,
        time_nanos: time * 1_000_000_000,
        value,
    }
}

fn requests(outcome: Outcome, count: u64) -> Value {
    let buckets = if count == 0 { vec![] } else { vec![(-5, count)] };
    Value::Requests(outcome, Latency::new(3, 0, buckets).unwrap())
}

struct Taker {
    proxy: ProxyMemory,
    texts: Texts,
    has_room: bool,
}

impl Taker {
    fn new() -> Self {
        Self { proxy: ProxyMemory::new(origin()), texts: Texts::default(), has_room: true }
    }

    fn take(&mut self, now: u64, points: Vec<Point>) -> Vec<Refusal> {
        let step = Step(u32::try_from(now / 10).unwrap());
        let now = Duration::from_secs(now);
        let moment = Moment { now, step, has_room: self.has_room, texts: &self.texts };
        self.proxy.take(points, moment)
    }

    fn sums(&self, service: &str) -> Vec<(u32, u64, u64)> {
        let mut sums = Vec::new();
        for (labels, series) in self.proxy.series().filter(|(one, _)| &*one.service == service) {
            assert_eq!(labels.direction, Direction::Outbound);
            series.since(Step(0), |step, sample| {
                sums.push((step.0, sample.requests, sample.failures));
            });
        }
        sums
    }
}

#[test]
fn exports_add_up_to_what_was_counted() {
    let mut taker = Taker::new();
    let (good, bad) = (Outcome::Succeeded, Outcome::Failed);
    for (now, span, good_count, bad_count) in [
        (100, (95, 100), 3, 0),
        (110, (95, 110), 10, 1),
        // The same again, as after a lost answer.
        (112, (95, 110), 10, 1),
        (120, (95, 120), 10, 1),
        // The proxy was started again.
        (131, (125, 130), 2, 0),
        // Less, without a new start.
        (141, (125, 140), 1, 0),
    ] {
        let refused = taker.take(
            now,
            vec![
                point(1, "a", span, requests(good, good_count)),
                point(2, "a", span, requests(bad, bad_count)),
            ],
        );
        assert_eq!(refused, []);
    }
    assert_eq!(taker.sums("a"), [(10, 3, 0), (11, 8, 1), (13, 2, 0), (14, 1, 0)]);
}

#[test]
fn what_a_proxy_counted_before_it_came_here_is_not_counted_here() {
    let mut taker = Taker::new();
    let count = |span, count| vec![point(1, "a", span, requests(Outcome::Succeeded, count))];
    taker.take(1000, count((100, 1000), 500));
    taker.take(1010, count((100, 1010), 507));
    // It was somewhere else for five minutes.
    taker.take(1310, count((100, 1310), 900));
    taker.take(1320, count((100, 1320), 901));
    assert_eq!(taker.sums("a"), [(101, 7, 0), (132, 1, 0)]);
}

#[test]
fn open_connections_of_several_points_are_open_beside_one_another() {
    let mut taker = Taker::new();
    let open = |print, count| point(print, "a", (1, 100), Value::OpenConnections(count));
    taker.take(100, vec![open(1, 3), open(2, 4)]);
    let opened = |taker: &Taker| taker.proxy.series().next().unwrap().1.open_connections();
    assert_eq!(opened(&taker), 7);
    let later = |print, count| point(print, "a", (1, 105), Value::OpenConnections(count));
    taker.take(105, vec![later(1, 1), later(2, 0)]);
    assert_eq!(opened(&taker), 1);
}

#[test]
fn connections_and_bytes_share_a_series() {
    let mut taker = Taker::new();
    let all = |time, connections, sent, received| {
        vec![
            point(1, "a", (99, time), Value::Connections(connections)),
            point(2, "a", (99, time), Value::ToServer(sent)),
            point(3, "a", (99, time), Value::ToClient(received)),
        ]
    };
    taker.take(100, all(100, 1, 10, 20));
    taker.take(110, all(110, 2, 15, 27));
    assert_eq!(taker.proxy.series_count(), 1);
    let mut seen = Vec::new();
    taker.proxy.series().next().unwrap().1.since(Step(11), |_, sample| {
        seen.push((sample.connections, sample.to_server_bytes, sample.to_client_bytes));
    });
    assert_eq!(seen, [(1, 5, 7)]);
}

#[test]
fn more_than_a_proxy_has_is_refused_and_the_rest_counts_on() {
    let mut taker = Taker::new();
    let many = |time: u64| -> Vec<Point> {
        (0..=SERIES_LIMIT)
            .map(|index| {
                let mut fingerprint = [0; 16];
                fingerprint[..8].copy_from_slice(&index.to_le_bytes());
                let value = Value::Connections(time);
                Point { fingerprint, ..point(0, &format!("s{index}"), (95, time), value) }
            })
            .collect()
    };
    assert_eq!(taker.take(100, many(100)), [Refusal::TooManySeries]);
    assert_eq!(taker.take(110, many(110)), [Refusal::TooManySeries]);
    assert_eq!(taker.proxy.series_count(), SERIES_LIMIT);

    let mut taker = Taker::new();
    let points = (0..=POINTS_LIMIT).map(|index| {
        let mut fingerprint = [0; 16];
        fingerprint[..8].copy_from_slice(&index.to_le_bytes());
        Point { fingerprint, ..point(0, "a", (95, 100), Value::Connections(1)) }
    });
    assert_eq!(taker.take(100, points.collect()), [Refusal::TooManyPoints]);

    let mut taker = Taker::new();
    taker.take(100, vec![point(1, "a", (95, 100), Value::Connections(1))]);
    taker.has_room = false;
    let points = vec![
        point(1, "a", (95, 110), Value::Connections(3)),
        point(2, "a", (95, 110), Value::ToServer(9)),
        point(3, "b", (95, 110), Value::Connections(1)),
    ];
    assert_eq!(taker.take(110, points), [Refusal::MemoryFull]);
    assert_eq!(taker.proxy.series_count(), 1);
}

#[test]
fn points_and_series_that_are_not_told_of_go() {
    let mut taker = Taker::new();
    taker.take(100, vec![point(1, "a", (95, 100), requests(Outcome::Succeeded, 5))]);
    let bytes = taker.proxy.bytes();
    let forget = |taker: &mut Taker, step, now| {
        taker.proxy.forget_before(Step(step), Duration::from_secs(now));
    };
    forget(&mut taker, 10, 1000);
    assert!(!taker.proxy.is_empty() && taker.proxy.bytes() <= bytes);
    forget(&mut taker, 11, 1001);
    assert!(taker.proxy.is_empty() && taker.proxy.bytes() < bytes);
}
