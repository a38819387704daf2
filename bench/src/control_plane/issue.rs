//! Asks for certificates as fast as they are given, with requests made beforehand: what the control plane pays for one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use heddle_model::identity::TrustDomain;
use heddle_proto::identity::CertifyRequest;
use heddle_proto::identity::identity_client::IdentityClient;
use heddle_proxy::config::HostPort;
use heddle_proxy::control_plane::ControlPlane;
use heddle_tls::bundle::Bundle;
use heddle_tls::certificate::CertificateRequest;
use heddle_tls::credentials::{self, Credentials};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::control_plane::manifests::Files;
use crate::control_plane::process::Running;
use crate::control_plane::tally::Tally;
use crate::processes::CpuTime;

/// Whether each request has a connection of its own, as a proxy's first one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// All over a few that are open.
    Kept,
    /// A handshake for each.
    One,
}

/// Those who ask, and with what.
pub struct Askers {
    all: Vec<Arc<Asker>>,
    requests: Arc<Vec<Vec<u8>>>,
}

struct Asker {
    control_plane: ControlPlane,
    credentials: Credentials,
    token: String,
}

impl Askers {
    /// As many as may ask at once, each as one proxy.
    pub fn new(files: &Files, address: SocketAddr, tallies: &[Tally]) -> Result<Self> {
        let trust_domain: TrustDomain = "cluster.local".parse()?;
        let anchors = std::fs::read(files.state().join("trust-anchors.pem"))?;
        let bundle = Bundle::from_pem(trust_domain.clone(), &anchors)?;
        let address: Option<HostPort> = address.to_string().parse().ok();
        let address = address.context("an address is a host and a port")?;
        let asker = |(number, tally): (usize, &Tally)| {
            // A proxy that has no certificate yet has nothing to show but its token.
            let (writer, credentials) = credentials::channel(trust_domain.clone());
            writer.set_bundle(bundle.clone())?;
            let control_plane = ControlPlane::new(address.clone(), tally.connect());
            let token = std::fs::read_to_string(files.token(number))?;
            anyhow::Ok(Arc::new(Asker { control_plane, credentials, token }))
        };
        let all = tallies.iter().enumerate().take(AT_ONCE).map(asker).collect::<Result<_>>()?;
        let request = |_| Ok(CertificateRequest::generate()?.der().to_vec());
        let requests = Arc::new((0..REQUESTS).map(request).collect::<Result<_>>()?);
        Ok(Self { all, requests })
    }

    /// Has so many certificates issued; how many seconds of CPU time each cost the control plane.
    pub async fn ask(
        &self,
        count: usize,
        connections: Connections,
        control_plane: &Running,
    ) -> Result<f64> {
        let mut open = Vec::new();
        for asker in &self.all {
            open.push(match connections {
                Connections::Kept => Some(asker.connect().await?),
                Connections::One => None,
            });
        }
        let before = control_plane.cpu()?;
        let issued = control_plane.metric(ISSUED).await?;
        let next = Arc::new(AtomicUsize::new(0));
        let mut asking = JoinSet::new();
        for (asker, channel) in self.all.iter().zip(open) {
            let (asker, next) = (Arc::clone(asker), Arc::clone(&next));
            let requests = Arc::clone(&self.requests);
            asking.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return anyhow::Ok(());
                    }
                    let csr = requests.get(number % requests.len().max(1)).cloned();
                    let channel = match &channel {
                        Some(channel) => channel.clone(),
                        None => asker.connect().await?,
                    };
                    asker.certify(channel, csr.unwrap_or_default()).await?;
                }
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked??;
        }
        let used = CpuTime::since(&control_plane.cpu()?, &before);
        let told = control_plane.metric(ISSUED).await? - issued;
        ensure!(told == u64::try_from(count)?, "{told} certificates were issued, not {count}");
        Ok(used.as_secs_f64() / f64::from(u32::try_from(count)?))
    }
}

impl Asker {
    async fn connect(&self) -> Result<Channel> {
        Ok(self.control_plane.connect(&self.credentials).await?)
    }

    async fn certify(&self, channel: Channel, csr_der: Vec<u8>) -> Result<()> {
        let request = CertifyRequest { token: self.token.clone(), csr_der };
        let response = IdentityClient::new(channel).certify(request).await;
        let response = response.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
        ensure!(!response.get_ref().chain_der.is_empty(), "a certificate without a chain");
        Ok(())
    }
}

const ISSUED: &str = "heddle_control_plane_certificates_issued_total";
/// Enough to keep every core busy, few enough that a handshake is not waited for.
const AT_ONCE: usize = 16;
/// Keys take long to make; a request may be used again.
const REQUESTS: usize = 64;
