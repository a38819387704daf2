//! Clients of the API server.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// A client for whoever this kubeconfig is for.
pub async fn from_kubeconfig(path: &Path) -> Result<Client> {
    // Two providers of cryptography may be linked in; the first choice of a process stands.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig =
        Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use {}", path.display()))?;
    Client::try_from(config).context("make a client of the API server")
}

/// Whether the API server takes requests.
pub async fn is_ready(client: &Client) -> Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    let answer = client.request_text(request).await.context("ask /readyz")?;
    ensure!(answer == "ok", "the API server is not ready: {answer}");
    Ok(())
}
