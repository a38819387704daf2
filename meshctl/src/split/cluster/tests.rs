//! What is sent to the API server, and what is made of its answers.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::split::plan::Place;

/// What it was asked to change: the query, and the patch.
type Patches = Arc<Mutex<Vec<(String, Value)>>>;

/// An API server with one split of this metadata, that answers changes with this status.
fn server(metadata: Value, answer: StatusCode) -> (Cluster, Patches) {
    let patches = Patches::default();
    let seen = Arc::clone(&patches);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (metadata, seen) = (metadata.clone(), Arc::clone(&seen));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let split = json!({
                "apiVersion": "split.smi-spec.io/v1alpha2", "kind": "TrafficSplit", "metadata": metadata,
                "spec": {"service": "api", "backends": [
                    {"service": "api-v1", "weight": 100}, {"service": "api-v2", "weight": 0},
                ]},
            });
            let version =
                json!({"groupVersion": "split.smi-spec.io/v1alpha2", "version": "v1alpha2"});
            let (status, said) = match (&head.method, head.uri.path()) {
                (&Method::GET, "/apis") => (
                    StatusCode::OK,
                    json!({"groups": [{"name": "split.smi-spec.io", "versions": [version]}]}),
                ),
                (&Method::GET, "/apis/split.smi-spec.io/v1alpha2") => (
                    StatusCode::OK,
                    json!({"groupVersion": "split.smi-spec.io/v1alpha2", "resources": [
                        {"name": "trafficsplits", "singularName": "", "kind": "TrafficSplit",
                         "namespaced": true, "verbs": []},
                    ]}),
                ),
                (&Method::PATCH, _) => {
                    assert_eq!(head.headers["content-type"], "application/merge-patch+json");
                    let query = head.uri.query().unwrap_or_default().to_owned();
                    let patch = serde_json::from_slice(&body).unwrap();
                    seen.lock().unwrap().push((query, patch));
                    let failure = json!({"kind": "Status", "status": "Failure", "code": answer.as_u16(),
                                         "reason": "x", "message": "the object has been modified"});
                    (answer, if answer.is_success() { split } else { failure })
                }
                (_, "/apis/split.smi-spec.io/v1alpha2/namespaces/shop/trafficsplits/api") => {
                    (StatusCode::OK, split)
                }
                (method, path) => panic!("{method} {path}"),
            };
            let said = Full::new(Bytes::from(said.to_string()));
            anyhow::Ok(Response::builder().status(status).body(said)?)
        }
    });
    let cluster = Cluster {
        client: Client::new(service, "shop"),
        default_namespace: "shop".to_owned(),
        mesh_namespace: "heddle-system".to_owned(),
        address: "https://there".to_owned(),
    };
    (cluster, patches)
}

fn change() -> Change {
    Change {
        kind: "TrafficSplit".to_owned(),
        namespace: "shop".to_owned(),
        name: "api".to_owned(),
        file: String::new(),
        place: Place::Split,
        weights: vec![("api-v1".to_owned(), 90), ("api-v2".to_owned(), 10)],
    }
}

fn of_nobody() -> Value {
    json!({"name": "api", "namespace": "shop", "resourceVersion": "41"})
}

fn of_a_canary() -> Value {
    let mut metadata = of_nobody();
    metadata["ownerReferences"] = json!([
        {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "api", "uid": "u", "controller": true},
    ]);
    metadata
}

#[tokio::test]
async fn weights_are_patched_with_the_version_that_was_read() {
    for (case, dry_run, expected) in
        [("for good", None, false), ("to try", Some(DryRun::Server), true)]
    {
        let (cluster, patches) = server(of_nobody(), StatusCode::OK);
        set(&cluster, &change(), dry_run, false).await.unwrap();
        let patches = patches.lock().unwrap();
        let [(query, patch)] = patches.as_slice() else { panic!("case: {case}: {patches:?}") };
        assert_eq!(query.contains("dryRun=All"), expected, "case: {case}: {query}");
        assert_eq!(
            *patch,
            json!({
                "metadata": {"resourceVersion": "41"},
                "spec": {"backends": [
                    {"service": "api-v1", "weight": 90}, {"service": "api-v2", "weight": 10},
                ]},
            }),
            "case: {case}"
        );
    }
}

#[tokio::test]
async fn a_change_of_somebody_else_is_a_conflict_and_what_a_controller_sets_is_its_own() {
    let (cluster, _) = server(of_nobody(), StatusCode::CONFLICT);
    let failure = set(&cluster, &change(), None, false).await.unwrap_err().to_string();
    assert!(failure.starts_with("somebody has just changed TrafficSplit shop/api"), "{failure}");
    let (cluster, patches) = server(of_a_canary(), StatusCode::OK);
    let failure = set(&cluster, &change(), None, false).await.unwrap_err().to_string();
    assert!(failure.contains("Canary api") && failure.contains("--force"), "{failure}");
    assert!(patches.lock().unwrap().is_empty(), "it was changed all the same");
    set(&cluster, &change(), None, true).await.unwrap();
    assert_eq!(patches.lock().unwrap().len(), 1);
}
