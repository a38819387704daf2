//! The MutatingWebhookConfiguration: whether the API server trusts our certificate there, and the patch that
//! makes it. Pure; keeper.rs does it.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use serde_json::{Value, json};

/// What is to be done about a configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Repair {
    /// Nothing: it has this bundle.
    None,
    /// This patch. It fails if somebody was faster.
    Patch(Patch),
    /// Nothing can be done: no webhook of it calls our Service.
    NotOurs,
}

/// What makes every webhook that calls this Service trust this bundle (PEM).
pub(crate) fn repair(
    configuration: &MutatingWebhookConfiguration,
    (namespace, service): (&str, &str),
    bundle: &str,
) -> Repair {
    let calls_us = |webhook: &MutatingWebhook| {
        let called = webhook.client_config.service.as_ref();
        called.is_some_and(|called| called.name == service && called.namespace == namespace)
    };
    let webhooks = configuration.webhooks.iter().flatten().enumerate();
    let ours: Vec<(usize, &MutatingWebhook)> =
        webhooks.filter(|(_, webhook)| calls_us(webhook)).collect();
    if ours.is_empty() {
        return Repair::NotOurs;
    }
    let mut operations = Vec::new();
    for (index, webhook) in ours {
        let present = webhook.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
        if present == Some(bundle.as_bytes()) {
            continue;
        }
        let index = index.to_string();
        // By its place, which another writer can change: the name is looked at, too.
        operations.push(test(["webhooks", &index, "name"], json!(webhook.name)));
        operations.push(PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(["webhooks", &index, "clientConfig", "caBundle"]),
            value: json!(ByteString(bundle.as_bytes().to_vec())),
        }));
    }
    if operations.is_empty() {
        return Repair::None;
    }
    if let Some(version) = &configuration.metadata.resource_version {
        operations.insert(0, test(["metadata", "resourceVersion"], json!(version)));
    }
    Repair::Patch(Patch(operations))
}

fn test<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation { path: PointerBuf::from_tokens(path), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: (&str, &str) = ("heddle-system", "heddle-injector");

    fn configuration(webhooks: Value) -> Value {
        json!({"metadata": {"name": "heddle-injector", "resourceVersion": "7"}, "webhooks": webhooks})
    }

    fn webhook(name: &str, service: &str, bundle: Option<&str>) -> Value {
        let service = json!({"name": service, "namespace": "heddle-system", "path": "/inject"});
        let bundle = bundle.map(|text| ByteString(text.as_bytes().to_vec()));
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": service, "caBundle": bundle},
        })
    }

    fn repaired(object: &Value) -> Repair {
        repair(&serde_json::from_value(object.clone()).unwrap(), OURS, "new")
    }

    #[test]
    fn every_webhook_of_ours_is_given_the_bundle_and_no_other() {
        let mut object = configuration(json!([
            webhook("a", "other", Some("theirs")),
            webhook("b", "heddle-injector", Some("old")),
            webhook("c", "heddle-injector", None),
        ]));
        let Repair::Patch(patch) = repaired(&object) else { panic!("nothing is repaired") };
        json_patch::patch(&mut object, &patch).unwrap();
        let bundle = |index: usize| object["webhooks"][index]["clientConfig"]["caBundle"].clone();
        let encoded = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
        assert_eq!(
            [bundle(0), bundle(1), bundle(2)],
            [encoded("theirs"), encoded("new"), encoded("new")]
        );
        assert_eq!(repaired(&object), Repair::None);
    }

    #[test]
    fn who_was_faster_is_not_overwritten() {
        let object = configuration(json!([webhook("b", "heddle-injector", None)]));
        let Repair::Patch(patch) = repaired(&object) else { panic!("nothing is repaired") };
        let mut changed = object.clone();
        changed["metadata"]["resourceVersion"] = json!("8");
        assert!(json_patch::patch(&mut changed, &patch).is_err());
        let mut moved = object;
        moved["webhooks"].as_array_mut().unwrap().insert(0, webhook("a", "other", None));
        assert!(json_patch::patch(&mut moved, &patch).is_err());
    }

    #[test]
    fn a_configuration_without_a_webhook_of_ours_is_left_alone() {
        assert_eq!(repaired(&configuration(json!([webhook("a", "other", None)]))), Repair::NotOurs);
        assert_eq!(repaired(&configuration(json!(null))), Repair::NotOurs);
    }
}
