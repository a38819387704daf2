//! Who may look at single requests, on a real API server: whom its own rules let, and nobody else; and proxies of both
//! control planes are heard.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::mesh::{self, Mesh, NAMESPACE};
use super::shop::Shop;
use super::traffic::shop;

/// An account that has no rights, and a binding that gives it the one.
const BINDING: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewer-taps}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: heddle-tap}
subjects: [{kind: ServiceAccount, name: viewer}]
"#;

/// It may reach the control plane, as port-forwarding is allowed to many, and make no tokens.
fn reaches(namespace: &str) -> String {
    format!(
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reaches-{namespace}, namespace: {NAMESPACE}}}
rules:
- {{apiGroups: [""], resources: [pods], verbs: [get, list]}}
- {{apiGroups: [""], resources: [pods/portforward], verbs: [create, get]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reaches-{namespace}, namespace: {NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reaches-{namespace}}}
subjects: [{{kind: ServiceAccount, name: viewer, namespace: {namespace}}}]
"#
    )
}

#[tokio::test]
async fn who_may_tap_is_whom_the_clusters_rules_let() -> Result<()> {
    let mesh = mesh::installed().await?;
    let shop = shop(mesh, "tap").await?;
    let namespace = shop.namespace.as_str();
    shop.kubectl(&["create", "serviceaccount", "viewer"]).await?;
    let viewer = format!("{namespace}/viewer");
    let tap = ["tap", "-n", namespace, "--duration", "90s", "-o", "json"];
    let as_viewer = ["--as-service-account", viewer.as_str()];

    // The account without the right.
    let refused = mesh.complain(&[&tap[..], &as_viewer].concat(), None).await?;
    let rule = format!(
        "system:serviceaccount:{namespace}:viewer may not create taps.heddle.dev in namespace {namespace}: a RoleBinding \
         there to the ClusterRole heddle-tap would allow it"
    );
    ensure!(refused.contains(&rule), "{refused}");

    // Given it, there and nowhere else.
    shop.apply(BINDING).await?;
    let seen = async {
        // So many that they come for some seconds, in which all control planes tell of their proxies.
        let count = ["--count", "300", "--direction", "inbound"];
        mesh.ask(&[&tap[..], &as_viewer, &count].concat()).await
    };
    let sent = async {
        for _ in 0..30 {
            shop.requests(40).await?.ensure_whole(40)?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    let seen = tokio::select! {
        seen = seen => seen?,
        sent = sent => {
            sent?;
            anyhow::bail!("1200 requests were sent, and 300 are not shown");
        }
    };
    let lines: Vec<Value> =
        seen.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(seen.clone())?;
    let exchanges: Vec<&Value> = lines.iter().filter(|line| line["type"] == "exchange").collect();
    ensure!(exchanges.len() == 300, "{} exchanges", exchanges.len());
    for exchange in &exchanges {
        ensure!(exchange["workload"]["namespace"] == namespace, "{exchange}");
        ensure!(
            exchange["tls"] == "mtls" && exchange["workload"]["kind"] == "Deployment",
            "{exchange}"
        );
    }
    // Client, store and two versions of the api: whichever control plane each is attached to.
    let looking = lines.iter().filter(|line| line["type"] == "looking");
    ensure!(looking.clone().any(|line| line["proxies"] == 4), "{:?}", looking.collect::<Vec<_>>());
    let everywhere = ["tap", "-A", "--as-service-account", viewer.as_str()];
    let refused = mesh.complain(&everywhere, None).await?;
    ensure!(refused.contains("in all namespaces: a ClusterRoleBinding"), "{refused}");

    // Who reaches the control plane and may make no token of an account.
    let reaches = Reaches::give(mesh, &shop).await?;
    let refused = mesh.complain(&tap, Some(reaches.kubeconfig())).await?;
    ensure!(
        refused.contains("ask for the right to create serviceaccounts/token of heddle-viewer"),
        "{refused}"
    );
    reaches.take(mesh).await?;
    shop.end().await
}

/// The account `viewer` of a shop, while it may reach the control plane and make no tokens.
pub(super) struct Reaches {
    namespace: String,
    kubeconfig: tempfile::NamedTempFile,
}

impl Reaches {
    /// Lets it.
    pub(super) async fn give(mesh: &Mesh<'_>, shop: &Shop<'_>) -> Result<Self> {
        let namespace = shop.namespace.clone();
        mesh.cluster.kubectl(&["apply", "-f", "-"], &reaches(&namespace)).await?;
        let token = shop.kubectl(&["create", "token", "viewer"]).await?;
        let kubeconfig = mesh.kubeconfig_with(token.trim(), &namespace)?;
        Ok(Self { namespace, kubeconfig })
    }

    /// Who it is.
    pub(super) fn kubeconfig(&self) -> &Path {
        self.kubeconfig.path()
    }

    /// Lets it no longer.
    pub(super) async fn take(self, mesh: &Mesh<'_>) -> Result<()> {
        let both = ["role,rolebinding", &format!("reaches-{}", self.namespace)];
        mesh.cluster.kubectl(&[&["-n", NAMESPACE, "delete"], &both[..]].concat(), "").await?;
        Ok(())
    }
}

impl Mesh<'_> {
    /// What meshctl says on standard error; it must fail.
    async fn complain(&self, arguments: &[&str], kubeconfig: Option<&Path>) -> Result<String> {
        let output = self.run_with(arguments, kubeconfig).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1),
            "meshctl {arguments:?}: {}: {said}",
            output.status
        );
        Ok(said)
    }

    /// The cluster's kubeconfig, of whoever has this token.
    fn kubeconfig_with(&self, token: &str, namespace: &str) -> Result<tempfile::NamedTempFile> {
        let text = std::fs::read_to_string(self.cluster.kubeconfig())?;
        let known = kube::config::Kubeconfig::from_yaml(&text)?;
        let known = serde_json::to_value(&known)?;
        let cluster = known["clusters"][0].clone();
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "viewer",
            "clusters": [cluster],
            "users": [{"name": "viewer", "user": {"token": token}}],
            "contexts": [{"name": "viewer", "context": {
                "cluster": cluster["name"], "user": "viewer", "namespace": namespace,
            }}],
        });
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), config.to_string())?;
        Ok(file)
    }
}
