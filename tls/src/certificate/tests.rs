//! Tests of requests and of what comes back.

use super::*;
use crate::testing::{LIFETIME, OddLeaf, TestMesh, now, workload};

#[test]
fn a_certificate_for_another_key_is_refused() {
    let mesh = TestMesh::new();
    let peer = workload("api");
    let chain: Vec<Vec<u8>> = mesh.leaf(&peer).key().cert.iter().map(|der| der.to_vec()).collect();
    let ours = CertificateRequest::generate().unwrap();
    assert!(matches!(ours.into_leaf(chain).unwrap_err(), RequestError::OtherKey));
}

#[test]
fn an_answer_that_is_no_chain_is_refused() {
    let mesh = TestMesh::new();
    let authority = mesh.careless.anchor();
    let nobody = mesh.careless.mint_der(&OddLeaf { uris: vec![], ..OddLeaf::like(&workload("a")) });
    for (case, chain, expected) in [
        ("nothing", vec![], "answered without a certificate"),
        ("noise", vec![vec![0; 9]], "no peer would accept"),
        ("an authority", vec![authority], "no peer would accept"),
        ("nobody", vec![nobody], "no peer would accept"),
        ("too many", vec![vec![]; 5], "5 certificates, more than 4"),
    ] {
        let error = CertificateRequest::generate().unwrap().into_leaf(chain).unwrap_err();
        assert!(error.to_string().contains(expected), "case: {case}: {error}");
    }
}

#[test]
fn requests_have_keys_of_their_own_and_show_none() {
    let [first, second] = [(); 2].map(|()| CertificateRequest::generate().unwrap());
    assert_ne!(first.key.subject_public_key_info(), second.key.subject_public_key_info());
    assert_eq!(format!("{first:?}"), "CertificateRequest { .. }");
}

#[test]
fn renewal_is_due_after_half_of_what_is_left() {
    let mesh = TestMesh::new();
    let issued = now();
    let leaf = mesh.leaf_issued_at(&workload("api"), issued);
    assert_eq!(leaf.not_after(), issued + LIFETIME);
    assert_eq!(leaf.not_before(), issued - crate::authority::CLOCK_SKEW);
    for (case, received, expected) in [
        ("at once", issued, LIFETIME / 2),
        ("late", issued + LIFETIME / 2, LIFETIME / 4),
        ("too late", issued + LIFETIME * 2, Duration::ZERO),
    ] {
        assert_eq!(leaf.renewal_delay(received), expected, "case: {case}");
    }
}
