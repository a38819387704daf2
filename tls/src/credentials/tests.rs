//! Tests of swapping.

use tokio::io::duplex;

use super::*;
use crate::control_plane;
use crate::testing::{CarelessAuthority, LIFETIME, TestMesh, now, trust_domain, workload};

#[test]
fn refused_credentials_leave_the_old_ones() {
    let mesh = TestMesh::new();
    let api = workload("api");
    let (writer, credentials) = mesh.credentials(&api);
    let not_after = credentials.leaf_not_after();

    let stranger = TestMesh::new();
    let error = writer.set_certificate(stranger.leaf(&api)).unwrap_err();
    assert!(matches!(error, CredentialsError::Refused(Refusal::UnknownAuthority)), "{error:?}");
    let old = mesh.leaf_issued_at(&api, now() - LIFETIME * 2);
    let error = writer.set_certificate(old).unwrap_err();
    assert!(matches!(error, CredentialsError::Refused(Refusal::Expired)), "{error:?}");
    let anchor = CarelessAuthority::new().anchor();
    let other = Bundle::from_der("other.local".parse().unwrap(), [anchor]).unwrap();
    let error = writer.set_bundle(other).unwrap_err();
    assert!(matches!(error, CredentialsError::WrongTrustDomain { .. }), "{error:?}");

    assert_eq!(credentials.leaf_not_after(), not_after);
    assert_eq!(credentials.bundle(), Some(mesh.bundle));
    assert_eq!(credentials.identity(), Some(api));
}

#[test]
fn a_certificate_before_any_bundle_is_refused() {
    let (writer, credentials) = channel(trust_domain());
    let error = writer.set_certificate(TestMesh::new().leaf(&workload("api"))).unwrap_err();
    assert!(matches!(error, CredentialsError::NoBundle), "{error:?}");
    assert_eq!(credentials.identity(), None);
}

#[tokio::test]
async fn every_swap_is_reported_and_nothing_else() {
    let mesh = TestMesh::new();
    let (writer, credentials) = channel(trust_domain());
    let mut reader = credentials.clone();
    let is_changed = |reader: &Credentials| reader.receiver.has_changed().unwrap();
    writer.set_bundle(mesh.bundle.clone()).unwrap();
    reader.changed().await;
    writer.set_bundle(mesh.bundle.clone()).unwrap();
    assert!(!is_changed(&reader), "the same bundle is no change");
    writer.set_certificate(TestMesh::new().leaf(&workload("api"))).unwrap_err();
    assert!(!is_changed(&reader), "a refused certificate is no change");
    writer.set_certificate(mesh.leaf(&workload("api"))).unwrap();
    reader.changed().await;
}

#[tokio::test]
async fn a_proxy_whose_certificate_expired_can_still_ask_for_another() {
    let mesh = TestMesh::new();
    let own = PeerIdentity::control_plane(&trust_domain()).unwrap();
    let (_server_writer, server) = mesh.credentials(&own);
    let (writer, client) = mesh.credentials(&workload("api"));
    // No writer takes an expired certificate; it expires while it is in use.
    let expired = mesh.leaf_issued_at(&workload("api"), now() - LIFETIME * 2);
    writer
        .swap(|old| Ok(Some(Snapshot::mutual(Arc::clone(old.trusting().unwrap()), expired)?)))
        .unwrap();

    let (near, far) = duplex(64 * 1024);
    let (connected, accepted) =
        tokio::join!(control_plane::connect(near, &client), control_plane::accept(far, &server));
    assert!(connected.is_ok());
    assert_eq!(accepted.unwrap().1, None);
}
