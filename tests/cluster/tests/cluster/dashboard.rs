//! The dashboard of a real cluster: reached by the API server's port-forward, it tells of the workloads there, and of
//! single requests to whom the cluster's rules let.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_cluster::wait;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::mesh::{self, Mesh};
use super::shop::Shop;
use super::tap::Reaches;
use super::traffic::shop;

/// `meshctl dashboard`, and what opens it. It ends with this value.
struct Dashboard {
    _relay: Child,
    base: String,
    cookie: String,
}

impl Dashboard {
    async fn open(mesh: &Mesh<'_>, arguments: &[&str], kubeconfig: Option<&Path>) -> Result<Self> {
        let kubeconfig = kubeconfig.map_or_else(|| mesh.cluster.kubeconfig(), Path::to_path_buf);
        let mut command = Command::new(&mesh.meshctl);
        command.args(["dashboard", "--no-open"]).args(arguments).env("KUBECONFIG", kubeconfig);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut relay = command.spawn()?;
        let mut lines = BufReader::new(relay.stdout.take().context("no standard output")?).lines();
        let said = tokio::time::timeout(LIMIT, lines.next_line()).await;
        let address = said.context("no address is printed")??.context("it has ended")?;
        let (base, _) = address.split_once("/?key=").context("no key")?;
        let entered = curl(&["--output", "/dev/null", "--dump-header", "-", &address]).await?;
        let cookie = entered.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie.and_then(|line| line.split(';').next()).context("no cookie")?;
        Ok(Self { _relay: relay, base: base.to_owned(), cookie: cookie.to_owned() })
    }

    /// The answer, and its status on a line of its own.
    async fn get(&self, path: &str, more: &[&str]) -> Result<String> {
        let url = format!("{}{path}", self.base);
        let own = ["--cookie", &self.cookie, "--write-out", "\n%{http_code}", &url];
        curl(&[&own, more].concat()).await
    }

    /// What is told of requests of the shop, until one is there.
    async fn tapped(&self, shop: &Shop<'_>) -> Result<Value> {
        let url = format!(
            "{}/api/v1/tap?namespace={}&direction=inbound&method=GET",
            self.base, shop.namespace
        );
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--no-buffer", "--cookie", &self.cookie, &url]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut tap = command.spawn()?;
        let mut lines = BufReader::new(tap.stdout.take().context("no standard output")?).lines();
        let first = async {
            loop {
                let line = lines.next_line().await?.context("the tap has ended")?;
                ensure!(!line.contains("\"error\""), "{line}");
                if line.contains("\"type\":\"exchange\"") {
                    return Ok(serde_json::from_str(&line)?);
                }
            }
        };
        let sent = async {
            loop {
                shop.requests(20).await?.ensure_whole(20)?;
            }
        };
        let told = async {
            tokio::select! {
                told = first => told,
                failed = sent => failed,
            }
        };
        tokio::time::timeout(LIMIT, told).await.context("no request is told")?
    }
}

#[tokio::test]
async fn the_dashboard_tells_of_a_clusters_workloads_and_taps_by_its_users_right() -> Result<()> {
    let mesh = mesh::installed().await?;
    let shop = shop(mesh, "dashboard").await?;
    let namespace = shop.namespace.as_str();
    let dashboard = Dashboard::open(mesh, &[], None).await?;
    let page = dashboard.get("/", &[]).await?;
    ensure!(page.contains("/app.js") && page.ends_with("\n200"), "{page}");
    shop.requests(40).await?.ensure_whole(40)?;
    let path = format!("/api/v1/stat?by=workload&window=600&namespace={namespace}");
    wait::until("the workloads are told of", LIMIT, async || {
        let said = dashboard.get(&path, &[]).await?;
        for name in ["\"api-v1\"", "\"store\""] {
            ensure!(said.contains(name) && said.ends_with("\n200"), "no {name} in {said}");
        }
        Ok(())
    })
    .await?;
    let services = dashboard.get("/api/v1/services", &[]).await?;
    ensure!(services.contains(&format!("\"namespace\":\"{namespace}\"")), "{services}");

    // As the account that the chart makes.
    let told = dashboard.tapped(&shop).await?;
    ensure!(told["workload"]["namespace"] == namespace && told["tls"] == "mtls", "{told}");

    // As one that has no right.
    shop.kubectl(&["create", "serviceaccount", "viewer"]).await?;
    let viewer = format!("{namespace}/viewer");
    let tap = format!("/api/v1/tap?namespace={namespace}");
    let other = Dashboard::open(mesh, &["--as-service-account", &viewer], None).await?;
    let refused = other.get(&tap, &[]).await?;
    ensure!(refused.contains("viewer may not create taps.heddle.dev in namespace"), "{refused}");
    ensure!(refused.ends_with("\n403"), "{refused}");

    // By somebody who may forward to the control plane and make no token; one that a browser brings does not count.
    let reaches = Reaches::give(mesh, &shop).await?;
    let weak = Dashboard::open(mesh, &[], Some(reaches.kubeconfig())).await?;
    ensure!(weak.get("/", &[]).await?.ends_with("\n200"), "everything else shows");
    let good = ["-n", mesh::NAMESPACE, "create", "token", "heddle-viewer", "--audience=heddle-tap"];
    let good = mesh.cluster.kubectl(&good, "").await?;
    let header = format!("Authorization: Bearer {}", good.trim());
    for more in [&[][..], &["--header", header.as_str()]] {
        let refused = weak.get(&tap, more).await?;
        ensure!(refused.contains("the right to create serviceaccounts/token"), "{refused}");
        ensure!(refused.ends_with("\n403"), "{refused}");
    }
    reaches.take(mesh).await?;
    shop.end().await
}

async fn curl(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30"]).args(arguments);
    let said = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let told = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success(), "curl ends with {}: {told}", said.status);
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// On a busy machine.
const LIMIT: Duration = Duration::from_secs(90);
