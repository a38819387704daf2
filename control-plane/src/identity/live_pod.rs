//! Whether a token's pod lives, is what the token says, and may be where a request comes from. What a
//! token says is told in `join_tokens.rs` and `token_review.rs`.

use std::net::IpAddr;
use std::time::Duration;

use heddle_model::identity::PodUid;

use crate::identity::attest::{Attested, NotAttested};
use crate::push::publisher::Snapshots;
use crate::snapshot::{Contents, Snapshot};

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Of the service account.
    pub namespace: String,
    /// Whose token it is.
    pub service_account: String,
    /// The pod that it was given to.
    pub pod_uid: PodUid,
    /// That pod's name, if the token says it.
    pub pod_name: Option<String>,
}

/// Holds a claim against what is known of the pod. A workload may ask before the source has told of it, or of
/// its address: that is waited for, but no longer than `patience`.
pub async fn prove(
    snapshots: &Snapshots,
    claim: &Claim,
    from: IpAddr,
    patience: Duration,
) -> Result<Attested, NotAttested> {
    let mut changes = snapshots.clone();
    let judge = |snapshot: &Option<Snapshot>| {
        judge(snapshot.as_ref().map(|snapshot| &*snapshot.contents), claim, from)
    };
    let known = changes.wait_for(|snapshot| judge(snapshot).is_ok());
    let _ = tokio::time::timeout(patience, known).await.is_ok();
    let snapshot = snapshots.borrow();
    judge(&snapshot)
}

fn judge(
    contents: Option<&Contents>,
    claim: &Claim,
    from: IpAddr,
) -> Result<Attested, NotAttested> {
    let what = "the configuration has not been read yet";
    let contents = contents.ok_or(NotAttested::Unavailable { what, source: None })?;
    let Claim { namespace, service_account, pod_uid, pod_name } = claim;
    let pod = contents.pods.get(pod_uid).filter(|pod| {
        pod.live
            && pod.identity.namespace() == namespace
            && pod.identity.service_account() == service_account
            && pod_name.as_ref().is_none_or(|name| *name == pod.reference.name)
    });
    let pod = pod.ok_or_else(|| NotAttested::NoLivePod {
        namespace: namespace.clone(),
        service_account: service_account.clone(),
        pod_uid: pod_uid.clone(),
    })?;
    if pod.calls_from.contains(&from) {
        return Ok(Attested { identity: pod.identity.clone(), pod_uid: pod_uid.clone() });
    }
    if pod.calls_from.is_empty() {
        let what = "the address of the token's pod is not known yet";
        return Err(NotAttested::Unavailable { what, source: None });
    }
    Err(NotAttested::OtherAddress { pod_uid: pod_uid.clone(), from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use crate::source::Event;
    use crate::source::document::read_file;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, uid: u-1}
spec: {serviceAccountName: api, containers: []}
status: {phase: Running, podIP: 10.0.0.1}
";

    fn check(pod: &str, claim: &Claim, from: &str) -> Result<String, String> {
        let mut index = Index::new("cluster.local".parse().unwrap());
        for object in read_file("pod.yaml", pod).objects {
            index.apply(Event::Applied(object.into()));
        }
        let contents = index.contents(&Contents::default());
        judge(Some(&contents), claim, from.parse().unwrap())
            .map(|attested| attested.identity.to_string())
            .map_err(|error| error.to_string())
    }

    fn claim() -> Claim {
        Claim {
            namespace: "shop".to_owned(),
            service_account: "api".to_owned(),
            pod_uid: "u-1".parse().unwrap(),
            pod_name: Some("api-1".to_owned()),
        }
    }

    #[test]
    fn a_claim_counts_from_where_its_pod_is_and_from_nowhere_while_that_is_not_known() {
        let on_host = |pod: &str| pod.replace("containers", "hostNetwork: true, containers");
        let young = POD.replace(", podIP: 10.0.0.1", "");
        for (case, pod, from, expected) in [
            ("its own address", POD.to_owned(), "10.0.0.1", ""),
            ("another address", POD.to_owned(), "10.0.0.2", "does not have the address"),
            ("its node's address", on_host(POD), "10.0.0.1", ""),
            ("another node's address", on_host(POD), "10.0.0.2", "does not have the address"),
            ("no address yet", young.clone(), "10.0.0.1", "at present: the address of the token's"),
            ("on the host, no address yet", on_host(&young), "10.0.0.1", "is not known yet"),
        ] {
            let error = check(&pod, &claim(), from).err().unwrap_or_default();
            assert_eq!(error.is_empty(), expected.is_empty(), "case: {case}: {error}");
            assert!(error.contains(expected), "case: {case}: {error}");
        }
    }

    #[test]
    fn a_claim_must_be_that_of_a_live_pod() {
        let claim = claim();
        let identity = "spiffe://cluster.local/ns/shop/sa/api";
        assert_eq!(check(POD, &claim, "10.0.0.1").unwrap(), identity);
        let unnamed = Claim { pod_name: None, ..claim.clone() };
        assert_eq!(check(POD, &unnamed, "10.0.0.1").unwrap(), identity);
        for (case, pod, claim, from, expected) in [
            (
                "another address",
                POD.to_owned(),
                claim.clone(),
                "10.0.0.2",
                "does not have the address",
            ),
            (
                "finished",
                POD.replace("Running", "Succeeded"),
                claim.clone(),
                "10.0.0.1",
                "no live pod",
            ),
            ("recreated", POD.replace("u-1", "u-2"), claim.clone(), "10.0.0.1", "no live pod"),
            (
                "another name",
                POD.to_owned(),
                Claim { pod_name: Some("api-2".to_owned()), ..claim.clone() },
                "10.0.0.1",
                "no live pod",
            ),
            (
                "another account",
                POD.to_owned(),
                Claim { service_account: "web".to_owned(), ..claim.clone() },
                "10.0.0.1",
                "no live pod",
            ),
            (
                "another namespace",
                POD.to_owned(),
                Claim { namespace: "bank".to_owned(), ..claim.clone() },
                "10.0.0.1",
                "no live pod",
            ),
        ] {
            let error = check(&pod, &claim, from).unwrap_err();
            assert!(error.contains(expected), "case: {case}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_comes_late_is_waited_for() {
        let contents = |pod: &str| {
            let mut index = Index::new("cluster.local".parse().unwrap());
            for object in read_file("pod.yaml", pod).objects {
                index.apply(Event::Applied(object.into()));
            }
            let contents = std::sync::Arc::new(index.contents(&Contents::default()));
            Some(Snapshot::first(heddle_model::resource::Version(1), contents))
        };
        let young = POD.replace(", podIP: 10.0.0.1", "");
        let (sender, snapshots) = tokio::sync::watch::channel(contents(&young));
        let claim = claim();
        let from = "10.0.0.1".parse().unwrap();
        let patience = Duration::from_secs(3);
        let late = prove(&snapshots, &claim, from, patience).await;
        assert!(matches!(late, Err(NotAttested::Unavailable { .. })), "{late:?}");
        let told = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send_replace(contents(POD));
        };
        let (proven, ()) = tokio::join!(prove(&snapshots, &claim, from, patience), told);
        assert!(proven.is_ok(), "{proven:?}");
    }
}
