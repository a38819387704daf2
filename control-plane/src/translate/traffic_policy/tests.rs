//! What policies are read as, and what is said of those that mean nothing.

use std::time::Duration;

use heddle_proto::discovery as wire;

use super::*;
use crate::translate::test_objects::read;

fn check(rest: &str) -> Result<TrafficPolicy, String> {
    let text = format!(
        "apiVersion: heddle.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: p}}\nspec: {{targetRefs: \
         [{{kind: Service, name: api}}]{rest}}}\n"
    );
    let (reference, policy) = read::<Custom<TrafficPolicySpec>>(&text);
    translate(&policy, &reference).map_err(|rejected| rejected.to_string())
}

#[test]
fn an_empty_policy_is_the_default() {
    let policy = check("").unwrap();
    assert_eq!(policy.backend, BackendPolicy::default());
    assert_eq!((policy.preference, policy.rate_limits.len(), policy.fault), (None, 0, None));
    let empty = ", loadBalancing: {}, locality: {}, outlierDetection: {}, circuitBreaker: {}, retryBudget: {}, \
                 keepAlive: {}, rateLimit: []";
    assert_eq!(check(empty).unwrap().backend, BackendPolicy::default());
}

#[test]
fn every_field_is_read() {
    let policy = check(
        ", loadBalancing: {type: ConsistentHash, consistentHash: {header: x-user}}, sessionPersistence: \
         {sessionName: s}, locality: {preference: SameNode, minimumHealthyPercent: 50}, slowStart: {window: \
         30s}, outlierDetection: {consecutiveResponses: 7, consecutiveConnectionFailures: 0, \
         baseEjectionTime: 5s, maxEjectionTime: 1m, maxEjectionPercent: 30}, circuitBreaker: {maxConnections: \
         1, maxRequests: 2, maxPendingRequests: 0, pendingTimeout: 0s}, retryBudget: {percent: 10, \
         minRetriesPerSecond: 0, interval: 5s}, rateLimit: [{requests: 10}, {requests: 5, interval: 1m, \
         burst: 6, port: 80, scope: Caller}], keepAlive: {idleTimeout: 9s, time: 8s, interval: 7s, probes: \
         6}, faultInjection: {delay: {duration: 2s, percent: 10}, abort: {httpStatus: 500, grpcStatus: 13, \
         percent: 1}}",
    )
    .unwrap();
    insta::assert_debug_snapshot!(policy);
}

/// What is accepted here and refused by proxies would stop every update of the service.
#[test]
fn the_extremes_of_every_field_are_read_by_proxies_as_they_were_meant() {
    let least = "slowStart: {window: 1ms}, locality: {minimumHealthyPercent: 0}, outlierDetection: \
                 {consecutiveResponses: 0, consecutiveConnectionFailures: 0, baseEjectionTime: 1ms, \
                 maxEjectionTime: 1ms, maxEjectionPercent: 0}, circuitBreaker: {maxConnections: 1, maxRequests: 1, \
                 maxPendingRequests: 0, pendingTimeout: 0s}, retryBudget: {percent: 0, minRetriesPerSecond: 0, \
                 interval: 1ms}, keepAlive: {idleTimeout: 1ms, time: 1s, interval: 1s, probes: 1}, rateLimit: \
                 [{requests: 1, interval: 1ms, burst: 1, port: 1}], faultInjection: {delay: {duration: 1ms, \
                 percent: 0}, abort: {httpStatus: 400, grpcStatus: 1, percent: 0}}, loadBalancing: {decay: 1ms}, \
                 sessionPersistence: {idleTimeout: 1ms, absoluteTimeout: 1ms}";
    let most = "slowStart: {window: 8784h}, locality: {minimumHealthyPercent: 100}, outlierDetection: \
                {consecutiveResponses: 1000000000, consecutiveConnectionFailures: 1000000000, baseEjectionTime: \
                8784h, maxEjectionTime: 8784h, maxEjectionPercent: 100}, circuitBreaker: {maxConnections: \
                1000000000, maxRequests: 1000000000, maxPendingRequests: 1000000000, pendingTimeout: 8784h}, \
                retryBudget: {percent: 100, minRetriesPerSecond: 1000000000, interval: 8784h}, keepAlive: \
                {idleTimeout: 8784h, time: 32767s, interval: 32767s, probes: 127}, rateLimit: [{requests: \
                1000000000, interval: 8784h, burst: 1000000000, port: 65535, scope: Caller}], faultInjection: \
                {delay: {duration: 8784h, percent: 100}, abort: {httpStatus: 599, grpcStatus: 16, percent: 100}}, \
                loadBalancing: {decay: 8784h}, sessionPersistence: {idleTimeout: 8784h, absoluteTimeout: 8784h}";
    for (case, text) in [("least", least), ("most", most)] {
        let policy = check(&format!(", {text}")).unwrap();
        let backend = BackendPolicy::try_from(wire::BackendPolicy::from(&policy.backend));
        assert_eq!(backend.as_ref(), Ok(&policy.backend), "case: {case}");
        let limit = policy.rate_limits[0].limit;
        assert_eq!(RateLimit::try_from(wire::RateLimit::from(&limit)), Ok(limit), "case: {case}");
        let fault = policy.fault.unwrap();
        assert_eq!(Fault::try_from(wire::Fault::from(&fault)), Ok(fault), "case: {case}");
    }
}

#[test]
fn every_way_to_balance_is_read() {
    for (text, expected) in [
        ("{type: PeakEWMA}", Balance::PeakEwma { decay: PEAK_EWMA_DECAY }),
        ("{decay: 5s}", Balance::PeakEwma { decay: Duration::from_secs(5) }),
        ("{type: RoundRobin}", Balance::RoundRobin),
        ("{type: Random}", Balance::Random),
        (
            "{type: ConsistentHash, consistentHash: {cookie: c}}",
            Balance::ConsistentHash(HashKey::Cookie("c".into())),
        ),
        (
            "{type: ConsistentHash, consistentHash: {source: true}}",
            Balance::ConsistentHash(HashKey::Source),
        ),
    ] {
        let policy = check(&format!(", loadBalancing: {text}")).unwrap();
        assert_eq!(policy.backend.balance, expected, "case: {text}");
    }
}

#[test]
fn a_policy_that_means_nothing_is_refused_with_the_field() {
    let rows = [
        ", loadBalancing: {type: Random, decay: 5s}",
        ", loadBalancing: {type: ConsistentHash}",
        ", loadBalancing: {type: ConsistentHash, consistentHash: {header: a, cookie: b}}",
        ", loadBalancing: {type: RoundRobin, consistentHash: {source: true}}",
        ", sessionPersistence: {idleTimeout: soon}",
        ", locality: {minimumHealthyPercent: 101}",
        ", slowStart: {window: 0s}",
        ", outlierDetection: {consecutiveResponses: -1}",
        ", outlierDetection: {baseEjectionTime: 1m, maxEjectionTime: 1s}",
        ", outlierDetection: {maxEjectionPercent: 200}",
        ", circuitBreaker: {maxConnections: 0}",
        ", circuitBreaker: {pendingTimeout: soon}",
        ", retryBudget: {percent: 101}",
        ", rateLimit: [{requests: 0}]",
        ", rateLimit: [{requests: 1, interval: 0s}]",
        ", rateLimit: [{requests: 1, port: 70000}]",
        ", keepAlive: {time: 1ms}",
        ", keepAlive: {probes: 0}",
        ", faultInjection: {delay: {duration: soon}}",
        ", faultInjection: {abort: {httpStatus: 200}}",
        ", faultInjection: {abort: {percent: -1}}",
    ];
    let shown: Vec<String> = rows.iter().map(|row| check(row).unwrap_err()).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_is_hashed_has_a_name_that_a_header_or_a_cookie_can_have() {
    for (part, name, fits) in [
        ("header", "x-user", true),
        ("header", "x user", false),
        ("header", "x:user", false),
        ("header", "", false),
        ("cookie", "user_1", true),
        ("cookie", "a=b", false),
        ("cookie", "a;b", false),
        ("cookie", "", false),
    ] {
        let hash = format!("{{type: ConsistentHash, consistentHash: {{{part}: '{name}'}}}}");
        let found = check(&format!(", loadBalancing: {hash}"));
        match found {
            Ok(_) => assert!(fits, "case: {part} {name:?}"),
            Err(error) => {
                assert!(!fits, "case: {part} {name:?}: {error}");
                let field = format!("spec.loadBalancing.consistentHash.{part}: ");
                assert!(error.starts_with(&field), "case: {part} {name:?}: {error}");
            }
        }
    }
}

#[test]
fn targets_are_services_each_once() {
    let with = |targets: &str| {
        let text = format!(
            "apiVersion: heddle.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: p}}\nspec: {{targetRefs: \
             [{targets}]}}\n"
        );
        let (reference, policy) = read::<Custom<TrafficPolicySpec>>(&text);
        translate(&policy, &reference).map_err(|rejected| rejected.field)
    };
    let service = "{kind: Service, name: a}";
    assert_eq!(with("").unwrap_err(), "spec.targetRefs");
    assert_eq!(with("{kind: Pod, name: a}").unwrap_err(), "spec.targetRefs[0].kind");
    assert_eq!(with(&format!("{service}, {service}")).unwrap_err(), "spec.targetRefs[1]");
    let policy =
        with("{group: '', kind: Service, name: a, sectionName: http}, {kind: Service, name: b}");
    assert_eq!(policy.unwrap().targets.len(), 2);
}

#[test]
fn a_field_that_is_not_known_is_told_with_its_place() {
    let text = "apiVersion: heddle.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p}\nspec: {targetRefs: [], \
                circuitBreaker: {maxConnection: 1}}\n";
    let content = crate::source::document::read_file("p.yaml", text);
    assert_eq!(content.failures[0].field, "spec.circuitBreaker.maxConnection");
}
