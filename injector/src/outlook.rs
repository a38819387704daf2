//! What would be found of each pod, for every word that its namespace may say: all that is kept of it, and
//! nothing of most. Pure; coverage.rs watches, and report.rs says what a finding is.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::runtime::watcher;

use crate::annotations::{self, INJECT, Wish};
use crate::report::{self, Finding, FindingKind, PodReference};

/// What would be found of all pods.
#[derive(Debug, Default)]
pub(crate) struct Outlooks {
    known: BTreeMap<Key, Outlook>,
    /// What a list held so far; `None`: no list is under way.
    listed: Option<BTreeMap<Key, Outlook>>,
    complete: bool,
}

/// Namespace and name.
type Key = (String, String);

/// What would be found of a pod, of which something would.
#[derive(Debug)]
struct Outlook {
    uid: String,
    unsaid: Box<[FindingKind]>,
    enabled: Box<[FindingKind]>,
    disabled: Box<[FindingKind]>,
}

impl Outlooks {
    /// Takes in what the API server says.
    pub(crate) fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed = Some(BTreeMap::new()),
            watcher::Event::InitApply(pod) => {
                if let Some(outlook) = Outlook::new(&pod) {
                    self.listed.get_or_insert_default().insert(key(&pod), outlook);
                }
            }
            watcher::Event::InitDone => {
                self.known = self.listed.take().unwrap_or_default();
                self.complete = true;
            }
            watcher::Event::Apply(pod) => match Outlook::new(&pod) {
                Some(outlook) => {
                    self.known.insert(key(&pod), outlook);
                }
                None => {
                    self.known.remove(&key(&pod));
                }
            },
            watcher::Event::Delete(pod) => {
                self.known.remove(&key(&pod));
            }
        }
    }

    /// Whether all pods were looked at: half of a list would say that pods are covered that were not.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// What is found, given what namespaces say; the same as [`report::report`] finds of the same pods.
    pub(crate) fn findings(&self, namespaces: &[Arc<Namespace>]) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut wishes = BTreeMap::new();
        for namespace in namespaces {
            let Some(name) = namespace.metadata.name.as_deref() else { continue };
            match namespace.metadata.labels.as_ref().map(annotations::wish) {
                None => {}
                Some(Ok(wish)) => {
                    wishes.insert(name, wish);
                }
                // It is told once, and not with each of its pods.
                Some(Err(invalid)) => found.push(Finding {
                    namespace: name.to_owned(),
                    pod: None,
                    kind: FindingKind::Namespace(invalid),
                }),
            }
        }
        for ((namespace, name), outlook) in &self.known {
            let wish = wishes.get(namespace.as_str()).copied().unwrap_or(Wish::Unsaid);
            let finding = |kind: &FindingKind| Finding {
                namespace: namespace.clone(),
                pod: Some(PodReference { name: name.clone(), uid: outlook.uid.clone() }),
                kind: kind.clone(),
            };
            found.extend(outlook.of(wish).iter().map(finding));
        }
        report::sort(&mut found);
        found
    }
}

impl Outlook {
    /// `None`: nothing would be found, whatever its namespace says.
    fn new(pod: &Pod) -> Option<Self> {
        let found = |word: Option<&str>| -> Box<[FindingKind]> {
            let label = word.map(|word| (INJECT.to_owned(), word.to_owned()));
            let labels = label.into_iter().collect();
            report::of_pod(pod, &labels).into_iter().map(|finding| finding.kind).collect()
        };
        let outlook = Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            unsaid: found(None),
            enabled: found(Some("enabled")),
            disabled: found(Some("disabled")),
        };
        let all = [&outlook.unsaid, &outlook.enabled, &outlook.disabled];
        let is_empty = all.into_iter().all(|found| found.is_empty());
        (!is_empty).then_some(outlook)
    }

    fn of(&self, wish: Wish) -> &[FindingKind] {
        match wish {
            Wish::Unsaid => &self.unsaid,
            Wish::Enabled => &self.enabled,
            Wish::Disabled => &self.disabled,
        }
    }
}

fn key(pod: &Pod) -> Key {
    let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    (namespace, pod.metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pods() -> Vec<Pod> {
        let app = json!({"containers": [{"name": "app", "env": [{"name": "A", "value": "long"}]}]});
        let mut host = app.clone();
        host["hostNetwork"] = json!(true);
        let ours = json!([{"name": "heddle-redirect"}, {"name": "heddle-proxy", "restartPolicy": "Always"}]);
        let volumes = json!([{"name": "heddle-token", "projected": {}}, {"name": "heddle-trust", "configMap": {"name": "a"}}]);
        let udp = json!([{"name": "app", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]);
        let shapes = [
            ("plain", app.clone(), json!({})),
            ("host", host, json!({})),
            ("asks", app.clone(), json!({"heddle.dev/inject": "enabled"})),
            ("declines", app.clone(), json!({"heddle.dev/inject": "disabled"})),
            ("odd", app.clone(), json!({"heddle.dev/inject": "maybe"})),
            ("bad", app.clone(), json!({"heddle.dev/skip-inbound-ports": "x"})),
            ("claims", app, json!({"heddle.dev/injected": "true"})),
            (
                "meshed",
                json!({"containers": udp, "initContainers": ours, "volumes": volumes}),
                json!({"heddle.dev/injected": "true"}),
            ),
        ];
        let mut pods = Vec::new();
        for namespace in ["shop", "plain", "off", "odd", "kube-system", "unknown"] {
            for (name, spec, annotations) in &shapes {
                let metadata = json!({"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "annotations": annotations});
                let object =
                    json!({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}});
                pods.push(serde_json::from_value(object).unwrap());
            }
        }
        pods
    }

    fn namespaces() -> Vec<Arc<Namespace>> {
        let namespace = |name: &str, labels: Value| {
            let object = json!({"metadata": {"name": name, "labels": labels}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        vec![
            namespace("shop", json!({"heddle.dev/inject": "enabled"})),
            namespace("plain", json!({"a": "b"})),
            namespace("off", json!({"heddle.dev/inject": "disabled"})),
            namespace("odd", json!({"heddle.dev/inject": "maybe"})),
            namespace("kube-system", json!({"heddle.dev/inject": "enabled"})),
        ]
    }

    fn listed(pods: Vec<Pod>) -> Outlooks {
        let mut outlooks = Outlooks::default();
        outlooks.take(watcher::Event::Init);
        for pod in pods {
            outlooks.take(watcher::Event::InitApply(pod));
        }
        assert!(!outlooks.is_complete());
        outlooks.take(watcher::Event::InitDone);
        outlooks
    }

    fn reported(pods: &[Pod]) -> Vec<Finding> {
        let namespaces: Vec<Namespace> = namespaces().iter().map(|it| (**it).clone()).collect();
        report::report(pods, &namespaces)
    }

    #[test]
    fn what_is_kept_of_pods_is_enough_to_find_the_same() {
        let found = listed(pods()).findings(&namespaces());
        assert_eq!(found, reported(&pods()));
        assert!(found.len() > 10, "{found:?}");
    }

    #[test]
    fn of_a_pod_that_is_in_order_nothing_is_kept() {
        let mut outlooks = listed(Vec::new());
        let mut pod = pods().remove(0);
        outlooks.take(watcher::Event::Apply(pod.clone()));
        assert_eq!(outlooks.known.len(), 1, "its namespace could ask for a proxy");
        pod.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
        outlooks.take(watcher::Event::Apply(pod));
        assert_eq!(outlooks.known.len(), 0);
    }

    #[test]
    fn changes_are_followed_and_a_new_list_replaces_the_old_one_when_it_is_complete() {
        let mut outlooks = listed(pods());
        let gone = pods().remove(0);
        outlooks.take(watcher::Event::Delete(gone));
        assert_eq!(outlooks.findings(&namespaces()), reported(&pods()[1..]));
        outlooks.take(watcher::Event::Init);
        assert_eq!(outlooks.findings(&namespaces()), reported(&pods()[1..]), "the old one stays");
        outlooks.take(watcher::Event::InitApply(pods().remove(0)));
        outlooks.take(watcher::Event::InitDone);
        assert_eq!(outlooks.findings(&namespaces()), reported(&pods()[..1]));
    }
}
