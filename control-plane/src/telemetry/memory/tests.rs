//! Tests of the bound, with a thousand workloads.

use super::*;
use crate::telemetry::labels::{Direction, Labels, Transport};
use crate::telemetry::latency::Latency;
use crate::telemetry::outcome::Outcome;
use crate::telemetry::point::Value;
use crate::telemetry::proxy::Workload;
use crate::telemetry::query::{self, Grouping, Query};

fn origin(index: usize) -> Origin {
    Origin {
        pod_uid: format!("{index:08}-0000-0000-0000-000000000000").parse().unwrap(),
        identity: format!("spiffe://cluster.local/ns/shop/sa/api-{index}").parse().unwrap(),
        workload: Workload {
            kind: "Deployment".to_owned(),
            namespace: "shop".to_owned(),
            name: format!("api-{index}"),
        },
        pod: format!("api-{index}-6b4f8d9c7-x2x4z"),
    }
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + second)
}

/// What one workload counted after this many exports: two points for each of its series, one of failures, the times
/// spread over two dozen buckets.
fn points(workload: usize, series: usize, exports: u64) -> Vec<Point> {
    let point = |index: usize, outcome: Outcome| {
        let each = match outcome {
            Outcome::Succeeded => 4,
            Outcome::Failed => 1,
        };
        let buckets = (-64..-40).map(|bucket| (bucket, exports * each)).collect();
        let mut fingerprint = [0; 16];
        fingerprint[0] = u8::try_from(index).unwrap();
        fingerprint[1] = each.try_into().unwrap();
        let other = (workload + index) % 1000;
        Point {
            fingerprint,
            labels: Labels {
                direction: if index.is_multiple_of(2) {
                    Direction::Inbound
                } else {
                    Direction::Outbound
                },
                service: format!("shop/api-{other}:80").into(),
                backend: format!("shop/api-{other}-v2:80").into(),
                route: format!("route-{other}").into(),
                peer: format!("spiffe://cluster.local/ns/shop/sa/api-{other}").into(),
                transport: Transport::Mtls,
            },
            start_nanos: 1,
            time_nanos: 1 + exports * 10_000_000_000,
            value: Value::Requests(outcome, Latency::new(3, 0, buckets).unwrap()),
        }
    };
    let both = |index| [point(index, Outcome::Succeeded), point(index, Outcome::Failed)];
    (0..series).flat_map(both).collect()
}

fn fill(memory: &Memory, workloads: usize, series: usize, exports: std::ops::Range<u64>) {
    for export in exports {
        for workload in 0..workloads {
            // Not all at the same moment.
            let now = at(export * 10 + u64::try_from(workload % 10).unwrap());
            let refused = memory.take(origin(workload), points(workload, series, export + 1), now);
            assert_eq!(refused, []);
        }
    }
}

/// The figures are in docs/stat.md. An hour of a thousand workloads is too long for every test run: it has ten pieces of
/// memory for each series, of which two are made here, and the others take what the first one takes once it is full.
#[tokio::test]
async fn a_thousand_workloads_with_ten_busy_series_each_fit_into_the_memory() {
    let memory = Memory::new(at(0), LIMIT_BYTES, Metrics::default());
    let piece = u64::from(CHUNK_STEPS);
    fill(&memory, 1000, 10, 0..piece + 1);
    let with_one = memory.used_bytes();
    fill(&memory, 1000, 10, piece + 1..2 * piece + 1);
    let of_a_piece = memory.used_bytes() - with_one;
    let an_hour = with_one + of_a_piece * 9;
    eprintln!(
        "1,000 workloads of 10 series: {} KiB for each step; {} MiB for an hour",
        (of_a_piece / 36) >> 10,
        an_hour >> 20,
    );
    assert!(an_hour < LIMIT_BYTES, "{an_hour} bytes");
    assert_eq!(memory.0.metrics.telemetry_shortened.get(), 0);
    let query = Query { steps: 36, grouping: Grouping::Workload, namespace: None, history: None };
    let began = tokio::time::Instant::now();
    let counted = query::count(&memory, &query, at(729)).await;
    eprintln!("{} groups are counted in {:?}", counted.groups.len(), began.elapsed());
    let requests: u64 = counted.groups.values().map(|totals| totals.requests).sum();
    // Five of ten series are inbound, each with 24 buckets of 4 good requests and one bad.
    assert_eq!(requests, 1000 * 5 * 24 * 5 * 37);
    assert_eq!(memory.0.metrics.telemetry_shortened.get(), 0);
}

#[test]
fn what_is_told_is_about_what_is_used() {
    let memory = Memory::new(at(0), LIMIT_BYTES, Metrics::default());
    fill(&memory, 10, 10, 0..2);
    let counted: usize = memory.proxies().iter().map(|proxy| lock(proxy).bytes()).sum();
    assert_eq!(memory.used_bytes(), counted);
    memory.forget(at(30));
    assert_eq!(memory.0.metrics.telemetry_series.get(), 100);
    assert!(memory.used_bytes() <= counted);
}

#[test]
fn a_full_memory_reaches_back_less_and_holds_its_bound() {
    let limit_bytes = 1 << 20;
    let memory = Memory::new(at(0), limit_bytes, Metrics::default());
    fill(&memory, 20, 10, 0..400);
    assert!(memory.used_bytes() <= limit_bytes, "{} bytes", memory.used_bytes());
    assert!(memory.0.metrics.telemetry_shortened.get() > 0);
    let newest = Step::at(at(3999));
    assert!(memory.floor() > newest.before(STEPS), "{:?}", memory.floor());
    // What is newest is there all the same.
    let proxies = memory.proxies();
    assert_eq!(proxies.len(), 20);
    for proxy in proxies {
        let mut newest_requests = 0;
        for (_, series) in lock(&proxy).series() {
            series.since(newest, |_, sample| newest_requests += sample.requests);
        }
        assert_eq!(newest_requests, 10 * 24 * 5);
    }
}

#[test]
fn a_memory_without_room_refuses_new_series_and_says_so() {
    let memory = Memory::new(at(0), 1000, Metrics::default());
    fill(&memory, 1, 1, 0..1);
    let refused = memory.take(origin(1), points(1, 1, 1), at(1));
    assert_eq!(refused, [Refusal::MemoryFull; 2]);
}

#[test]
fn after_an_hour_of_silence_nothing_is_left() {
    let memory = Memory::new(at(0), LIMIT_BYTES, Metrics::default());
    fill(&memory, 3, 2, 0..3);
    memory.forget(at(3500));
    assert_eq!(memory.proxies().len(), 3);
    memory.forget(at(3700));
    assert_eq!((memory.proxies().len(), memory.used_bytes()), (0, 0));
    assert_eq!(memory.0.texts.bytes(), Texts::default().bytes());
}
