//! Tests of issuing and keeping.

use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls_pki_types::UnixTime;
use webpki::KeyUsage;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::rotation::Role;
use super::texts::{Parsed, Texts};
use super::*;
use crate::certificate::CertificateRequest;
use crate::leaf::Leaf;
use crate::testing::{LIFETIME, now, trust_domain, workload};
use crate::verify::{Presented, verify};

fn authority() -> Authority {
    Authority::create(trust_domain(), now()).unwrap()
}

fn issue(authority: &Authority, csr: &[u8]) -> Result<Vec<Vec<u8>>, IssueError> {
    issue_at(authority, csr, now())
}

fn issue_at(
    authority: &Authority,
    csr: &[u8],
    now: SystemTime,
) -> Result<Vec<Vec<u8>>, IssueError> {
    let peer = workload("api");
    authority.issue(csr, &peer.identity, &peer.pod_uid, LIFETIME, now)
}

fn is_trusted(chain: &[Vec<u8>], bundle: &Bundle) -> bool {
    let chain: Vec<CertificateDer<'_>> =
        chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let presented = Presented { end_entity: &chain[0], intermediates: &chain[1..] };
    [KeyUsage::client_auth(), KeyUsage::server_auth()]
        .into_iter()
        .all(|usage| verify(&presented, bundle, usage, UnixTime::now()).is_ok())
}

/// A request with another key or with wishes of its own.
fn request(
    algorithm: &'static SignatureAlgorithm,
    ask: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut parameters = CertificateParams::default();
    ask(&mut parameters);
    parameters.serialize_request(&key).unwrap().der().to_vec()
}

#[test]
fn a_certificate_is_for_the_attested_workload_and_its_own_key() {
    let authority = authority();
    let csr = CertificateRequest::generate().unwrap();
    let issued = now();
    let chain = issue_at(&authority, csr.der(), issued).unwrap();
    assert_eq!(chain.len(), 2);
    assert!(is_trusted(&chain, authority.bundle()));
    let leaf = csr.into_leaf(chain).unwrap();
    assert_eq!(*leaf.peer(), workload("api"));
    assert_eq!(leaf.not_before(), issued - CLOCK_SKEW);
    assert_eq!(leaf.not_after(), issued + LIFETIME);
}

#[test]
fn names_that_a_request_asks_for_are_not_granted() {
    let csr = request(&PKCS_ECDSA_P256_SHA256, |parameters| {
        parameters.subject_alt_names = vec![
            SanType::URI(
                "spiffe://cluster.local/ns/heddle-system/sa/heddle-control-plane"
                    .try_into()
                    .unwrap(),
            ),
            SanType::DnsName("control-plane.pod.cluster.local".try_into().unwrap()),
        ];
        parameters.distinguished_name.push(DnType::CommonName, "control-plane");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let authority = authority();
    let chain = issue(&authority, &csr).unwrap();
    assert!(is_trusted(&chain, authority.bundle()));
    assert_eq!(Leaf::parse(&chain[0]).unwrap().peer, workload("api"));
    let (_, certificate) = X509Certificate::from_der(&chain[0]).unwrap();
    assert_eq!(certificate.subject().iter().count(), 0);
}

#[test]
fn a_request_that_proves_nothing_is_refused() {
    let good = request(&PKCS_ECDSA_P256_SHA256, |_| ());
    assert!(issue(&authority(), &good).is_ok());
    let mut other_signature = good.clone();
    *other_signature.last_mut().unwrap() ^= 1;
    // The name in the request is not used, but covered by the signature.
    let mut other_content = good.clone();
    let position = good.windows(5).position(|bytes| bytes == b"rcgen").unwrap();
    other_content[position] ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    for (case, csr, expected) in [
        ("another signature", other_signature, InvalidRequest::BadSignature),
        ("another content", other_content, InvalidRequest::BadSignature),
        ("P-384", request(&PKCS_ECDSA_P384_SHA384, |_| ()), InvalidRequest::OtherAlgorithm),
        ("RSA", request(&PKCS_RSA_SHA256, |_| ()), InvalidRequest::OtherAlgorithm),
        ("Ed25519", request(&rcgen::PKCS_ED25519, |_| ()), InvalidRequest::OtherAlgorithm),
        ("bytes after it", longer, InvalidRequest::Unparsable),
        ("nothing", vec![], InvalidRequest::Unparsable),
        ("too much", vec![0; 9000], InvalidRequest::TooLarge { length: 9000 }),
    ] {
        let error = issue(&authority(), &csr).unwrap_err();
        let IssueError::Request(reason) = error else { panic!("case: {case}: {error:?}") };
        assert_eq!(reason, expected, "case: {case}");
    }
}

#[test]
fn what_the_authority_cannot_vouch_for_is_refused() {
    let authority = authority();
    let csr = CertificateRequest::generate().unwrap();
    let (ours, pod) = (workload("api").identity, workload("api").pod_uid);
    let theirs: SpiffeId = "spiffe://other.local/ns/shop/sa/api".parse().unwrap();
    let year = Duration::from_hours(365 * 24);
    for (case, identity, lifetime, now, expected) in [
        ("another mesh", &theirs, LIFETIME, now(), "of trust domain other.local"),
        ("too short", &ours, Duration::from_secs(29), now(), "29s is too short"),
        ("after the issuer's end", &ours, LIFETIME, now() + year, "the issuer has expired"),
    ] {
        let error = authority.issue(csr.der(), identity, &pod, lifetime, now).unwrap_err();
        assert!(error.to_string().contains(expected), "case: {case}: {error}");
    }
    let late = authority.issuer_not_after() - Duration::from_secs(100);
    let chain = authority.issue(csr.der(), &ours, &pod, LIFETIME, late).unwrap();
    assert_eq!(Leaf::parse(&chain[0]).unwrap().not_after, authority.issuer_not_after());
}

#[test]
fn a_new_issuer_leaves_old_certificates_valid() {
    let authority = authority();
    assert!(!authority.issuer_is_due(now()));
    assert!(authority.issuer_is_due(now() + Duration::from_hours(183 * 24)));
    let old = issue(&authority, CertificateRequest::generate().unwrap().der()).unwrap();
    let authority = authority.with_new_issuer(now()).unwrap();
    let new = issue(&authority, CertificateRequest::generate().unwrap().der()).unwrap();
    assert_ne!(old[1], new[1]);
    assert!(is_trusted(&old, authority.bundle()) && is_trusted(&new, authority.bundle()));
}

#[test]
fn an_issuer_vouches_for_its_own_trust_domain_and_no_further_authority() {
    let authority = authority();
    let (_, issuer) = X509Certificate::from_der(&authority.issuer.certificate).unwrap();
    let constraints = issuer.basic_constraints().unwrap().unwrap().value;
    assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
    // Signed by the issuer's key, with the names of another mesh.
    let peer = PeerIdentity {
        identity: "spiffe://other.local/ns/shop/sa/api".parse().unwrap(),
        pod_uid: "api-1".parse().unwrap(),
    };
    let key = KeyPair::generate().unwrap();
    let parameters = leaf_parameters(&peer, Validity::starting(now(), LIFETIME).unwrap()).unwrap();
    let leaf = parameters.signed_by(&key, &authority.issuer.signer).unwrap();
    let chain = [leaf.der().to_vec(), authority.issuer.certificate.to_vec()];
    let anchors = authority.bundle().anchors_der().map(<[u8]>::to_vec);
    let bundle = Bundle::from_der("other.local".parse().unwrap(), anchors).unwrap();
    assert!(!is_trusted(&chain, &bundle));
}

fn whole(texts: &Texts) -> Authority {
    let parsed = Authority::from_texts(texts, &trust_domain(), now()).unwrap();
    let Parsed::Whole(authority) = parsed else { panic!("{parsed:?}") };
    authority
}

#[test]
fn an_authority_is_read_as_it_was_written() {
    let made = authority().with_next_root(now()).unwrap();
    let csr = CertificateRequest::generate().unwrap();
    let chain = issue(&made, csr.der()).unwrap();
    let read = whole(&made.to_texts());
    assert_eq!(read.bundle(), made.bundle());
    assert_eq!(read.issuer_digest(), made.issuer_digest());
    assert!(read.has_next_root() && read.has_root_key());
    assert_eq!(read.to_texts(), made.to_texts());
    assert!(is_trusted(&chain, read.bundle()));
    assert!(is_trusted(&issue(&read, csr.der()).unwrap(), made.bundle()));
    assert!(!format!("{:?}", made.to_texts()).contains("PRIVATE KEY"));
}

#[test]
fn whoever_brings_their_own_gives_a_root_or_an_issuer_with_its_anchors() {
    let theirs = authority();
    let Texts { root, issuer, trust_anchors, .. } = theirs.to_texts();
    let only_root = Texts { root: root.clone(), ..Texts::default() };
    let parsed = Authority::from_texts(&only_root, &trust_domain(), now()).unwrap();
    let Parsed::WithNewIssuer(made) = parsed else { panic!("{parsed:?}") };
    assert_eq!(made.bundle(), theirs.bundle());
    assert_ne!(made.issuer_digest(), theirs.issuer_digest());

    let only_issuer = Texts { issuer: issuer.clone(), trust_anchors, ..Texts::default() };
    let below_theirs = whole(&only_issuer);
    let csr = CertificateRequest::generate().unwrap();
    assert!(is_trusted(&issue(&below_theirs, csr.der()).unwrap(), theirs.bundle()));
    for result in [below_theirs.with_new_issuer(now()), below_theirs.with_next_root(now())] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("the trust anchor's key is not kept here"), "{error}");
    }

    let nothing = Texts { trust_anchors: Some(String::new()), ..Texts::default() };
    let parsed = Authority::from_texts(&nothing, &trust_domain(), now()).unwrap();
    assert!(matches!(parsed, Parsed::Nothing), "{parsed:?}");
    let alone = Texts { issuer, ..Texts::default() };
    let error = Authority::from_texts(&alone, &trust_domain(), now()).unwrap_err().to_string();
    assert!(error.contains("trust-anchors.pem cannot be used: it holds no certificate"), "{error}");
}

/// Changes one text of an authority, and expects to be told what is wrong with it.
fn check_refused(change: impl FnOnce(&mut Texts), domain: &str, later: Duration, expected: &str) {
    let mut texts = authority().to_texts();
    change(&mut texts);
    let domain = domain.parse().unwrap();
    let error = Authority::from_texts(&texts, &domain, now() + later).unwrap_err().to_string();
    assert!(error.contains(expected), "want {expected}: {error}");
}

fn root_changed(change: impl FnOnce(&str) -> String) -> impl FnOnce(&mut Texts) {
    move |texts| texts.root = Some(Zeroizing::new(change(texts.root.as_ref().unwrap())))
}

#[test]
fn texts_that_cannot_be_used_are_refused_by_name() {
    let (ours, at_once) = ("cluster.local", Duration::ZERO);
    let years = |count: u64| Duration::from_hours(count * 365 * 24);
    let certificate = |text: &str| text.split_inclusive("E-----\n").take(2).collect::<String>();
    let key = |text: &str| text.split_inclusive("E-----\n").skip(2).collect::<String>();
    let half = |text: &str| text.chars().take(300).collect::<String>();
    check_refused(
        root_changed(certificate),
        ours,
        at_once,
        "root.pem cannot be used: it holds no ECDSA",
    );
    check_refused(
        root_changed(key),
        ours,
        at_once,
        "root.pem cannot be used: it holds no certificate",
    );
    check_refused(
        root_changed(half),
        ours,
        at_once,
        "root.pem cannot be used: it holds no certificate",
    );
    check_refused(|_| (), "other.local", at_once, "of trust domain cluster.local");
    check_refused(|_| (), ours, years(11), "root.pem cannot be used: it expired on");
    check_refused(|_| (), ours, years(2), "issuer.pem cannot be used: it expired on");
    let early = authority().to_texts();
    let error = Authority::from_texts(&early, &trust_domain(), now() - CLOCK_SKEW * 2).unwrap_err();
    assert!(error.to_string().contains("check this machine's clock"), "{error}");

    let other = authority().to_texts();
    let other_key = |text: &str| certificate(text) + &key(other.root.as_ref().unwrap());
    check_refused(root_changed(other_key), ours, at_once, "its key is not its certificate's");
    let issuer = other.issuer.clone();
    check_refused(|texts| texts.issuer = issuer, ours, at_once, "signed by no trust anchor");
    let anchors = other.trust_anchors.clone();
    check_refused(|texts| texts.trust_anchors = anchors, ours, at_once, "is not in it");
    let broken = Some("-----BEGIN".to_owned());
    check_refused(|texts| texts.trust_anchors = broken, ours, at_once, "trust-anchors.pem cannot");
}

#[test]
fn every_step_to_a_new_trust_anchor_keeps_what_is_in_use_verifiable() {
    let csr = CertificateRequest::generate().unwrap();
    let first = authority();
    let old = issue(&first, csr.der()).unwrap();
    let announced = first.with_next_root(now()).unwrap();
    assert_eq!(announced.issuer_digest(), first.issuer_digest());
    let meanwhile = issue(&announced, csr.der()).unwrap();
    let switched = announced.with_switched_issuer(now()).unwrap();
    let new = issue(&switched, csr.der()).unwrap();
    for (case, bundle) in [("announced", announced.bundle()), ("switched", switched.bundle())] {
        for chain in [&old, &meanwhile, &new] {
            assert!(is_trusted(chain, bundle), "case: {case}");
        }
    }
    assert_eq!(announced.bundle().digest(), switched.bundle().digest());
    let last = switched.with_current_anchor_only().unwrap();
    assert!(is_trusted(&new, last.bundle()));
    assert!(!is_trusted(&old, last.bundle()) && !is_trusted(&new, first.bundle()));
    assert!(announced.is_vouched_for_by(switched.bundle()));
    assert!(switched.is_vouched_for_by(last.bundle()) && !first.is_vouched_for_by(last.bundle()));
    for (case, authority, roles) in [
        ("first", &first, vec![(Role::Current, true)]),
        ("announced", &announced, vec![(Role::Current, true), (Role::Next, true)]),
        ("switched", &switched, vec![(Role::Current, true), (Role::Other, false)]),
        ("last", &last, vec![(Role::Current, true)]),
    ] {
        let bundle = authority.bundle();
        let found: Vec<_> = bundle.anchors_der().map(|der| authority.role_of(der)).collect();
        assert_eq!(found, roles, "case: {case}");
    }
    assert!(first.with_switched_issuer(now()).is_err());
    // An attempt that was given up leaves no anchor behind.
    let again = announced.with_next_root(now()).unwrap();
    assert_eq!(again.bundle().anchors_der().count(), 2);
    assert_ne!(again.bundle().digest(), announced.bundle().digest());
}

#[test]
fn an_issuer_is_due_by_its_own_life_and_not_by_how_long_others_live() {
    let authority = authority();
    let late = now() + Duration::from_hours((10 * 365 - 40) * 24);
    let short = authority.with_new_issuer(late).unwrap();
    assert!(!short.issuer_is_due(late));
    assert!(short.issuer_is_due(late + Duration::from_hours(20 * 24)));
}
