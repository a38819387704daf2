//! Tests of issuing and keeping.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls_pki_types::UnixTime;
use webpki::KeyUsage;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

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

#[test]
fn an_authority_loads_as_it_was_saved() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("authority");
    let made = Authority::load_or_create(&home, &trust_domain(), now()).unwrap();
    let csr = CertificateRequest::generate().unwrap();
    let chain = issue(&made, csr.der()).unwrap();
    for _ in 0..2 {
        let loaded = Authority::load_or_create(&home, &trust_domain(), now()).unwrap();
        assert_eq!(loaded.bundle(), made.bundle());
        assert_eq!(loaded.issuer.certificate, made.issuer.certificate);
        assert!(is_trusted(&chain, loaded.bundle()));
        let again = issue(&loaded, csr.der()).unwrap();
        assert!(is_trusted(&again, made.bundle()));
    }
    let mut names: Vec<_> =
        fs::read_dir(&home).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["issuer.pem", "root.pem"]);
    for name in names {
        let mode = fs::metadata(home.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_due_or_missing_issuer_is_made_anew_under_the_same_anchor() {
    let directory = tempfile::tempdir().unwrap();
    let load = |now| Authority::load_or_create(directory.path(), &trust_domain(), now).unwrap();
    let made = load(now());
    fs::remove_file(directory.path().join("issuer.pem")).unwrap();
    let second = load(now());
    let third = load(now() + Duration::from_hours(200 * 24));
    let kept = load(now() + Duration::from_hours(200 * 24));
    assert_ne!(made.issuer.certificate, second.issuer.certificate);
    assert_ne!(second.issuer.certificate, third.issuer.certificate);
    assert_eq!(third.issuer.certificate, kept.issuer.certificate);
    assert_eq!(made.bundle(), kept.bundle());
}

/// Saves an authority, changes one of its files, and expects to be told what is wrong with it.
fn check_refused(
    name: &str,
    change: impl FnOnce(&str) -> String,
    domain: &str,
    later: Duration,
    expected: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    Authority::load_or_create(directory.path(), &trust_domain(), now()).unwrap();
    let path = directory.path().join(name);
    let changed = change(&fs::read_to_string(&path).unwrap());
    fs::write(&path, &changed).unwrap();
    let domain = domain.parse().unwrap();
    for load in [Authority::load, Authority::load_or_create] {
        let error = load(directory.path(), &domain, now() + later).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "want {expected}: {error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), changed, "want {expected}");
}

#[test]
fn files_that_cannot_be_used_are_refused_and_kept() {
    let (ours, at_once) = ("cluster.local", Duration::ZERO);
    let years = |count: u64| Duration::from_hours(count * 365 * 24);
    let same = str::to_owned;
    let certificate = |text: &str| text.split_inclusive("E-----\n").take(2).collect::<String>();
    let key = |text: &str| text.split_inclusive("E-----\n").skip(2).collect::<String>();
    let half = |text: &str| text.chars().take(300).collect::<String>();
    check_refused("root.pem", certificate, ours, at_once, "no ECDSA P-256 key");
    check_refused("root.pem", key, ours, at_once, "no certificate");
    check_refused("root.pem", half, ours, at_once, "no certificate");
    check_refused("root.pem", same, "other.local", at_once, "of trust domain cluster.local");
    check_refused("root.pem", same, ours, years(11), "it expired on");
    check_refused("issuer.pem", same, ours, years(2), "it expired on");

    let other = authority();
    let other_key = |text: &str| certificate(text) + &key(&other.root.to_pem());
    check_refused("root.pem", other_key, ours, at_once, "key is not its certificate's");
    let other_issuer = |_: &str| other.issuer.to_pem().to_string();
    check_refused("issuer.pem", other_issuer, ours, at_once, "not signed by root.pem");
}

#[test]
fn an_authority_of_the_future_is_refused_and_blames_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    authority().save(directory.path()).unwrap();
    let early = now() - CLOCK_SKEW * 2;
    let error = Authority::load_or_create(directory.path(), &trust_domain(), early).unwrap_err();
    let AuthorityError::Unusable { fault, .. } = error else { panic!("{error}") };
    assert!(fault.to_string().contains("check this machine's clock"), "{fault}");
}

#[test]
fn a_directory_without_an_authority_is_not_loaded() {
    let empty = tempfile::tempdir().unwrap();
    let error = Authority::load(empty.path(), &trust_domain(), now()).unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
}
