//! Whatever the API server, or somebody in its place, sends: an answer, never a panic, and never a patch that
//! does something else than giving one pod one proxy.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an answer that cannot be read fails its test"
)]

mod corpus;

use std::collections::BTreeMap;

use heddle_injector::review::{self, Asked};
use heddle_injector::settings::MeshSettings;
use heddle_injector::structure::Measured;
use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::AdmissionResponse;
use proptest::prelude::*;
use serde_json::Value;

use crate::corpus::Expected;

fn mesh() -> MeshSettings {
    let text = "proxyImage: heddle/proxy:test\ncontrolPlane: heddle-control-plane.heddle-system.svc:15210\n";
    MeshSettings::from_yaml(text).unwrap()
}

/// As the server answers; `None`: with a status.
fn answer(body: &[u8]) -> Option<AdmissionResponse> {
    let answered = match review::read(Measured::new(body)) {
        Ok(Asked::Pod(pod)) => pod.answer(&BTreeMap::new(), &mesh()),
        Ok(Asked::Other(response)) => return Some(*response),
        Err(unanswerable) => review::refuse(&unanswerable)?,
    };
    let response = answered.response.clone();
    let written: Value = serde_json::from_slice(&review::write(answered).unwrap()).unwrap();
    assert_eq!(written["kind"], "AdmissionReview");
    assert_eq!(written["response"]["uid"], response.uid);
    assert_eq!(written["response"]["patch"].is_string(), response.patch.is_some());
    Some(response)
}

fn judged(response: Option<&AdmissionResponse>) -> Expected {
    match response {
        None => Expected::Unanswered,
        Some(response) if !response.allowed => Expected::Refused,
        Some(response) if response.patch.is_some() => Expected::Injected,
        Some(_) => Expected::Left,
    }
}

/// What must hold for any answer.
fn check(case: &str, body: &[u8], response: &AdmissionResponse) {
    if !response.allowed {
        assert!(response.result.message.len() > 10, "case: {case}: no sentence");
        assert!(response.result.message.len() < 20_000, "case: {case}: no sentence, but a book");
        assert!(response.patch.is_none(), "case: {case}");
        return;
    }
    let Some(patch) = &response.patch else { return };
    let patch: json_patch::Patch = serde_json::from_slice(patch).unwrap();
    let review: Value = serde_json::from_slice(body).unwrap();
    let before = review["request"]["object"].clone();
    let mut after = before.clone();
    json_patch::patch(&mut after, &patch).unwrap();
    let read = |object: &Value| serde_json::from_value::<Pod>(object.clone()).unwrap();
    let (pod_before, pod_after) = (read(&before).spec.unwrap(), read(&after).spec.unwrap());
    assert_eq!(pod_before.containers, pod_after.containers, "case: {case}");
    let init = |spec: &k8s_openapi::api::core::v1::PodSpec| -> Vec<_> {
        let containers = spec.init_containers.clone().unwrap_or_default();
        containers.into_iter().filter(|it| !it.name.starts_with("heddle-")).collect()
    };
    assert_eq!(init(&pod_before), init(&pod_after), "case: {case}");
    for name in ["heddle-redirect", "heddle-proxy"] {
        let containers = pod_after.init_containers.iter().flatten();
        assert_eq!(containers.filter(|it| it.name == name).count(), 1, "case: {case}: {name}");
    }
    for name in ["heddle-token", "heddle-trust"] {
        let volumes = pod_after.volumes.iter().flatten();
        assert_eq!(volumes.filter(|it| it.name == name).count(), 1, "case: {case}: {name}");
    }
    // What is not known of the pod is still there.
    assert_eq!(before["spec"]["fieldOfTomorrow"], after["spec"]["fieldOfTomorrow"], "case: {case}");
    let mut again = review;
    again["request"]["object"] = after;
    let second = answer(&serde_json::to_vec(&again).unwrap()).unwrap();
    assert!(second.allowed && second.patch.is_none(), "case: {case}: a second time changes it");
}

#[test]
fn five_hundred_broken_reviews_get_an_answer_and_no_wrong_patch() {
    let cases = corpus::cases();
    assert!(cases.len() >= 500, "there are only {}", cases.len());
    let mut wrong = Vec::new();
    for corpus::Case { name, body, expected } in cases {
        let response = answer(&body);
        if let Some(response) = &response {
            check(&name, &body, response);
        }
        let found = judged(response.as_ref());
        if expected.is_some_and(|expected| expected != found) {
            let message = response.map(|response| response.result.message);
            wrong.push(format!("{name}: want {expected:?}, got {found:?}: {message:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn bytes_of(shape: usize) -> Vec<u8> {
    let (_, pod) = corpus::shapes().swap_remove(shape);
    serde_json::to_vec(&corpus::review(pod)).unwrap()
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = answer(&bytes);
    }

    #[test]
    fn a_review_with_bytes_changed_gets_an_answer_and_no_wrong_patch(
        shape in 0_usize..5,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut body = bytes_of(shape);
        for (index, byte) in changes {
            let place = index.index(body.len());
            body[place] = byte;
        }
        if let Some(response) = answer(&body) {
            check("changed bytes", &body, &response);
        }
    }
}
