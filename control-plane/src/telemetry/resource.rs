//! Whose metrics are passed on: what a proxy's certificate proves, and what the control plane read of its pod, stand in
//! place of what the proxy claims of these. Pure.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;

use heddle_telemetry::otlp::text;

use crate::telemetry::proxy::Origin;

/// The resource with what is proven, and with what is said of all resources where it says nothing itself.
pub fn correct(
    claimed: Option<Resource>,
    origin: &Origin,
    of_all: &[(String, String)],
) -> Resource {
    let Resource { attributes, dropped_attributes_count, entity_refs: _ } =
        claimed.unwrap_or_default();
    let is_claim = |attribute: &KeyValue| !PROVEN.contains(&attribute.key.as_str());
    let mut attributes: Vec<KeyValue> = attributes.into_iter().filter(is_claim).collect();
    let uid = origin.pod_uid.as_str();
    // While the pod is not known, its UID stands for its name.
    let pod = Some(&*origin.pod).filter(|pod| *pod != uid);
    let deployment = Some(&*origin.workload.name).filter(|_| origin.workload.kind == "Deployment");
    let identity = origin.identity.to_string();
    for (key, value) in [
        (NAMESPACE, Some(origin.identity.namespace())),
        (POD, pod),
        (UID, Some(uid)),
        (INSTANCE, Some(uid)),
        (DEPLOYMENT, deployment),
        (IDENTITY, Some(&*identity)),
    ] {
        attributes.extend(value.map(|value| text(key, value)));
    }
    for (key, value) in of_all {
        if !PROVEN.contains(&key.as_str()) && attributes.iter().all(|known| known.key != *key) {
            attributes.push(text(key, value));
        }
    }
    Resource { attributes, dropped_attributes_count, entity_refs: Vec::new() }
}

const NAMESPACE: &str = "k8s.namespace.name";
const POD: &str = "k8s.pod.name";
const UID: &str = "k8s.pod.uid";
const INSTANCE: &str = "service.instance.id";
const DEPLOYMENT: &str = "k8s.deployment.name";
const IDENTITY: &str = "heddle.identity";
/// What nobody says of himself.
const PROVEN: [&str; 6] = [NAMESPACE, POD, UID, INSTANCE, DEPLOYMENT, IDENTITY];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::proxy::Workload;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    fn origin(kind: &str, pod: &str) -> Origin {
        Origin {
            pod_uid: "uid-1".parse().unwrap(),
            identity: "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap(),
            workload: Workload {
                kind: kind.to_owned(),
                namespace: "shop".to_owned(),
                name: "api".to_owned(),
            },
            pod: pod.to_owned(),
        }
    }

    fn said(resource: &Resource) -> Vec<(&str, &str)> {
        let said = resource.attributes.iter().map(|attribute| {
            let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
            let Some(Value::StringValue(value)) = value else { panic!("{attribute:?}") };
            (&*attribute.key, &**value)
        });
        said.collect()
    }

    #[test]
    fn what_is_proven_stands_in_place_of_what_is_claimed() {
        let claims = [
            ("k8s.pod.uid", "another"),
            ("service.name", "checkout"),
            ("heddle.identity", "spiffe://cluster.local/ns/bank/sa/vault"),
            ("k8s.namespace.name", "bank"),
            ("k8s.pod.uid", "and another"),
            ("k8s.deployment.name", "vault"),
            ("service.instance.id", "another"),
        ];
        let claimed = Resource {
            attributes: claims.map(|(key, value)| text(key, value)).to_vec(),
            ..Resource::default()
        };
        let of_all = [
            ("k8s.cluster.name", "east"),
            ("service.name", "everybody"),
            ("k8s.deployment.name", "everybody"),
        ];
        let of_all = of_all.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let corrected = correct(Some(claimed), &origin("Deployment", "api-1"), &of_all);
        let expected = [
            ("service.name", "checkout"),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "api-1"),
            ("k8s.pod.uid", "uid-1"),
            ("service.instance.id", "uid-1"),
            ("k8s.deployment.name", "api"),
            ("heddle.identity", "spiffe://cluster.local/ns/shop/sa/api"),
            ("k8s.cluster.name", "east"),
        ];
        assert_eq!(said(&corrected), expected);
    }

    #[test]
    fn of_a_pod_that_is_not_known_only_its_certificate_speaks() {
        let corrected = correct(None, &origin("Pod", "uid-1"), &[]);
        let expected = [
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.uid", "uid-1"),
            ("service.instance.id", "uid-1"),
            ("heddle.identity", "spiffe://cluster.local/ns/shop/sa/api"),
        ];
        assert_eq!(said(&corrected), expected);
    }
}
