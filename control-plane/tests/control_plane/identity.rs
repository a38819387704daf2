//! Certificates.

use std::net::Ipv4Addr;
use std::time::Duration;

use heddle_proto::identity::WatchTrustBundleRequest;
use heddle_proto::identity::identity_client::IdentityClient;
use heddle_tls::certificate::CertificateRequest;
use tokio::io::AsyncReadExt;
use tonic::Code;

use crate::client::{Client, connect_from};
use crate::world::World;

#[tokio::test]
async fn a_join_token_gets_a_certificate_of_its_pod() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let own = client.credentials.identity().unwrap();
    assert_eq!(own.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/frontend");
    assert_eq!(own.pod_uid.as_str(), "frontend-1");
    let status = world.status().await;
    let authority = status.authority.unwrap();
    assert_eq!((authority.certificates_issued, authority.certificates_refused), (1, 0));
    assert!(authority.anchor_not_after > authority.issuer_not_after);
}

#[tokio::test]
async fn a_token_counts_only_for_the_live_pod_it_was_given_to() {
    let world = World::start().await;
    let client = Client::new(&world);
    for (case, token) in [
        ("unknown", "guessed"),
        ("empty", ""),
        ("of a deleted pod", "of the deleted"),
        ("for another service account", "stolen"),
    ] {
        let request = CertificateRequest::generate().unwrap();
        let refused = client.certify(&world, token, request.der().to_vec()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "case: {case}");
    }
    let authority = world.status().await.authority.unwrap();
    assert_eq!((authority.certificates_issued, authority.certificates_refused), (0, 4));
}

#[tokio::test]
async fn a_token_is_of_no_use_elsewhere() {
    let world = World::start().await;
    let mut client = Client::new(&world);
    client.source = Ipv4Addr::new(127, 0, 0, 2);
    let request = CertificateRequest::generate().unwrap();
    let refused = client.certify(&world, "secret", request.der().to_vec()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("127.0.0.2"), "{}", refused.message());
}

#[tokio::test]
async fn nobody_gets_the_name_of_the_control_plane() {
    let world = World::start().await;
    world.write(
        "impostor.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: heddle-system, uid: impostor-1}\n\
         spec: {serviceAccountName: heddle-control-plane, containers: [{name: a}]}\n\
         status: {podIP: 127.0.0.1}\n",
    );
    world.status_where(|status| status.objects.iter().any(|object| object.name == "a")).await;
    let client = Client::new(&world);
    let request = CertificateRequest::generate().unwrap();
    let der = request.der().to_vec();
    let refused = client.certify(&world, "for the control plane", der).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_pod_without_an_address_has_to_ask_again() {
    let world = World::start().await;
    world.write(
        "store.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: store, namespace: shop, uid: store-1}\n\
         spec: {serviceAccountName: store, containers: [{name: a}]}\n",
    );
    world.status_where(|status| status.objects.iter().any(|object| object.name == "store")).await;
    let client = Client::new(&world);
    let request = CertificateRequest::generate().unwrap();
    let der = request.der().to_vec();
    let refused = client.certify(&world, "secret of store", der).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("is not known yet"), "{refused}");
}

#[tokio::test]
async fn metrics_tell_of_the_authority_and_why_certificates_were_refused() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    let request = || CertificateRequest::generate().unwrap().der().to_vec();
    client.certify(&world, "guessed", request()).await.unwrap_err();
    client.certify(&world, "stolen", request()).await.unwrap_err();
    client.certify(&world, "secret", vec![1]).await.unwrap_err();
    let metrics = world.metrics().await;
    let authority = world.status().await.authority.unwrap();
    for expected in [
        "heddle_control_plane_leader 1".to_owned(),
        "heddle_control_plane_authority_usable 1".to_owned(),
        format!(
            "heddle_control_plane_certificate_expiry_seconds{{certificate=\"root\"}} {}",
            authority.anchor_not_after
        ),
        format!(
            "heddle_control_plane_certificate_expiry_seconds{{certificate=\"issuer\"}} {}",
            authority.issuer_not_after
        ),
        refused("unknown_token", 1),
        refused("no_live_pod", 1),
        refused("bad_request", 1),
        refused("too_many", 0),
    ] {
        assert!(metrics.lines().any(|line| line == expected), "{expected}: {metrics}");
    }
    assert_eq!(authority.certificates_refused, 3);
}

fn refused(reason: &str, count: u32) -> String {
    format!("heddle_control_plane_certificates_refused_total{{reason=\"{reason}\"}} {count}")
}

#[tokio::test]
async fn silent_connections_from_one_address_end_soon_and_hold_up_nobody_else() {
    let world = World::start().await;
    let source = Ipv4Addr::new(127, 0, 0, 2);
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect_from(source, world.address()).await.unwrap());
    }
    Client::certified(&world).await;
    // Sooner than a whole handshake may take.
    let ended = tokio::time::timeout(Duration::from_secs(8), async {
        for connection in &mut silent {
            // Closed, or reset; either way it is over.
            let _ = connection.read(&mut [0; 1]).await;
        }
    });
    assert!(ended.await.is_ok(), "silent connections live on");
}

#[tokio::test]
async fn a_token_ends_with_its_pod() {
    let world = World::start().await;
    let client = Client::certified(&world).await;
    world.write("shop.yaml", "# closed\n");
    world.status_where(|status| status.objects.len() == 1).await;
    let request = CertificateRequest::generate().unwrap();
    let refused = client.certify(&world, "secret", request.der().to_vec()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_request_that_is_none_is_refused() {
    let world = World::start().await;
    let client = Client::new(&world);
    let refused = client.certify(&world, "secret", vec![1, 2, 3]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_trust_bundle_is_told_at_once() {
    let world = World::start().await;
    let client = Client::new(&world);
    let mut identity = IdentityClient::new(client.channel(world.address()).await);
    let bundles = identity.watch_trust_bundle(WatchTrustBundleRequest {}).await;
    let mut bundles = bundles.unwrap().into_inner();
    let first = tokio::time::timeout(Duration::from_secs(5), bundles.message()).await;
    let first = first.unwrap().unwrap().unwrap();
    let known: Vec<Vec<u8>> =
        client.credentials.bundle().unwrap().anchors_der().map(<[u8]>::to_vec).collect();
    assert_eq!((first.trust_domain.as_str(), first.anchors_der), ("cluster.local", known));
}

#[tokio::test]
async fn the_keys_and_the_admin_socket_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;

    let world = World::start().await;
    let mode = |name: &str| {
        let metadata = std::fs::metadata(world.root.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("admin.sock"), 0o600);
    for entry in std::fs::read_dir(world.root.path().join("state")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let wanted = match name.as_str() {
            "trust-anchors.pem" => continue,
            "last-good" => 0o700,
            _ => 0o600,
        };
        assert_eq!(mode(&format!("state/{name}")), wanted, "case: {name}");
    }
}
