//! Tests of what is told by time.

use std::time::UNIX_EPOCH;

use super::*;
use crate::metrics::Metrics;
use crate::telemetry::labels::{Direction, Labels, Transport};
use crate::telemetry::latency::Latency;
use crate::telemetry::outcome::Outcome;
use crate::telemetry::point::{Point, Value};
use crate::telemetry::proxy::{Origin, Workload};

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn request(window_seconds: u32, step_seconds: u32, name: &str) -> wire::TimelineRequest {
    let group_by = wire::Grouping::Backend.into();
    wire::TimelineRequest { window_seconds, step_seconds, group_by, name: name.to_owned() }
}

/// A frontend that asks two versions of an api, and something else.
fn tell(memory: &Memory, second: u64, told: &[(&str, &str, Outcome, u64)]) {
    let origin = Origin {
        pod_uid: "frontend-1".parse().unwrap(),
        identity: "spiffe://cluster.local/ns/shop/sa/frontend".parse().unwrap(),
        workload: Workload {
            kind: "Deployment".to_owned(),
            namespace: "shop".to_owned(),
            name: "frontend".to_owned(),
        },
        pod: "frontend-1".to_owned(),
    };
    let point = |(service, backend, outcome, count): &(&str, &str, Outcome, u64)| {
        let mut fingerprint = [0; 16];
        for (index, byte) in format!("{service}{backend}{outcome:?}").bytes().enumerate() {
            fingerprint[index % 16] = byte.wrapping_mul(31).wrapping_add(fingerprint[index % 16]);
        }
        let labels = Labels {
            direction: Direction::Outbound,
            service: (*service).into(),
            backend: (*backend).into(),
            route: "".into(),
            peer: "".into(),
            transport: Transport::Mtls,
        };
        let latency = Latency::new(3, 0, vec![(-40, *count)]).unwrap();
        Point {
            fingerprint,
            labels,
            // Begun anew each time, so that each counts for itself.
            start_nanos: (second - 5) * 1_000_000_000,
            time_nanos: second * 1_000_000_000,
            value: Value::Requests(*outcome, latency),
        }
    };
    let points = told.iter().map(point).collect();
    assert_eq!(memory.take(origin, points, at(second)), []);
}

fn shop() -> Memory {
    let memory = Memory::new(at(960), 1 << 20, Metrics::default());
    let (v1, v2) = ("back/v1:80", "back/v2:80");
    let (yes, no) = (Outcome::Succeeded, Outcome::Failed);
    tell(&memory, 1003, &[("back/api:80", v1, yes, 10), ("back/other:80", v1, yes, 99)]);
    tell(&memory, 1013, &[("back/api:80", v1, yes, 8), ("back/api:80", v2, no, 2)]);
    tell(&memory, 1033, &[("back/api:80", v2, yes, 7)]);
    tell(&memory, 1041, &[("back/api:80", v2, yes, 50)]);
    memory
}

fn lines(answer: wire::TimelineResponse) -> Vec<String> {
    let line = |point: wire::TimelinePoint| {
        let groups: Vec<String> = point
            .groups
            .into_iter()
            .map(|group| {
                let requests = group.requests.unwrap();
                let backend = group.key.unwrap().backend;
                format!(" {backend} {}-{}", requests.count, requests.failures)
            })
            .collect();
        format!("{}{}", point.began_seconds, groups.concat())
    };
    answer.points.into_iter().map(line).collect()
}

#[tokio::test]
async fn each_step_tells_what_happened_in_it_and_the_one_that_has_begun_is_left_out() {
    let memory = shop();
    for (case, window, step, expected) in [
        (
            "steps of the memory",
            50,
            10,
            vec![
                "990",
                "1000 back/v1:80 10-0",
                "1010 back/v1:80 8-0 back/v2:80 2-2",
                "1020",
                "1030 back/v2:80 7-0",
            ],
        ),
        (
            "longer ones begin at their multiples",
            60,
            20,
            vec!["980", "1000 back/v1:80 18-0 back/v2:80 2-2", "1020 back/v2:80 7-0"],
        ),
        ("none before the memory begins", 3600, 60, vec!["960 back/v1:80 18-0 back/v2:80 2-2"]),
    ] {
        let question = Question::read(&request(window, step, "back/api:80")).unwrap();
        let now = if step == 60 { 1025 } else { 1045 };
        let mut found = lines(count(&memory, &question, at(now)).await.into_wire());
        if step == 60 {
            // The minute that has begun at 960 ends at 1020.
            found.retain(|line| line.starts_with("960"));
        }
        assert_eq!(found, expected, "case: {case}");
    }
    let question = Question::read(&request(60, 10, "back/nobody:80")).unwrap();
    let found = lines(count(&memory, &question, at(1045)).await.into_wire());
    assert!(found.iter().all(|line| !line.contains(' ')), "{found:?}");
}

#[tokio::test]
async fn what_another_replica_counted_is_added_to_its_step() {
    let memory = shop();
    let question = Question::read(&request(50, 10, "back/api:80")).unwrap();
    let mut timeline = count(&memory, &question, at(1045)).await;
    timeline.add(count(&memory, &question, at(1045)).await.into_wire());
    let found = lines(timeline.clone().into_wire());
    assert_eq!(found[1..3], ["1000 back/v1:80 20-0", "1010 back/v1:80 16-0 back/v2:80 4-4"]);
    let elsewhere = wire::TimelinePoint { began_seconds: u64::MAX, groups: Vec::new() };
    let before = timeline.clone();
    timeline.add(wire::TimelineResponse { points: vec![elsewhere], ..Default::default() });
    assert_eq!(timeline, before, "a step that is none is left out");
}

#[test]
fn a_question_without_a_name_or_with_a_step_that_is_none_is_refused() {
    for (case, request, expected) in [
        ("no name", request(60, 10, ""), "names nothing"),
        ("no step", request(60, 0, "a/b:1"), "is no step"),
        ("half a step", request(60, 15, "a/b:1"), "is no step"),
        ("a step longer than the window", request(60, 70, "a/b:1"), "is no step"),
        ("a window too long", request(3601, 10, "a/b:1"), "want 10 to 3600"),
        (
            "edges",
            wire::TimelineRequest {
                group_by: wire::Grouping::Edge.into(),
                ..request(60, 10, "a/b:1")
            },
            "edges are not told",
        ),
    ] {
        let error = Question::read(&request).unwrap_err();
        assert!(error.contains(expected), "case: {case}: {error}");
    }
}
