//! What the worst reviews that are admitted cost in memory. One test, in a process of its own: what it reads
//! is the process's.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

use std::collections::BTreeMap;
use std::fs;

use heddle_injector::review::{self, Asked, Outcome};
use heddle_injector::settings::MeshSettings;
use heddle_injector::structure::{Measured, STRUCTURE_LIMIT};

/// What one review may take, in KiB; volumes take the most, 194 MiB. The chart gives the injector 512 MiB: one of these
/// at a time, light ones of two fifths of it together, and 150 MiB for connections, bodies and the process itself.
const WORST_KIB: usize = 224 << 10;

#[test]
fn the_worst_reviews_that_are_admitted_fit_into_the_memory_of_the_chart() {
    let half = STRUCTURE_LIMIT / 2 - 40;
    let repeated =
        |item: &str, count: usize| format!("[{}{item}]", format!("{item},").repeat(count - 1));
    let long = "x".repeat(3 << 20);
    let cases = [
        ("a long annotation", format!("\"spec\":{{\"containers\":[{{}}],\"x\":\"{long}\"}}"), true),
        ("numbers", spec("x", &repeated("1", 2 * half)), true),
        ("lists", spec("x", &repeated("[]", half)), true),
        ("objects", spec("x", &repeated("{\"\":0}", half)), true),
        (
            "variables",
            format!("\"spec\":{{\"containers\":[{{\"env\":{}}}]}}", repeated("{}", half)),
            true,
        ),
        (
            "ports",
            format!(
                "\"spec\":{{\"containers\":[{{\"ports\":{}}}]}}",
                repeated("{\"containerPort\":1}", half)
            ),
            true,
        ),
        ("containers", format!("\"spec\":{{\"containers\":{}}}", repeated("{}", half)), true),
        ("containers that run first", spec("initContainers", &repeated("{}", half)), true),
        ("volumes", spec("volumes", &repeated("{}", half)), true),
        (
            "states",
            format!(
                "{},\"status\":{{\"containerStatuses\":{}}}",
                spec("x", "1"),
                repeated("{}", half)
            ),
            true,
        ),
        ("more than is admitted", spec("x", &repeated("[]", STRUCTURE_LIMIT)), false),
    ];
    let before = kib("VmRSS");
    let mut told = String::new();
    for (case, rest, admitted) in cases {
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let structure = Measured::new(body(&rest).as_bytes()).structure();
        let outcome = answered(&body(&rest));
        let peak = kib("VmHWM").saturating_sub(before);
        told += &format!("{case}: {outcome:?}, structure {structure}, {} MiB\n", peak >> 10);
        assert_eq!(outcome != Outcome::Unreadable, admitted, "case: {case}: {outcome:?}");
        assert!(peak <= WORST_KIB, "case: {case}: too much:\n{told}");
    }
    eprintln!("{told}");
}

/// A pod with one container, and one field more.
fn spec(name: &str, value: &str) -> String {
    format!("\"spec\":{{\"containers\":[{{}}],\"{name}\":{value}}}")
}

fn body(rest: &str) -> String {
    format!(
        "{{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"request\":{{\"uid\":\"u\",\
         \"kind\":{{\"group\":\"\",\"version\":\"v1\",\"kind\":\"Pod\"}},\
         \"resource\":{{\"group\":\"\",\"version\":\"v1\",\"resource\":\"pods\"}},\
         \"namespace\":\"default\",\"operation\":\"CREATE\",\"userInfo\":{{}},\"object\":{{\
         \"metadata\":{{\"labels\":{{\"heddle.dev/inject\":\"enabled\"}}}},{rest}}}}}}}"
    )
}

fn answered(body: &str) -> Outcome {
    let text = "proxyImage: heddle/proxy:test\ncontrolPlane: a:15210\n";
    let mesh = MeshSettings::from_yaml(text).unwrap();
    let answered = match review::read(Measured::new(body.as_bytes())) {
        Ok(Asked::Pod(pod)) => pod.answer(&BTreeMap::new(), &mesh),
        Ok(Asked::Other(_)) => panic!("not asked about a pod"),
        Err(unanswerable) => review::refuse(&unanswerable).unwrap(),
    };
    let outcome = answered.outcome;
    review::write(answered).unwrap();
    outcome
}

/// A line of this process's status.
fn kib(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
