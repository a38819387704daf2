//! Tests of trust bundles.

use super::*;
use crate::testing::{CarelessAuthority, OddLeaf, TestMesh, trust_domain, workload};

#[test]
fn a_bundle_reads_as_it_was_printed() {
    let bundle = TestMesh::new().bundle;
    assert_eq!(bundle.anchors_der().count(), 2);
    let text = bundle.to_pem();
    assert_eq!(Bundle::from_pem(trust_domain(), text.as_bytes()).unwrap(), bundle);
}

#[test]
fn what_cannot_vouch_for_anybody_is_refused() {
    let authority = CarelessAuthority::new();
    let anchor = authority.anchor();
    let leaf = authority.mint_der(&OddLeaf::like(&workload("api")));
    for (case, anchors, expected) in [
        ("nothing", vec![], "no certificate"),
        ("noise", vec![vec![1, 2, 3]], "certificate 0"),
        ("a workload's", vec![anchor.clone(), leaf], "certificate 1"),
        ("too many", vec![anchor; ANCHOR_LIMIT + 1], "more than 16"),
    ] {
        let error = Bundle::from_der(trust_domain(), anchors).unwrap_err();
        assert!(error.to_string().contains(expected), "case: {case}: {error}");
    }
    for (case, text) in
        [("empty", ""), ("text", "trust me"), ("half", "-----BEGIN CERTIFICATE-----\nAAAA")]
    {
        assert!(Bundle::from_pem(trust_domain(), text.as_bytes()).is_err(), "case: {case}");
    }
}
