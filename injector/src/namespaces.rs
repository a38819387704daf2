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

use crate::annotations::{self, Wish};
use crate::api;

/// The labels of namespaces. Clones share them.
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

    /// The labels of one. What is remembered is taken if it asks for proxies; otherwise the API server is
    /// asked, since it may have changed a moment ago.
    pub(crate) async fn labels(
        &self,
        name: &str,
    ) -> Result<BTreeMap<String, String>, UnknownNamespace> {
        let remembered = self.remembered(name);
        if let Some(labels) = &remembered
            && annotations::wish(labels) == Ok(Wish::Enabled)
        {
            return Ok(labels.clone());
        }
        let asked = tokio::time::timeout(LOOKUP_TIMEOUT, self.api.get(name)).await;
        let failed = match asked {
            Ok(Ok(namespace)) => return Ok(namespace.metadata.labels.unwrap_or_default()),
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
        Some(namespace.metadata.labels.clone().unwrap_or_default())
    }
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

/// Leaves of a namespace its name and labels.
fn lighten(namespace: &mut Namespace) {
    namespace.metadata.managed_fields = None;
    namespace.metadata.annotations = None;
    namespace.spec = None;
    namespace.status = None;
}

/// Holds once all namespaces are known.
pub(crate) const NAMESPACES: &str = "namespaces";
/// Well below the few seconds that the API server gives an admission.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
