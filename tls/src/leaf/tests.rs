//! Tests of the parser. What it refuses, with its reasons, is in the handshake tests.

use proptest::collection::vec;
use proptest::prelude::*;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;

use super::*;
use crate::testing::{CarelessAuthority, OddLeaf, TestMesh, now, workload};
use crate::verify::{Presented, verify};

#[test]
fn an_issued_certificate_says_what_was_asked_for() {
    let peer = workload("api");
    let leaf = TestMesh::new().leaf(&peer);
    let parsed = Leaf::parse(&leaf.key().cert[0]).unwrap();
    assert_eq!(parsed.peer, peer);
    assert!(parsed.not_before < now() && now() < parsed.not_after);
}

#[test]
fn bytes_after_a_certificate_are_refused() {
    let mut der = CarelessAuthority::new().mint_der(&OddLeaf::like(&workload("api")));
    assert!(Leaf::parse(&der).is_ok());
    der.push(0);
    assert_eq!(Leaf::parse(&der), Err(Refusal::Unparsable));
}

/// The names that a generated certificate carries: good ones among others.
fn names() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![
        Just("spiffe://cluster.local/ns/shop/sa/api".to_owned()),
        Just("api-1.pod.cluster.local".to_owned()),
        "[ -~]{0,40}",
        "spiffe://[a-z.]{1,9}/ns/[a-z-]{1,9}/sa/[a-z/%]{1,9}",
    ];
    vec(one, 0..4)
}

proptest! {
    #[test]
    fn no_bytes_panic_the_parser(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Leaf::parse(&bytes);
    }

    #[test]
    fn no_change_of_a_certificate_panics_the_parser_or_passes_the_verifier(
        changes in vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mesh = TestMesh::new();
        let mut der = mesh.careless.mint_der(&OddLeaf::like(&workload("api")));
        let original = der.clone();
        for (position, difference) in changes {
            *position.get_mut(&mut der) ^= difference;
        }
        let _ = Leaf::parse(&der[..cut.index(der.len())]);
        let changed = CertificateDer::from(der);
        let presented = Presented { end_entity: &changed, intermediates: &[] };
        let verdict = verify(&presented, &mesh.bundle, KeyUsage::client_auth(), UnixTime::now());
        prop_assert_eq!(verdict.is_ok(), changed.as_ref() == original.as_slice());
    }

    #[test]
    fn whatever_is_read_is_exactly_what_is_written(uris in names(), dns in names()) {
        let leaf = OddLeaf {
            uris: uris.clone(), dns: dns.clone(), ..OddLeaf::like(&workload("api"))
        };
        let parsed = Leaf::parse(&CarelessAuthority::new().mint_der(&leaf));
        if let Ok(leaf) = parsed {
            prop_assert_eq!(uris, vec![leaf.peer.identity.to_string()]);
            prop_assert_eq!(dns, vec![leaf.peer.dns_name()]);
        }
    }
}
