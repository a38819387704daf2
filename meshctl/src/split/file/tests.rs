//! Edits of files as people write them.

use super::*;

fn change(kind: &str, place: Place, weights: &[(&str, u32)]) -> Change {
    Change {
        kind: kind.to_owned(),
        namespace: "default".to_owned(),
        name: "api".to_owned(),
        file: "api.yaml".to_owned(),
        place,
        weights: weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect(),
    }
}

const SPLIT: &str = "\
# Which share goes where.
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata:
  name: other
spec: {service: api, backends: [{service: v1, weight: 1}, {service: v2, weight: 1}]}
---
# ünïcode before it
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: api}   # mine
spec:
  service: api
  backends:
    - service: v1   # the old one
      weight: 100   # of a hundred
    - {service: v2, weight: '0'} # new
---
kind: Service
";

#[test]
fn only_the_weights_change() {
    let wanted = change("TrafficSplit", Place::Split, &[("v1", 90), ("v2", 10)]);
    let after = with_weights(SPLIT, &wanted).unwrap();
    let changed: Vec<(&str, &str)> =
        SPLIT.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    assert_eq!(
        changed,
        [
            ("      weight: 100   # of a hundred", "      weight: 90   # of a hundred"),
            ("    - {service: v2, weight: '0'} # new", "    - {service: v2, weight: 10} # new"),
        ]
    );
    let back = change("TrafficSplit", Place::Split, &[("v1", 100), ("v2", 0)]);
    assert_eq!(with_weights(&after, &back).unwrap(), SPLIT.replace("'0'", "0"));
}

#[test]
fn a_rule_of_a_route_changes_and_no_other() {
    let route = "\
kind: HTTPRoute
metadata: {name: api, namespace: default}
spec:
  rules:
    - backendRefs: [{name: v1, weight: 1}, {name: v2, weight: 1}]
    - backendRefs:
        - name: v1
          port: 80
          weight: 1
        - name: v2
          weight: 1
";
    let wanted = change("HTTPRoute", Place::Rule(1), &[("v1", 3), ("v2", 0)]);
    let after = with_weights(route, &wanted).unwrap();
    assert!(after.contains("[{name: v1, weight: 1}, {name: v2, weight: 1}]"), "{after}");
    assert!(
        after.ends_with("          weight: 3\n        - name: v2\n          weight: 0\n"),
        "{after}"
    );
}

#[test]
fn what_cannot_be_edited_safely_is_refused_with_the_reason() {
    let split = |backends: &str| {
        format!("kind: TrafficSplit\nmetadata: {{name: api}}\nspec:\n  backends: {backends}\n")
    };
    let twice =
        format!("{0}---\n{0}", split("[{service: v1, weight: 1}, {service: v2, weight: 2}]"));
    for (case, text, expected) in [
        ("not there", "kind: Service\n".to_owned(), "not there"),
        ("there twice", twice, "there twice"),
        (
            "no weight",
            split("[{service: v1, weight: 1}, {service: v2}]"),
            "no weight is written for v2",
        ),
        (
            "an alias",
            split("[{service: v1, weight: &a 1}, {service: v2, weight: *a}]"),
            "v2 is an alias",
        ),
        ("other backends", split("[{service: v1, weight: 1}]"), "it has the backends v1"),
        (
            "an anchor that others use",
            split("[{service: v1, weight: &a 1}, {service: v2, weight: 2}]\n  other: *a"),
            "",
        ),
        (
            "a list of objects",
            "kind: List\nitems: [{kind: TrafficSplit, metadata: {name: api}, spec: {}}]\n"
                .to_owned(),
            "not there",
        ),
    ] {
        let wanted = change("TrafficSplit", Place::Split, &[("v1", 5), ("v2", 5)]);
        let why = with_weights(&text, &wanted).unwrap_err();
        assert!(why.contains(expected), "case: {case}: {why}");
    }
}
