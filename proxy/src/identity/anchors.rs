//! The file of trust anchors, as a way back: a proxy that was away while they were rotated trusts none that
//! the control plane's certificate is below. Whoever installs the mesh keeps the file current.

use std::time::Duration;

use heddle_proto::identity as wire;
use heddle_proto::identity::identity_client::IdentityClient;
use heddle_runtime::logging::Chain;
use heddle_tls::bundle::Bundle;
use heddle_tls::credentials::{self, Credentials};
use tokio::io::AsyncReadExt;
use tonic::transport::Channel;
use tracing::{debug, info};

use crate::control_plane::ConnectError;
use crate::identity::CertificateClient;

impl CertificateClient {
    /// A connection without a certificate of ours. What was streamed last is trusted before what is in
    /// the file, which may be older.
    pub(super) async fn connect_bare(&self) -> Result<Channel, ConnectError> {
        let error = match self.control_plane.connect(&self.bare).await {
            Ok(channel) => return Ok(channel),
            Err(error) => error,
        };
        let Some(of_file) = self.other_anchors().await else { return Err(error) };
        let channel = self.control_plane.connect(&of_file).await?;
        info!("the control plane is trusted by the file of trust anchors");
        Ok(channel)
    }

    /// While there is no way to the control plane, looks for one by the file, and takes the trust bundle
    /// from there. Never returns.
    ///
    /// Cancel safe: yes.
    pub(super) async fn look_at_file(&self) -> ! {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let Some(of_file) = self.other_anchors().await else { continue };
            let Ok(channel) = self.control_plane.connect(&of_file).await else { continue };
            if let Some(bundle) = first_bundle(channel).await
                && let Err(error) = self.take_bundle(bundle)
            {
                debug!(error = %Chain(&error), "trust bundle refused");
            }
        }
    }

    /// Trusts the anchors in the file; `None` if they are those that are trusted already, or no use.
    async fn other_anchors(&self) -> Option<Credentials> {
        let file = tokio::fs::File::open(&self.settings.trust_anchors_file).await.ok()?;
        let mut text = Vec::new();
        file.take(FILE_LIMIT_BYTES).read_to_end(&mut text).await.ok()?;
        let trust_domain = self.settings.trust_domain.clone();
        let bundle = Bundle::from_pem(trust_domain.clone(), &text).ok()?;
        if self.bare.bundle().is_some_and(|known| known.digest() == bundle.digest()) {
            return None;
        }
        let (writer, credentials) = credentials::channel(trust_domain);
        writer.set_bundle(bundle).ok()?;
        Some(credentials)
    }
}

async fn first_bundle(channel: Channel) -> Option<wire::TrustBundle> {
    let watching = async {
        let request = wire::WatchTrustBundleRequest {};
        let bundles = IdentityClient::new(channel).watch_trust_bundle(request).await.ok()?;
        bundles.into_inner().message().await.ok()?
    };
    tokio::time::timeout(ANSWER_TIMEOUT, watching).await.ok()?
}

/// How often, while there is no connection: seldom enough that a control plane which comes back is found
/// first by those who trust it already.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// For the first bundle, which is sent at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Far more than all anchors that a bundle may have.
const FILE_LIMIT_BYTES: u64 = 256 << 10;
