//! What the authority is kept with in a cluster: a Secret, a ConfigMap for what replicas tell each other, and
//! one for trust anchors in every namespace that needs them.

use std::time::Duration;

use heddle_model::identity::TrustDomain;
use kube::Client;
use tokio::sync::watch;

use crate::identity::anchors::{Distributor, Published};
use crate::identity::custodian::{Authorities, Leads, Setup};
use crate::identity::replicas::{Population, Replicas, Shared};
use crate::identity::store::Store;
use crate::identity::store::secret::{SecretStore, Watched};
use crate::push::publisher::Snapshots;

/// Where this control plane is.
pub struct InCluster {
    /// Asks the API server.
    pub client: Client,
    /// The mesh's.
    pub namespace: String,
    /// This pod.
    pub pod_name: String,
    /// Whether this process leads now.
    pub leads: Leads,
}

/// What has to run beside the custodian.
#[derive(Debug)]
pub struct Beside {
    watched: Watched,
    published: watch::Sender<Published>,
}

impl InCluster {
    /// What a custodian works with, and what has to run beside it.
    pub fn setup(
        &self,
        trust_domain: TrustDomain,
        leaf_lifetime: Duration,
        population: Population,
    ) -> (Setup, Beside) {
        let Self { client, namespace, pod_name, leads } = self;
        let store = SecretStore::new(client, namespace, pod_name);
        let watched = store.watched();
        let (published, publishes) = watch::channel(Published::default());
        let setup = Setup {
            store: Store::Secret(Box::new(store)),
            trust_domain,
            leaf_lifetime,
            population,
            replicas: Replicas::Several(Box::new(Shared::new(client, namespace, pod_name))),
            leads: leads.clone(),
            published: Some(publishes),
        };
        (setup, Beside { watched, published })
    }

    /// Writes trust anchors to where new proxies find them; and what [`SecretStore::watch`] needs.
    pub fn distributor(
        &self,
        authorities: Authorities,
        snapshots: Snapshots,
        beside: Beside,
    ) -> (Distributor, Watched) {
        let Beside { watched, published } = beside;
        let leads = self.leads.clone();
        let distributor =
            Distributor::new(self.client.clone(), authorities, snapshots, leads, published);
        (distributor, watched)
    }
}

impl std::fmt::Debug for InCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InCluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
