//! The mesh, installed once in the cluster that the tests share, as a user would: `meshctl install --apply`.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::cluster::Cluster;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::shared;

/// The installed mesh.
pub(crate) struct Mesh<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) meshctl: PathBuf,
}

/// Where it is installed.
pub(crate) const NAMESPACE: &str = "heddle-system";

/// The mesh in the cluster that the tests share, installed by the first test that wants it. Its certificates live for a
/// minute, and the webhook's own for five, so that what takes as long as a certificate lives can be waited for.
pub(crate) async fn installed() -> Result<&'static Mesh<'static>> {
    static MESH: OnceCell<Mesh<'static>> = OnceCell::const_new();
    let install = async || Mesh::install(shared::cluster().await?, "60s").await;
    MESH.get_or_try_init(install).await
}

impl<'a> Mesh<'a> {
    /// Installs it: two control planes, and certificates that live for so long.
    pub(crate) async fn install(cluster: &'a Cluster, leaf_lifetime: &str) -> Result<Self> {
        let mesh = Self { cluster, meshctl: shared::mesh_program("meshctl")? };
        let settings = format!(
            "controlPlane.replicas=2,controlPlane.leafLifetime={leaf_lifetime},injector.certificateLifetime=5m"
        );
        mesh.ask(&["install", "--apply", "--set", &settings]).await?;
        Ok(mesh)
    }

    /// What meshctl prints; it must end well.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "meshctl {arguments:?}: {}: {said}{complaint}",
            output.status
        );
        Ok(said)
    }

    /// How meshctl ends, and what it prints.
    pub(crate) async fn hear(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let output = self.run(arguments).await?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// What `meshctl check` finds, be it good or bad.
    pub(crate) async fn findings(&self) -> Result<Vec<Value>> {
        let (code, said) = self.hear(&["check", "-o", "json"]).await?;
        ensure!(matches!(code, Some(0 | 3)), "meshctl check: {code:?}: {said}");
        Ok(serde_json::from_str(&said)?)
    }

    async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_with(arguments, None).await
    }

    /// How meshctl ends, by another kubeconfig than the administrator's.
    pub(crate) async fn run_with(
        &self,
        arguments: &[&str],
        kubeconfig: Option<&Path>,
    ) -> Result<Output> {
        let kubeconfig = kubeconfig.map_or_else(|| self.cluster.kubeconfig(), Path::to_path_buf);
        let running = Command::new(&self.meshctl)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(LIMIT, running).await;
        Ok(ended.with_context(|| format!("meshctl {arguments:?} takes more than {LIMIT:?}"))??)
    }

    /// A namespace of the test's own, whose pods get a proxy.
    pub(crate) async fn namespace(&self, theme: &str) -> Result<String> {
        let name = shared::namespace(self.cluster, theme).await?;
        let label = ["label", "namespace", &name, "heddle.dev/inject=enabled"];
        self.cluster.kubectl(&label, "").await?;
        Ok(name)
    }
}

/// Longer than a rotation with certificates of a minute.
const LIMIT: Duration = Duration::from_secs(300);
