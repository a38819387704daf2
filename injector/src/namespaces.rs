//! What namespaces say: from memory, and from the API server where memory may be late. A namespace that was
//! labelled a moment ago, and the pods that were made in it right after, are the usual case.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use heddle_runtime::logging::Chain;
use heddle_runtime::readiness::Readiness;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::annotations::{self, OF_NAMESPACES, Wish};
use crate::api;

/// What namespaces say: their labels, and those of their annotations that mean something on a namespace.
/// Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    store: Store<Namespace>,
    api: Api<Namespace>,
}

/// Why a namespace's labels are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnknownNamespace {
    /// The API server has no answer.
    #[error("cannot read namespace {name}")]
    Api {
        /// Which.
        name: String,
        /// As it says.
        #[source]
        source: Box<kube::Error>,
    },
    /// It takes too long.
    #[error("cannot read namespace {name} in time")]
    Late {
        /// Which.
        name: String,
    },
}

impl Namespaces {
    /// Nothing is known yet; what keeps it up to date is the second one.
    pub(crate) fn new(api: Api<Namespace>) -> (Self, NamespacesWatch) {
        let (store, writer) = reflector::store();
        (Self { store, api: api.clone() }, NamespacesWatch { writer, api })
    }

    /// What one says. What is remembered is taken if it asks for proxies; otherwise the API server is
    /// asked, since it may have changed a moment ago.
    pub(crate) async fn said(
        &self,
        name: &str,
    ) -> Result<BTreeMap<String, String>, UnknownNamespace> {
        let remembered = self.remembered(name);
        if let Some(said) = &remembered
            && annotations::wish(said) == Ok(Wish::Enabled)
        {
            return Ok(said.clone());
        }
        let asked = tokio::time::timeout(LOOKUP_TIMEOUT, self.api.get(name)).await;
        let failed = match asked {
            Ok(Ok(namespace)) => return Ok(said(&namespace)),
            Ok(Err(source)) => {
                UnknownNamespace::Api { name: name.to_owned(), source: Box::new(source) }
            }
            Err(_) => UnknownNamespace::Late { name: name.to_owned() },
        };
        // Better a moment old than nothing.
        remembered.ok_or(failed)
    }

    /// All of them, as remembered.
    pub(crate) fn all(&self) -> Vec<std::sync::Arc<Namespace>> {
        self.store.state()
    }

    fn remembered(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let namespace = self.store.get(&ObjectRef::new(name))?;
        Some(said(&namespace))
    }

    /// What is remembered of one for the proxies of its pods, where it is the pod that says that it gets one.
    pub(crate) fn for_proxies(&self, name: &str) -> BTreeMap<String, String> {
        let mut said = self.remembered(name).unwrap_or_default();
        said.retain(|name, _| OF_NAMESPACES.contains(&name.as_str()));
        said
    }
}

/// Labels, and the annotations that count; those go before labels of the same name.
fn said(namespace: &Namespace) -> BTreeMap<String, String> {
    let mut said = namespace.metadata.labels.clone().unwrap_or_default();
    let annotations = namespace.metadata.annotations.iter().flatten();
    let counting = annotations.filter(|(name, _)| OF_NAMESPACES.contains(&name.as_str()));
    said.extend(counting.map(|(name, value)| (name.clone(), value.clone())));
    said
}

/// Keeps [`Namespaces`] up to date.
pub(crate) struct NamespacesWatch {
    writer: reflector::store::Writer<Namespace>,
    api: Api<Namespace>,
}

impl NamespacesWatch {
    /// Until the drain.
    pub(crate) async fn run(self, readiness: Readiness, drain: CancellationToken) {
        let store = self.writer.as_reader();
        let watched = watcher(self.api, api::watched()).default_backoff().modify(lighten);
        let mut events = pin!(reflector(self.writer, watched));
        let ready = async {
            if store.wait_until_ready().await.is_ok() {
                readiness.set_ready(NAMESPACES);
            }
        };
        let mut ready = pin!(ready);
        let mut is_ready = false;
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                () = &mut ready, if !is_ready => is_ready = true,
                event = events.next() => match event {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        debug!(error = %Chain(&error), "watching namespaces failed; it is tried again");
                    }
                    None => {
                        warn!("namespaces are not watched any more");
                        return;
                    }
                },
            }
        }
    }
}

/// Leaves of a namespace its name, its labels, and the annotations that count.
fn lighten(namespace: &mut Namespace) {
    namespace.metadata.managed_fields = None;
    if let Some(annotations) = &mut namespace.metadata.annotations {
        annotations.retain(|name, _| OF_NAMESPACES.contains(&name.as_str()));
    }
    namespace.spec = None;
    namespace.status = None;
}

/// Holds once all namespaces are known.
pub(crate) const NAMESPACES: &str = "namespaces";
/// Well below the few seconds that the API server gives an admission.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_namespaces_annotations_those_count_that_mean_something_there() {
        let object = json!({"metadata": {
            "name": "shop",
            "labels": {"heddle.dev/inject": "enabled", "heddle.dev/access-log": "errors"},
            "annotations": {
                "heddle.dev/access-log": "all",
                "heddle.dev/inject": "disabled",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
        }});
        let mut namespace: Namespace = serde_json::from_value(object).unwrap();
        let expected: BTreeMap<String, String> = [
            ("heddle.dev/access-log".to_owned(), "all".to_owned()),
            ("heddle.dev/inject".to_owned(), "enabled".to_owned()),
        ]
        .into();
        assert_eq!(said(&namespace), expected);
        lighten(&mut namespace);
        assert_eq!(said(&namespace), expected);
        assert_eq!(namespace.metadata.annotations.unwrap().len(), 1);
    }
}
