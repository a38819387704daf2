//! Tests of when a step is taken.

use heddle_tls::digest;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn several(names: &[&str]) -> Several {
    let mut several = Several::default();
    names.iter().for_each(|name| several.add(|| (*name).to_owned()));
    several
}

fn report(bundle: &str, issuer: &str) -> Report {
    Report {
        bundle: digest::of(bundle.as_bytes()).to_string(),
        issuer: digest::of(issuer.as_bytes()).to_string(),
        connected: 20,
        unacknowledged: Several::default(),
        earlier_issuer: Several::default(),
    }
}

fn facts(reports: Vec<Option<Report>>) -> Facts {
    let replicas = reports.into_iter().enumerate();
    Facts {
        bundle: digest::of(b"new"),
        issuer: digest::of(b"issuer"),
        anchors_published: true,
        replicas: replicas
            .map(|(index, report)| Replica { name: format!("cp-{index}"), report })
            .collect(),
        leaf_lifetime: Duration::from_secs(30),
        now: at(1_000),
        calm_for: Duration::from_secs(60),
    }
}

fn rotation(step: Step) -> Rotation {
    let (longest_leaf, without) = (None, Vec::new());
    Rotation { kind: Kind::Root, step, started: 900, since: 950, longest_leaf, without }
}

#[test]
fn the_issuer_is_switched_once_every_proxy_has_the_new_anchor() {
    let good = || Some(report("new", "issuer"));
    let lacks =
        |names: &[&str]| Some(Report { unacknowledged: several(names), ..report("new", "issuer") });
    let settling = Facts { calm_for: Duration::from_secs(4), ..facts(vec![good()]) };
    let unpublished = Facts { anchors_published: false, ..facts(vec![good()]) };
    for (case, facts, expected) in [
        ("all have it", facts(vec![good(), good()]), None),
        (
            "one proxy of another replica lacks it",
            facts(vec![good(), lacks(&["shop/api"])]),
            Some("1 of 40 proxies to acknowledge the trust anchors: shop/api"),
        ),
        (
            "many lack it",
            facts(vec![lacks(&["a", "b", "c", "d"]), lacks(&["e", "f"])]),
            Some("6 of 40 proxies to acknowledge the trust anchors: a, b, c, d, e, ..."),
        ),
        (
            "a replica is silent",
            facts(vec![good(), None]),
            Some(
                "control plane cp-1 to tell what its proxies hold (it has told nothing for a minute, or \
                 its clock differs)",
            ),
        ),
        (
            "a replica hands out the old ones",
            facts(vec![good(), Some(report("old", "issuer"))]),
            Some("control plane cp-1 to hand out the trust anchors"),
        ),
        (
            "a proxy may be between two connections",
            settling,
            Some("11s in which every proxy has them"),
        ),
        (
            "a namespace lacks it",
            unpublished,
            Some("the trust anchors to be written to every namespace"),
        ),
    ] {
        check(case, &next(&rotation(Step::Announced), &facts), Move::Switch, expected);
    }
}

#[test]
fn certificates_run_out_once_every_control_plane_uses_the_new_issuer() {
    let good = || Some(report("new", "issuer"));
    for (case, facts, expected) in [
        ("all use it", facts(vec![good(), good()]), None),
        (
            "one does not",
            facts(vec![good(), Some(report("new", "before"))]),
            Some("control plane cp-1 to use the issuer"),
        ),
        (
            "one is silent",
            facts(vec![None]),
            Some(
                "control plane cp-0 to tell what its proxies hold (it has told nothing for a minute, or \
                 its clock differs)",
            ),
        ),
    ] {
        check(case, &next(&rotation(Step::Switched), &facts), Move::TurnOver, expected);
    }
}

#[test]
fn the_old_anchor_is_dropped_when_nothing_can_be_below_it_whatever_anybody_says() {
    let good = || Some(report("new", "issuer"));
    let holds_on =
        || Some(Report { earlier_issuer: several(&["shop/db"]), ..report("new", "issuer") });
    let lags = || Some(report("old", "before"));
    for (case, now, longest_leaf, report, expected) in [
        ("its time is over", 990, None, good(), None),
        ("just before", 989, None, good(), Some("1s until certificates of before have run out")),
        (
            "the clock was set back",
            10,
            None,
            good(),
            Some("16m20s until certificates of before have run out"),
        ),
        (
            "a proxy has not renewed",
            980,
            None,
            holds_on(),
            Some(
                "10s until certificates of before have run out; 1 of 20 proxies have not renewed theirs: \
                 shop/db",
            ),
        ),
        ("a proxy says that it holds on", 990, None, holds_on(), None),
        ("a control plane says so", 990, None, lags(), None),
        ("a control plane is silent", 990, None, self::silent(), None),
        (
            "certificates lived longer when they were signed",
            990,
            Some(60),
            good(),
            Some("30s until certificates of before have run out"),
        ),
        ("those have run out", 1_020, Some(60), good(), None),
        ("certificates lived shorter", 965, Some(5), good(), None),
    ] {
        let facts = Facts { now: at(now), ..facts(vec![report]) };
        let rotation = Rotation { longest_leaf, ..rotation(Step::TurningOver) };
        check(case, &next(&rotation, &facts), Move::End, expected);
    }
}

fn silent() -> Option<Report> {
    None
}

fn check(case: &str, found: &Move, done: Move, waiting: Option<&str>) {
    match (found, waiting) {
        (Move::Wait(found), Some(expected)) => {
            assert_eq!(found.to_string(), expected, "case: {case}");
        }
        (found, None) => assert_eq!(*found, done, "case: {case}"),
        (found, Some(_)) => panic!("case: {case}: {found:?}"),
    }
}

#[test]
fn what_is_kept_of_rotations_reads_as_it_was_written() {
    let left_out = LeftOut { pod_uid: "u-1".to_owned(), name: "shop/api".to_owned() };
    let current = Rotation {
        longest_leaf: Some(86_400),
        without: vec![left_out],
        ..rotation(Step::TurningOver)
    };
    assert!(current.leaves_out(&"u-1".parse().unwrap()));
    assert!(!current.leaves_out(&"u-2".parse().unwrap()));
    let rotations = Rotations {
        current: Some(current),
        last: Some(rotation(Step::TurningOver).ended(at(1_000))),
        longest_leaf: Some(60),
    };
    let text = serde_json::to_string(&rotations).unwrap();
    assert!(text.contains(r#""step":"turning-over""#), "{text}");
    assert_eq!(serde_json::from_str::<Rotations>(&text).unwrap(), rotations);
    assert_eq!(serde_json::from_str::<Rotations>("{}").unwrap(), Rotations::default());
    let earlier = r#"{"current":{"kind":"root","step":"turning-over","started":900,"since":950}}"#;
    let read = serde_json::from_str::<Rotations>(earlier).unwrap();
    assert_eq!(read.current, Some(rotation(Step::TurningOver)));
}
