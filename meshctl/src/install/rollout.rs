//! Whether what was applied works yet: from an object as the API server has it to a word about it. Pure.

use serde_json::Value;

use crate::chart::kind::Kind;
use crate::kubernetes::field;

/// How far an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It works.
    Ready,
    /// Not yet: what is missing.
    Pending(String),
}

/// How far an object of this kind is; `None`: it is not there.
pub fn progress(kind: Kind, object: Option<&Value>) -> Progress {
    let Some(object) = object else {
        return Progress::Pending("it is not there".to_owned());
    };
    match kind {
        Kind::Deployment => deployment(object),
        Kind::CustomResourceDefinition => definition(object),
        Kind::MutatingWebhookConfiguration => webhook(object),
        Kind::Namespace
        | Kind::ServiceAccount
        | Kind::ClusterRole
        | Kind::ClusterRoleBinding
        | Kind::Role
        | Kind::RoleBinding
        | Kind::ConfigMap
        | Kind::NetworkPolicy
        | Kind::PodDisruptionBudget
        | Kind::PodMonitor
        | Kind::Service => Progress::Ready,
    }
}

/// All replicas are of the newest kind and available, as `kubectl rollout status` asks.
fn deployment(object: &Value) -> Progress {
    let number = |pointer: &str| field::number(object, pointer);
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Progress::Pending("its controller has not seen it yet".to_owned());
    }
    let (updated, all) = (number("/status/updatedReplicas"), number("/status/replicas"));
    let available = number("/status/availableReplicas");
    if updated < wanted {
        return Progress::Pending(format!("{updated} of {wanted} replicas are new"));
    }
    if all > updated {
        return Progress::Pending(format!("{} old replicas are ending", all - updated));
    }
    if available < updated {
        return Progress::Pending(format!("{available} of {wanted} replicas are available"));
    }
    Progress::Ready
}

fn definition(object: &Value) -> Progress {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let established = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    if established {
        Progress::Ready
    } else {
        Progress::Pending("the API server does not serve it yet".to_owned())
    }
}

/// The injector writes the bundle once it serves.
fn webhook(object: &Value) -> Progress {
    let webhooks = object["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
    let has_bundle = |webhook: &Value| {
        webhook
            .pointer("/clientConfig/caBundle")
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    if !webhooks.is_empty() && webhooks.iter().all(has_bundle) {
        Progress::Ready
    } else {
        Progress::Pending("the injector has not written its caBundle yet".to_owned())
    }
}

/// Why pods do not start, in words; nothing where nothing is wrong yet.
pub fn complaints(pods: &[Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    for pod in pods {
        let name = field::name(pod);
        for condition in field::list(pod, "/status/conditions") {
            if condition["type"] == "PodScheduled" && condition["status"] == "False" {
                complaints.push(format!("pod {name} is not scheduled: {}", message(condition)));
            }
        }
        complaints.extend(of_containers(pod, |_| true));
    }
    complaints
}

/// Why containers of a pod do not start, of those whose name is meant.
pub fn of_containers(pod: &Value, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let init = field::list(pod, "/status/initContainerStatuses");
    let statuses = init.iter().chain(field::list(pod, "/status/containerStatuses"));
    let waiting =
        statuses.filter(|status| is_meant(field::text(status, "/name"))).filter_map(|status| {
            let waiting = status.pointer("/state/waiting")?;
            let reason = field::text(waiting, "/reason");
            if ["ContainerCreating", "PodInitializing"].contains(&reason) {
                return None;
            }
            let ended = status.pointer("/lastState/terminated").map(|ended| {
                let said = field::text(ended, "/message").trim();
                let colon = if said.is_empty() { "" } else { ": " };
                format!("; it ended with code {}{colon}{said}", field::number(ended, "/exitCode"))
            });
            let (pod, container) = (field::name(pod), field::text(status, "/name"));
            let ended = ended.unwrap_or_default();
            Some(format!("pod {pod}, container {container}: {}{ended}", message(waiting)))
        });
    waiting.collect()
}

fn message(of: &Value) -> String {
    let reason = of["reason"].as_str().unwrap_or_default();
    match of["message"].as_str() {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_is_ready_when_all_replicas_are_new_and_available() {
        let deployment = |generation: u64, status: Value| json!({"metadata": {"generation": generation}, "spec": {"replicas": 2}, "status": status});
        for (case, object, expected) in [
            ("new", deployment(1, json!({})), Some("its controller has not seen it yet")),
            (
                "starting",
                deployment(
                    1,
                    json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}),
                ),
                Some("1 of 2 replicas are new"),
            ),
            (
                "rolling",
                deployment(
                    2,
                    json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}),
                ),
                Some("1 old replicas are ending"),
            ),
            (
                "not available",
                deployment(
                    1,
                    json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}),
                ),
                Some("1 of 2 replicas are available"),
            ),
            (
                "ready",
                deployment(
                    1,
                    json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}),
                ),
                None,
            ),
        ] {
            let expected =
                expected.map_or(Progress::Ready, |text| Progress::Pending(text.to_owned()));
            assert_eq!(progress(Kind::Deployment, Some(&object)), expected, "case: {case}");
        }
    }

    #[test]
    fn a_webhook_is_ready_with_its_bundle() {
        let webhooks = |bundles: &[&str]| {
            let webhooks =
                bundles.iter().map(|bundle| json!({"clientConfig": {"caBundle": bundle}}));
            json!({"webhooks": webhooks.collect::<Vec<_>>()})
        };
        let ready = |bundles: &[&str]| {
            progress(Kind::MutatingWebhookConfiguration, Some(&webhooks(bundles)))
                == Progress::Ready
        };
        assert!(ready(&["YQ==", "YQ=="]));
        assert!(!ready(&["YQ==", ""]) && !ready(&[]));
    }

    #[test]
    fn a_definition_is_ready_when_it_is_served() {
        let definition = |status: &str| json!({"status": {"conditions": [{"type": "Established", "status": status}]}});
        let ready = |object: &Value| {
            progress(Kind::CustomResourceDefinition, Some(object)) == Progress::Ready
        };
        assert!(ready(&definition("True")) && !ready(&definition("False")) && !ready(&json!({})));
        assert!(progress(Kind::Service, None) != Progress::Ready, "what is not there is not ready");
    }

    #[test]
    fn pods_say_why_they_do_not_start() {
        let pods = [
            json!({"metadata": {"name": "a"}, "status": {"containerStatuses": [
                {"name": "injector", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
            ]}}),
            json!({"metadata": {"name": "b"}, "status": {"containerStatuses": [
                {"name": "injector", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 2, "message": "no key\n"}}},
            ]}}),
            json!({"metadata": {"name": "c"}, "status": {"conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"},
            ]}}),
            json!({"metadata": {"name": "d"}, "status": {"containerStatuses": [
                {"name": "injector", "state": {"waiting": {"reason": "ContainerCreating"}}},
            ]}}),
        ];
        assert_eq!(
            complaints(&pods),
            [
                "pod a, container injector: ImagePullBackOff: no such image",
                "pod b, container injector: CrashLoopBackOff; it ended with code 2: no key",
                "pod c is not scheduled: Unschedulable: 0/1 nodes",
            ]
        );
    }
}
