//! The webhook's certificate is renewed while pods are made, and every one of them gets its proxy.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::wait;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::injection;
use super::mesh::{self, NAMESPACE};

/// What the injector presents, and whom the API server trusts there.
struct Serving {
    certificate: ByteString,
    authority: ByteString,
    bundles: Vec<String>,
}

impl Serving {
    async fn look(client: &Client) -> Result<Self> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
        let mut data = secrets.get("heddle-injector-tls").await?.data.unwrap_or_default();
        let mut part = |name: &str| data.remove(name).with_context(|| format!("no {name}"));
        let (certificate, authority) = (part("tls.crt")?, part("ca.crt")?);
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let webhooks = configurations.get("heddle-injector").await?.webhooks.unwrap_or_default();
        let bundle = |bundle: Option<ByteString>| {
            let bytes = bundle.map(|bundle| bundle.0).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let bundles = webhooks.into_iter().map(|it| bundle(it.client_config.ca_bundle)).collect();
        Ok(Self { certificate, authority, bundles })
    }

    /// Whether the API server trusts this authority, whichever of the webhooks it calls.
    fn trusts(&self, authority: &ByteString) -> bool {
        let authority = String::from_utf8_lossy(&authority.0);
        !self.bundles.is_empty() && self.bundles.iter().all(|bundle| bundle.contains(&*authority))
    }
}

/// Makes pods that the API server admits, and forgets.
struct Maker {
    pods: Api<Pod>,
    made: usize,
}

impl Maker {
    /// With `failurePolicy: Ignore`, a pod that the webhook was not asked about is one without a proxy.
    async fn make(&mut self, dry_run: bool) -> Result<String> {
        self.made += 1;
        let name = format!("made-{}", self.made);
        let app = json!({"name": "app", "image": "busybox:1", "command": ["sleep", "1000"]});
        let spec = json!({"containers": [app], "terminationGracePeriodSeconds": 0});
        let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
        let parameters = PostParams { dry_run, ..PostParams::default() };
        let making =
            tokio::time::timeout(Duration::from_secs(30), self.pods.create(&parameters, &pod));
        let pod = making.await.context("the API server does not answer")??;
        let containers = pod.spec.and_then(|spec| spec.init_containers).unwrap_or_default();
        let has_proxy = containers.iter().any(|container| container.name == "heddle-proxy");
        ensure!(has_proxy, "pod {} of this test has no proxy", self.made);
        Ok(name)
    }
}

#[tokio::test]
async fn the_webhooks_certificate_is_renewed_while_pods_are_made_and_each_gets_its_proxy()
-> Result<()> {
    let mesh = mesh::installed().await?;
    let namespace = mesh.namespace("renewal").await?;
    let client = mesh.cluster.client().await?;
    let mut maker = Maker { pods: Api::namespaced(client.clone(), &namespace), made: 0 };
    let before = Serving::look(&client).await?;
    let deadline = Instant::now() + RENEWAL_LIMIT;
    let after = loop {
        for _pod in 0..10 {
            maker.make(true).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let serving = Serving::look(&client).await?;
        ensure!(serving.trusts(&serving.authority), "what is presented is not trusted");
        if serving.certificate != before.certificate {
            break serving;
        }
        ensure!(Instant::now() < deadline, "not renewed within {RENEWAL_LIMIT:?}");
    };
    ensure!(after.authority != before.authority, "a new certificate of an old authority");
    ensure!(after.trusts(&before.authority), "a replica that lags behind is not trusted");
    // Connects as the API server does, and trusts the new authority alone.
    wait::until("the new certificate is presented", Duration::from_secs(60), async || {
        injection::connect(mesh).await.map(drop)
    })
    .await?;
    for _pod in 0..100 {
        maker.make(true).await?;
    }
    let name = maker.make(false).await?;
    let pod = format!("pod/{name}");
    let ready = ["-n", &namespace, "wait", "--for=condition=Ready", &pod, "--timeout=90s"];
    mesh.cluster.kubectl(&ready, "").await?;
    eprintln!("{} pods, each with a proxy", maker.made);
    mesh.cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"], "").await?;
    Ok(())
}

/// A certificate of five minutes is renewed after two thirds of that; the new one is announced for a minute first.
const RENEWAL_LIMIT: Duration = Duration::from_secs(420);
