//! Tests of the distribution, with an API server that is a function.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use heddle_runtime::clock;
use heddle_tls::authority::Authority;
use heddle_tls::credentials;
use serde_json::{Value, json};

use super::*;
use crate::identity::custodian::{Custodian, Setup};
use crate::identity::replicas::{Population, Replicas};
use crate::identity::store::Store;
use crate::identity::store::directory::DirectoryStore;
use crate::push::proxies::Proxies;
use crate::snapshot::{Contents, Snapshot};
use crate::test_client::{self, answering};

/// A distributor that leads, with these namespaces and nothing in them.
async fn distributor(
    client: Client,
    namespaces: impl IntoIterator<Item = String>,
) -> (Distributor, watch::Receiver<Published>) {
    let place = tempfile::tempdir().unwrap();
    let contents = Arc::new(Contents::default());
    let snapshot = Snapshot::first(heddle_model::resource::Version(1), contents);
    let snapshots = watch::channel(Some(snapshot)).1;
    let setup = Setup {
        store: Store::Directory(DirectoryStore::new(place.path().to_owned())),
        trust_domain: "cluster.local".parse().unwrap(),
        leaf_lifetime: Duration::from_secs(60),
        population: Population::new(Proxies::default(), snapshots.clone()),
        replicas: Replicas::Alone,
        leads: Arc::new(|| true),
        published: None,
    };
    let (writer, _) = credentials::channel("cluster.local".parse().unwrap());
    let (_, handles) = Custodian::start(setup, writer).await.unwrap();
    let (published, publishes) = watch::channel(Published::default());
    let leads: Leads = Arc::new(|| true);
    let mut distributor =
        Distributor::new(client, handles.authorities, snapshots, leads, published);
    distributor.namespaces.take(Event::<()>::Init, |()| (String::new(), None));
    for name in namespaces {
        let event = Event::InitApply(name);
        distributor.namespaces.take(event, |name| (name.clone(), Some(())));
    }
    distributor.namespaces.take(Event::<()>::InitDone, |()| (String::new(), None));
    distributor.take_map(Ok(Event::Init));
    distributor.take_map(Ok(Event::InitDone));
    (distributor, publishes)
}

fn map(namespace: &str, immutable: bool, text: &str) -> Value {
    json!({
        "metadata": {
            "name": TRUST_ANCHORS_CONFIG_MAP, "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "heddle"},
        },
        "immutable": immutable,
        "data": {"trust-anchors.pem": text},
    })
}

fn namespace_of(path: &str) -> &str {
    path.split('/').nth(4).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_refuses_is_told_and_holds_up_no_other() {
    let asked = Arc::new(AtomicUsize::new(0));
    let client = answering({
        let asked = Arc::clone(&asked);
        move |request| match namespace_of(request.uri().path()) {
            "stubborn" => {
                asked.fetch_add(1, Ordering::Relaxed);
                let message =
                    "configmaps \"heddle-trust-anchors\" is forbidden: exceeded quota: few";
                test_client::json(
                    403,
                    json!({"kind": "Status", "status": "Failure", "code": 403,
                    "reason": "Forbidden", "message": message}),
                )
            }
            namespace => test_client::json(200, map(namespace, false, "as it was written")),
        }
    });
    let (mut distributor, published) =
        distributor(client, ["fixed", "shop", "stubborn"].map(str::to_owned)).await;
    let fixed = map("fixed", true, "those of before");
    distributor.take_map(Ok(Event::Apply(serde_json::from_value(fixed).unwrap())));
    distributor.look().await;
    let told = published.borrow().clone();
    let bundle = distributor.authorities.current().bundle().digest();
    assert_eq!(told.everywhere, Some(bundle));
    let [fixed, stubborn] = told.lacking.as_slice() else { panic!("{told:?}") };
    assert!(fixed.starts_with("fixed: the ConfigMap is immutable"), "{fixed}");
    assert!(stubborn.starts_with("stubborn: the API server refuses: "), "{stubborn}");
    assert!(stubborn.ends_with("exceeded quota: few"), "{stubborn}");
    // It is asked again, and not all the time.
    distributor.look().await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    tokio::time::advance(REFUSED_INTERVAL).await;
    distributor.look().await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(published.borrow().everywhere, Some(bundle));
}

#[tokio::test(start_paused = true)]
async fn what_the_control_plane_is_not_allowed_is_waited_for() {
    let client = answering(|_| {
        let message =
            "configmaps \"heddle-trust-anchors\" is forbidden: User \"x\" cannot patch resource";
        test_client::json(
            403,
            json!({"kind": "Status", "status": "Failure", "code": 403,
            "reason": "Forbidden", "message": message}),
        )
    });
    let (mut distributor, published) = distributor(client, ["shop".to_owned()]).await;
    distributor.look().await;
    assert_eq!(*published.borrow(), Published::default());
}

#[tokio::test(start_paused = true)]
async fn many_namespaces_are_written_several_at_once_and_no_more() {
    const NAMESPACES: usize = 40;
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let client = answering({
        let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
        move |request| {
            let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
            let namespace = namespace_of(request.uri().path()).to_owned();
            Box::pin(async move {
                let now = under_way.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                test_client::json(200, map(&namespace, false, "as it was written")).await
            })
        }
    });
    let names = (0..NAMESPACES).map(|index| format!("n-{index}"));
    let (mut distributor, published) = distributor(client, names).await;
    let begun = Instant::now();
    distributor.look().await;
    assert!(published.borrow().everywhere.is_some());
    assert_eq!(most.load(Ordering::Relaxed), WRITES_AT_ONCE);
    assert_eq!(begun.elapsed().as_secs(), (NAMESPACES / WRITES_AT_ONCE) as u64);
    assert_eq!(distributor.found.entries().len(), NAMESPACES);
}

#[test]
fn what_is_remembered_of_a_config_map_is_no_longer_than_a_digest() {
    let authority = Authority::create("cluster.local".parse().unwrap(), clock::now()).unwrap();
    let text = authority.bundle().to_pem();
    let held = write::found(&serde_json::from_value(map("shop", false, &text)).unwrap());
    assert_eq!(held, Found { ours: true, immutable: false, text: digest::of(text.as_bytes()) });
    assert!(std::mem::size_of::<Found>() < 64);
}
