//! Tests of the start, with an API server that is a function.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::identity::replicas::{Population, Replicas};
use crate::identity::store::Store;
use crate::identity::store::secret::SecretStore;
use crate::push::proxies::Proxies;
use crate::test_client::{Answer, answering, json, never};

fn setup(client: &Client) -> Setup {
    Setup {
        store: Store::Secret(Box::new(SecretStore::new(client, "mesh", "cp-1"))),
        trust_domain: "cluster.local".parse().unwrap(),
        leaf_lifetime: Duration::from_secs(3_600),
        population: Population::new(Proxies::default(), tokio::sync::watch::channel(None).1),
        replicas: Replicas::Alone,
        leads: Arc::new(|| true),
        published: None,
    }
}

/// What an API server has of the authority: a Secret that may appear, and ConfigMaps.
#[derive(Clone, Default)]
struct Known {
    secret: Arc<Mutex<Option<Value>>>,
    /// What becomes of the Secret when the ConfigMaps are asked for.
    appears: Option<Value>,
    /// Namespace, whether it is ours, and the anchors.
    maps: Vec<(&'static str, bool, String)>,
    written: Arc<AtomicUsize>,
}

impl Known {
    fn client(&self) -> Client {
        let known = self.clone();
        answering(move |request| known.answer(&request))
    }

    fn answer(&self, request: &http::Request<kube::client::Body>) -> Answer {
        let mut secret = self.secret.lock().unwrap();
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/api/v1/configmaps") => {
                if let Some(appears) = &self.appears {
                    *secret = Some(appears.clone());
                }
                let query = request.uri().query().unwrap_or_default();
                assert!(query.contains("part-of"), "{query}");
                let ours = self.maps.iter().filter(|(_, ours, _)| *ours);
                let items = ours.map(|(namespace, _, text)| {
                    json!({
                        "metadata": {"name": "heddle-trust-anchors", "namespace": namespace},
                        "data": {"trust-anchors.pem": text},
                    })
                });
                let items: Vec<Value> = items.collect();
                json(
                    200,
                    json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": items}),
                )
            }
            (&Method::GET, "/api/v1/namespaces/mesh/secrets/heddle-authority") => match &*secret {
                Some(secret) => json(200, secret.clone()),
                None => json(404, status(404, "NotFound")),
            },
            (&Method::PATCH, "/api/v1/namespaces/mesh/secrets/heddle-authority") => {
                self.written.fetch_add(1, Ordering::Relaxed);
                json(200, json!({"metadata": {"name": "heddle-authority", "resourceVersion": "2"}}))
            }
            (method, path) => panic!("{method} {path}"),
        }
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

fn secret(kept: &Kept) -> Value {
    let texts = kept.to_texts();
    let data: serde_json::Map<String, Value> = crate::identity::kept::NAMES
        .into_iter()
        .filter_map(|name| {
            let bytes = k8s_openapi::ByteString(texts.get(name)?.as_bytes().to_vec());
            Some((name.to_owned(), json!(bytes)))
        })
        .collect();
    json!({"metadata": {"name": "heddle-authority", "resourceVersion": "1"}, "data": data})
}

fn earlier() -> Kept {
    Kept::create(&"cluster.local".parse().unwrap(), clock::now()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_authority_is_made_where_proxies_trust_an_earlier_one() {
    let anchors = earlier().authority.bundle().to_pem();
    for (case, maps, refused) in [
        ("a new cluster", vec![], None),
        ("trust anchors are there", vec![("shop", true, anchors.clone())], Some("of shop hold")),
        ("somebody else's", vec![("shop", false, anchors.clone())], None),
        ("emptied", vec![("shop", true, String::new())], None),
        (
            "in several namespaces",
            vec![("bank", true, anchors.clone()), ("shop", true, anchors.clone())],
            Some("of bank, shop hold"),
        ),
    ] {
        let known = Known { maps, ..Known::default() };
        let loaded = load_patiently(&setup(&known.client())).await;
        let written = known.written.load(Ordering::Relaxed);
        match (loaded, refused) {
            (Ok(_), None) => assert_eq!(written, 1, "case: {case}"),
            (Err(error), Some(expected)) => {
                let error = error.to_string();
                assert!(error.contains(expected), "case: {case}: {error}");
                assert!(
                    error.contains("Put the Secret back from a backup"),
                    "case: {case}: {error}"
                );
                assert_eq!(written, 0, "case: {case}");
            }
            (outcome, _) => panic!("case: {case}: {outcome:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_faster_is_no_earlier_mesh() {
    let faster = earlier().allowing(Duration::from_secs(3_600)).unwrap();
    let known = Known {
        appears: Some(secret(&faster)),
        maps: vec![("shop", true, faster.authority.bundle().to_pem())],
        ..Known::default()
    };
    let (kept, _) = load_patiently(&setup(&known.client())).await.unwrap();
    assert_eq!(kept.authority.issuer_digest(), faster.authority.issuer_digest());
    assert_eq!(known.written.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_longer_lifetime_is_kept_before_any_certificate_has_it() {
    let short = earlier().allowing(Duration::from_secs(60)).unwrap();
    for (case, before, written) in [
        ("shorter before", short.clone(), 1),
        ("as long", short.allowing(Duration::from_secs(3_600)).unwrap(), 0),
        ("longer", short.allowing(Duration::from_secs(7_200)).unwrap(), 0),
        ("not recorded", earlier(), 1),
    ] {
        let known =
            Known { secret: Arc::new(Mutex::new(Some(secret(&before)))), ..Known::default() };
        let (kept, _) = load_patiently(&setup(&known.client())).await.unwrap();
        assert_eq!(known.written.load(Ordering::Relaxed), written, "case: {case}");
        assert!(kept.rotations.longest_leaf >= Some(3_600), "case: {case}: {:?}", kept.rotations);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_slow_or_refuses_is_waited_for() {
    let known =
        Known { secret: Arc::new(Mutex::new(Some(secret(&earlier())))), ..Known::default() };
    let asked = Arc::new(AtomicUsize::new(0));
    let client = answering({
        let (known, asked) = (known.clone(), Arc::clone(&asked));
        move |request| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => never(),
            1 => json(500, status(500, "InternalError")),
            2 => json(403, status(403, "Forbidden")),
            _ => known.answer(&request),
        }
    });
    load_patiently(&setup(&client)).await.unwrap();
    assert!(asked.load(Ordering::Relaxed) > 3);
}
