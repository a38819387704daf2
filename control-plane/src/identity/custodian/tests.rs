//! Tests of keeping: with a directory, and with somebody who writes to it.

use heddle_tls::credentials::{self, Credentials};

use super::*;
use crate::identity::holdings::Holdings;
use crate::identity::kept::{KeptTexts, Read};
use crate::identity::store::directory::DirectoryStore;
use crate::push::proxies::{Proxies, SharedLedger};

fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn setup(place: &tempfile::TempDir) -> Setup {
    let snapshots = watch::channel(None).1;
    Setup {
        store: Store::Directory(DirectoryStore::new(place.path().to_owned())),
        trust_domain: trust_domain(),
        leaf_lifetime: Duration::from_secs(30),
        population: Population {
            proxies: Proxies::default(),
            holdings: Holdings::default(),
            snapshots,
        },
        replicas: Replicas::Alone,
        leads: Arc::new(|| true),
        published: None,
    }
}

async fn custodian(place: &tempfile::TempDir) -> (Custodian, Handles, Credentials) {
    let (writer, credentials) = credentials::channel(trust_domain());
    let (custodian, handles) = Custodian::start(setup(place), writer).await.unwrap();
    (custodian, handles, credentials)
}

fn kept_now(texts: &KeptTexts) -> Kept {
    let read = Kept::read(texts, &trust_domain(), clock::now()).unwrap();
    let Read::Whole(kept) = read else { panic!("{read:?}") };
    kept
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_authority_and_the_same_rotation() {
    let place = tempfile::tempdir().unwrap();
    let (mut first, handles, _) = custodian(&place).await;
    let anchor = handles.authorities.current().bundle().clone();
    first.begin(Kind::Root).await.unwrap();
    let refused = first.begin(Kind::Issuer).await.unwrap_err().to_string();
    assert_eq!(refused, "a rotation of the root is under way");
    let announced = handles.authorities.current().bundle().clone();
    assert_ne!(anchor, announced);
    let (second, handles, credentials) = custodian(&place).await;
    assert_eq!(*handles.authorities.current().bundle(), announced);
    assert_eq!(credentials.bundle(), Some(announced));
    assert_eq!(second.kept.rotations, first.kept.rotations);
}

#[tokio::test]
async fn a_root_waits_for_what_new_proxies_are_given() {
    let place = tempfile::tempdir().unwrap();
    let (mut custodian, handles, _) = custodian(&place).await;
    custodian.setup.published = Some(watch::channel(Published::default()).1);
    custodian.begin(Kind::Root).await.unwrap();
    custodian.look().await;
    custodian.show();
    let view = handles.view.borrow().clone();
    assert_eq!(view.waiting_for, "the trust anchors to be written to every namespace");
    let bundle = handles.authorities.current().bundle().digest();
    let lacking = vec!["shop: immutable".to_owned()];
    let published = Published { everywhere: Some(bundle), lacking: lacking.clone() };
    custodian.setup.published = Some(watch::channel(published).1);
    custodian.look().await;
    assert!(
        custodian.waiting_for.ends_with("in which every proxy has them"),
        "{}",
        custodian.waiting_for
    );
    custodian.show();
    assert_eq!(handles.view.borrow().lacking_anchors, lacking);
    // Nothing goes on where another leads.
    custodian.calm_since = Some(Instant::now() - Duration::from_secs(60));
    custodian.setup.leads = Arc::new(|| false);
    custodian.look().await;
    assert_eq!(handles.authorities.current().bundle().digest(), bundle);
    let issuer = handles.authorities.current().issuer_digest();
    custodian.setup.leads = Arc::new(|| true);
    custodian.look().await;
    assert_ne!(handles.authorities.current().issuer_digest(), issuer);
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_last_good_authority_in_place_and_is_told() {
    let place = tempfile::tempdir().unwrap();
    let (mut custodian, handles, credentials) = custodian(&place).await;
    custodian.setup.leads = Arc::new(|| false);
    let good = handles.authorities.current();
    let stored = |texts: KeptTexts, revision: &str| Stored {
        texts,
        revision: Revision::At(revision.to_owned()),
    };
    let other = Kept::create(&trust_domain(), clock::now()).unwrap();
    let foreign = Kept::create(&"other.local".parse().unwrap(), clock::now()).unwrap();
    let broken = KeptTexts::read(|name| (name == "root.pem").then(|| "x".to_owned().into()));
    for (case, seen, expected) in [
        ("deleted", gone(), "holds no authority any more"),
        ("another authority", stored(other.to_texts(), "2"), "does not trust the anchor"),
        ("of another mesh", stored(foreign.to_texts(), "3"), "is of trust domain other.local"),
        (
            "not to be parsed",
            stored(broken, "4"),
            "root.pem cannot be used: it holds no certificate",
        ),
    ] {
        custodian.follow(seen).await;
        custodian.show();
        let problem = handles.view.borrow().problem.clone();
        assert!(problem.contains(expected), "case: {case}: {problem}");
        assert!(problem.contains("the one of before stays in use"), "case: {case}: {problem}");
        let current = handles.authorities.current();
        assert_eq!(current.issuer_digest(), good.issuer_digest(), "case: {case}");
        assert_eq!(credentials.bundle().as_ref(), Some(good.bundle()), "case: {case}");
    }
    let mended = custodian.kept.begin(Kind::Issuer, clock::now()).unwrap();
    custodian.follow(stored(mended.to_texts(), "5")).await;
    custodian.show();
    assert_eq!(handles.view.borrow().problem, "");
    assert_eq!(handles.authorities.current().issuer_digest(), mended.authority.issuer_digest());
    assert_eq!(credentials.held().unwrap().issuer, Some(mended.authority.issuer_digest()));
    assert_eq!(kept_now(&mended.to_texts()).rotations, custodian.kept.rotations);
}

fn gone() -> Stored {
    Stored { texts: KeptTexts::default(), revision: Revision::Absent }
}

#[tokio::test]
async fn what_was_deleted_is_kept_anew_at_once_by_the_one_that_leads() {
    let place = tempfile::tempdir().unwrap();
    let (mut custodian, handles, _) = custodian(&place).await;
    custodian.begin(Kind::Root).await.unwrap();
    std::fs::remove_dir_all(place.path()).unwrap();
    custodian.setup.leads = Arc::new(|| false);
    custodian.follow(gone()).await;
    custodian.look().await;
    custodian.show();
    assert!(handles.view.borrow().problem.contains("holds no authority any more"));
    assert_eq!(custodian.setup.store.load().await.unwrap(), gone(), "another one leads");

    custodian.setup.leads = Arc::new(|| true);
    custodian.follow(gone()).await;
    custodian.next_mending = Instant::now();
    custodian.look().await;
    custodian.show();
    assert_eq!(handles.view.borrow().problem, "");
    let kept = kept_now(&custodian.setup.store.load().await.unwrap().texts);
    assert_eq!(kept.rotations, custodian.kept.rotations, "the rotation goes on");
    assert_eq!(kept.authority.bundle(), handles.authorities.current().bundle());
    assert!(kept.authority.has_next_root());
}

#[tokio::test]
async fn what_was_deleted_in_the_middle_of_a_rotation_is_kept_anew_on_demand() {
    let place = tempfile::tempdir().unwrap();
    let (mut custodian, handles, _) = custodian(&place).await;
    custodian.begin(Kind::Root).await.unwrap();
    custodian.setup.leads = Arc::new(|| false);
    custodian.follow(gone()).await;
    std::fs::remove_dir_all(place.path()).unwrap();
    custodian.calm_since = Some(Instant::now() - Duration::from_secs(60));
    custodian.look().await;
    assert!(handles.authorities.current().has_next_root());
    custodian.begin(Kind::Issuer).await.unwrap();
    custodian.show();
    assert_eq!(handles.view.borrow().problem, "");
    let stored = custodian.setup.store.load().await.unwrap();
    let kept = kept_now(&stored.texts);
    assert_eq!(kept.rotations, custodian.kept.rotations);
    assert_eq!(kept.authority.bundle(), custodian.kept.authority.bundle());
}

#[tokio::test]
async fn a_proxy_that_never_acknowledges_is_left_out_when_somebody_says_so() {
    let place = tempfile::tempdir().unwrap();
    let (mut custodian, _, _) = custodian(&place).await;
    let silent: heddle_model::identity::PodUid = "u-1".parse().unwrap();
    let proxies = custodian.setup.population.proxies.clone();
    let ledger = SharedLedger::new(silent.clone(), heddle_model::resource::Version(0));
    let _connected = proxies.connect(&silent, String::new(), ledger);
    let pod = LeftOut { pod_uid: "u-1".to_owned(), name: "shop/api".to_owned() };
    let refused = custodian.leave_out(std::slice::from_ref(&pod)).await.unwrap_err().to_string();
    assert!(refused.starts_with("no rotation is under way that waits"), "{refused}");
    custodian.begin(Kind::Root).await.unwrap();
    custodian.look().await;
    let waits = &custodian.waiting_for;
    assert_eq!(waits, "1 of 1 proxies to acknowledge the trust anchors: u-1");
    custodian.leave_out(&[pod]).await.unwrap();
    custodian.look().await;
    let waits = &custodian.waiting_for;
    assert!(waits.ends_with("in which every proxy has them"), "{waits}");
    let stored = kept_now(&custodian.setup.store.load().await.unwrap().texts);
    assert!(stored.rotations.current.unwrap().leaves_out(&silent), "whoever leads next knows");
    // What it says of its certificate is no reason to wait at the end.
    custodian.calm_since = Some(Instant::now() - Duration::from_secs(60));
    custodian.look().await;
    custodian.look().await;
    let said = custodian.kept.rotations.current.as_ref().map(|current| current.step);
    assert_eq!(said, Some(Step::TurningOver));
    let bundle = heddle_tls::digest::of(b"no bundle");
    let lie = crate::identity::holdings::Holding { bundle, issuer: None, not_after: i64::MAX };
    custodian.setup.population.holdings.record(silent, lie);
    custodian.kept.rotations.current.as_mut().unwrap().since -= 41;
    custodian.next_step = Instant::now();
    custodian.look().await;
    assert_eq!(custodian.kept.rotations.current, None);
    assert_eq!(custodian.kept.authority.bundle().anchors_der().count(), 1);
}

#[tokio::test]
async fn the_issuer_does_not_run_out_while_an_anchor_is_announced() {
    let place = tempfile::tempdir().unwrap();
    let long_ago = clock::now() - Duration::from_hours(200 * 24);
    let old = Kept::create(&trust_domain(), long_ago).unwrap();
    let announced = old.begin(Kind::Root, clock::now()).unwrap();
    let setup = setup(&place);
    setup.store.save(&announced.to_texts(), &Revision::Absent).await.unwrap();
    let (writer, credentials) = credentials::channel(trust_domain());
    let (mut custodian, handles) = Custodian::start(setup, writer).await.unwrap();
    let before = handles.authorities.current();
    assert!(before.issuer_is_due(clock::now()));
    custodian.look().await;
    let now = handles.authorities.current();
    assert!(!now.issuer_is_due(clock::now()) && now.has_next_root());
    assert_eq!(now.bundle(), before.bundle());
    assert_eq!(credentials.held().unwrap().issuer, Some(now.issuer_digest()));
    let current = custodian.kept.rotations.current.clone().unwrap();
    assert_eq!((current.kind, current.step), (Kind::Root, Step::Announced));
}

#[tokio::test]
async fn no_certificate_lives_longer_than_what_is_kept_says() {
    let place = tempfile::tempdir().unwrap();
    let (mut custodian, mut handles, _) = custodian(&place).await;
    assert_eq!(handles.authorities.leaf_lifetime(), Duration::from_secs(30));
    // As after a switch by a replica whose certificates live shorter.
    custodian.setup.leaf_lifetime = Duration::from_secs(3_600);
    let kept = custodian.kept.clone();
    custodian.adopt(kept).unwrap();
    assert_eq!(handles.authorities.leaf_lifetime(), Duration::from_secs(30));
    custodian.look().await;
    assert!(handles.authorities.changed().await);
    assert_eq!(handles.authorities.leaf_lifetime(), Duration::from_secs(3_600));
    let stored = kept_now(&custodian.setup.store.load().await.unwrap().texts);
    assert_eq!(stored.rotations.longest_leaf, Some(3_600));
}

#[tokio::test]
async fn our_own_certificate_is_renewed_also_when_the_issuer_cannot_be() {
    let place = tempfile::tempdir().unwrap();
    let (mut custodian, handles, mut credentials) = custodian(&place).await;
    credentials.changed().await;
    let issuer = handles.authorities.current().issuer_digest();
    std::fs::remove_dir_all(place.path()).unwrap();
    std::fs::write(place.path(), "in the way").unwrap();
    assert!(matches!(custodian.begin(Kind::Issuer).await, Err(NotRotated::Store(_))));
    custodian.own.renew(&custodian.kept.authority, Duration::from_secs(30)).unwrap();
    credentials.changed().await;
    assert_eq!(handles.authorities.current().issuer_digest(), issuer);
    std::fs::remove_file(place.path()).unwrap();
    std::fs::create_dir(place.path()).unwrap();
}
