//! A pod that asks for a proxy, tried with a dry run: what the API server makes of it tells whether the webhook answers. Nothing
//! is kept.

use std::time::Duration;

use kube::Api;
use kube::api::PostParams;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::facts::Probe;
use crate::kubernetes::client::Cluster;
use crate::kubernetes::objects::resource;

/// Tries it, and again for a while if it gets no proxy: an API server hears of a webhook and of its endpoints a moment after
/// they are ready.
pub async fn run(cluster: &Cluster) -> Probe {
    let until = Instant::now() + SETTLED_WITHIN;
    loop {
        let probe = once(cluster).await;
        let is_last = Instant::now() >= until;
        match probe {
            Probe::Injected | Probe::NotTried(_) => return probe,
            Probe::NotInjected | Probe::Refused(_) if is_last => return probe,
            Probe::NotInjected | Probe::Refused(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn once(cluster: &Cluster) -> Probe {
    let pods = resource("v1", "Pod", "pods");
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), NAMESPACE, &pods);
    let object = match serde_json::from_value(pod()) {
        Ok(object) => object,
        Err(error) => return Probe::NotTried(error.to_string()),
    };
    let parameters = PostParams { dry_run: true, field_manager: None };
    match api.create(&parameters, &object).await {
        Ok(made) => outcome(&serde_json::to_value(made).unwrap_or_default()),
        Err(error) => failed(&error),
    }
}

fn outcome(pod: &Value) -> Probe {
    let annotations = pod.pointer("/metadata/annotations");
    let injected = annotations.is_some_and(|annotations| {
        annotations.get(heddle_injector::annotations::INJECTED).is_some()
    });
    if injected { Probe::Injected } else { Probe::NotInjected }
}

fn failed(error: &kube::Error) -> Probe {
    let kube::Error::Api(status) = error else {
        return Probe::NotTried(error.to_string());
    };
    let message = status.message.clone();
    // With failurePolicy Fail the API server says which webhook it could not call, or which one refused.
    if message.contains(WEBHOOKS) {
        return Probe::Refused(message);
    }
    Probe::NotTried(message)
}

/// As restricted as a pod can be, so that no policy of the namespace has anything against it but for the proxy.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "heddle-check-",
            "namespace": NAMESPACE,
            "labels": {heddle_injector::annotations::INJECT: "enabled"},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "check",
                "image": "heddle.dev/never-started:0",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// Every cluster has it, and the mesh is never in it.
const NAMESPACE: &str = "default";

/// Longer than what is ready takes to be heard of.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// How our webhooks' names end.
const WEBHOOKS: &str = "heddle.dev\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_came_back_with_a_proxy_was_injected() {
        let with = json!({"metadata": {"annotations": {"heddle.dev/injected": "true"}}});
        assert_eq!(outcome(&with), Probe::Injected);
        assert_eq!(outcome(&json!({"metadata": {}})), Probe::NotInjected);
        assert_eq!(outcome(&pod()), Probe::NotInjected, "it has none of its own");
    }
}
