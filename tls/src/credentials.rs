//! The credentials of this process: one writer swaps them, handshakes read them.
//! Asking for a certificate is in `certificate.rs`; fetching one is the caller's part.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_model::identity::TrustDomain;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;
use tokio::sync::watch;
use webpki::KeyUsage;

use crate::alpn::InnerProtocol;
use crate::bundle::Bundle;
use crate::certificate::CertifiedLeaf;
use crate::config::{self, Audience, ClientBase, ConfigError};
use crate::digest::Digest;
use crate::peer::PeerIdentity;
use crate::refusal::Refusal;
use crate::verify::{self, Presented};

/// Makes the two ends: no handshake succeeds before the writer was given a bundle and a
/// certificate of this trust domain.
pub fn channel(trust_domain: TrustDomain) -> (CredentialsWriter, Credentials) {
    let (sender, receiver) = watch::channel(Current { generation: 0, snapshot: Snapshot::Empty });
    let writer = CredentialsWriter { trust_domain: trust_domain.clone(), sender };
    (writer, Credentials { trust_domain, receiver })
}

/// Swaps the credentials. Connections that are already up, or in their handshake, keep theirs.
#[derive(Debug)]
pub struct CredentialsWriter {
    trust_domain: TrustDomain,
    sender: watch::Sender<Current>,
}

impl CredentialsWriter {
    /// Trusts these anchors, and no others, from now on. On error the old ones stay.
    pub fn set_bundle(&self, bundle: Bundle) -> Result<(), CredentialsError> {
        self.check_trust_domain(bundle.trust_domain())?;
        self.swap(|snapshot| {
            if snapshot.bundle() == Some(&bundle) {
                return Ok(None);
            }
            let leaf = snapshot.leaf().cloned();
            let trusting = Trusting { client: ClientBase::new(&bundle, None)?, bundle };
            Ok(Some(match leaf {
                None => Snapshot::Trusting(Arc::new(trusting)),
                Some(leaf) => Snapshot::mutual(Arc::new(trusting), leaf)?,
            }))
        })
    }

    /// Presents this certificate from now on. On error the old one stays: it is refused if our own
    /// trust bundle, which must have been set before, does not vouch for it.
    pub fn set_certificate(&self, leaf: CertifiedLeaf) -> Result<(), CredentialsError> {
        self.check_trust_domain(leaf.peer().identity.trust_domain())?;
        self.swap(|snapshot| {
            let trusting = snapshot.trusting().ok_or(CredentialsError::NoBundle)?;
            check_own(&leaf, &trusting.bundle)?;
            Snapshot::mutual(Arc::clone(trusting), leaf).map(Some)
        })
    }

    /// Another reader.
    pub fn subscribe(&self) -> Credentials {
        Credentials { trust_domain: self.trust_domain.clone(), receiver: self.sender.subscribe() }
    }

    fn check_trust_domain(&self, found: &TrustDomain) -> Result<(), CredentialsError> {
        if *found == self.trust_domain {
            return Ok(());
        }
        let expected = self.trust_domain.clone();
        Err(CredentialsError::WrongTrustDomain { found: found.clone(), expected })
    }

    /// Decides on the next value under the channel's lock, so that two swaps cannot lose one.
    fn swap(
        &self,
        next: impl FnOnce(&Snapshot) -> Result<Option<Snapshot>, CredentialsError>,
    ) -> Result<(), CredentialsError> {
        let mut outcome = Ok(());
        self.sender.send_if_modified(|current| match next(&current.snapshot) {
            Ok(Some(next)) => {
                *current = Current { generation: current.generation + 1, snapshot: next };
                true
            }
            Ok(None) => false,
            Err(error) => {
                outcome = Err(error);
                false
            }
        });
        outcome
    }
}

fn check_own(leaf: &CertifiedLeaf, bundle: &Bundle) -> Result<(), CredentialsError> {
    let chain = &leaf.key().cert;
    let (end_entity, intermediates) =
        chain.split_first().ok_or(CredentialsError::Refused(Refusal::Unparsable))?;
    let presented = Presented { end_entity, intermediates };
    verify::verify(&presented, bundle, KeyUsage::client_auth(), UnixTime::now())?;
    Ok(())
}

/// Reads the credentials of the moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    trust_domain: TrustDomain,
    receiver: watch::Receiver<Current>,
}

impl Credentials {
    /// The trust domain of this process and of all its peers.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The trust bundle; `None` before the first.
    pub fn bundle(&self) -> Option<Bundle> {
        self.receiver.borrow().snapshot.bundle().cloned()
    }

    /// Whom our own certificate names; `None` before the first.
    pub fn identity(&self) -> Option<PeerIdentity> {
        self.receiver.borrow().snapshot.leaf().map(|leaf| leaf.peer().clone())
    }

    /// When our own certificate expires; `None` before the first.
    pub fn leaf_not_after(&self) -> Option<SystemTime> {
        self.receiver.borrow().snapshot.leaf().map(CertifiedLeaf::not_after)
    }

    /// Whether our own trust bundle vouches for our own certificate, as peers that hold the same bundle
    /// judge; true before the first certificate.
    pub fn own_is_vouched_for(&self) -> bool {
        let current = self.receiver.borrow();
        let snapshot = &current.snapshot;
        match (snapshot.bundle(), snapshot.leaf()) {
            (Some(bundle), Some(leaf)) => check_own(leaf, bundle).is_ok(),
            (Some(_) | None, _) => true,
        }
    }

    /// What this process goes by now, for whoever has to know; `None` before the first certificate.
    pub fn held(&self) -> Option<Held> {
        let current = self.receiver.borrow();
        let snapshot = &current.snapshot;
        let leaf = snapshot.leaf()?;
        let bundle = snapshot.bundle()?.digest();
        let (issuer, not_after) = (leaf.issuer_digest(), leaf.not_after());
        Some(Held { bundle, issuer, not_after })
    }

    /// Another number after each swap of the bundle or the certificate: a connection that was
    /// authenticated under the same one would be authenticated by the same means again.
    pub fn generation(&self) -> u64 {
        self.receiver.borrow().generation
    }

    /// Completes when the bundle or the certificate was swapped since the last call, or since this
    /// reader was made. Never completes once the writer is gone.
    ///
    /// Cancel safe: yes; a swap that was not reported is reported by the next call.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn serving(&self, audience: Audience) -> Option<Arc<ServerConfig>> {
        self.receiver.borrow().snapshot.own().map(|own| match audience {
            Audience::Peers => Arc::clone(&own.for_peers),
            Audience::ControlPlaneClients => Arc::clone(&own.for_control_plane_clients),
        })
    }

    pub(crate) fn peer_client(
        &self,
        expected: PeerIdentity,
        protocols: &[InnerProtocol],
    ) -> Option<ClientConfig> {
        self.receiver.borrow().snapshot.own().map(|own| own.client.for_peer(expected, protocols))
    }

    pub(crate) fn control_plane_client(&self) -> Option<ClientConfig> {
        let current = self.receiver.borrow();
        let snapshot = &current.snapshot;
        let fresh = snapshot.own().filter(|own| !has_expired(own.leaf.not_after()));
        match fresh {
            Some(own) => Some(own.client.for_control_plane()),
            None => snapshot.trusting().map(|trusting| trusting.client.for_control_plane()),
        }
    }
}

/// What a process goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Of its trust bundle.
    pub bundle: Digest,
    /// Of its certificate's issuer; `None` if the certificate came without one.
    pub issuer: Option<Digest>,
    /// When its certificate expires.
    pub not_after: SystemTime,
}

/// By the same clock that the handshake goes by.
fn has_expired(not_after: SystemTime) -> bool {
    let now = Duration::from_secs(UnixTime::now().as_secs());
    not_after.duration_since(SystemTime::UNIX_EPOCH).map_or(true, |end| end <= now)
}

#[derive(Debug)]
struct Current {
    /// How many swaps there were.
    generation: u64,
    snapshot: Snapshot,
}

/// All that handshakes need, made when it is swapped and not per connection.
#[derive(Debug)]
enum Snapshot {
    Empty,
    Trusting(Arc<Trusting>),
    Mutual(Arc<Trusting>, Box<Own>),
}

#[derive(Debug)]
struct Trusting {
    bundle: Bundle,
    client: ClientBase,
}

#[derive(Debug)]
struct Own {
    leaf: CertifiedLeaf,
    client: ClientBase,
    for_peers: Arc<ServerConfig>,
    for_control_plane_clients: Arc<ServerConfig>,
}

impl Snapshot {
    fn mutual(trusting: Arc<Trusting>, leaf: CertifiedLeaf) -> Result<Self, CredentialsError> {
        let bundle = &trusting.bundle;
        let serving = |audience| {
            config::server(audience, bundle, leaf.peer(), leaf.key())
                .map(Arc::new)
                .map_err(ConfigError::from)
        };
        let own = Own {
            client: ClientBase::new(bundle, Some(leaf.key()))?,
            for_peers: serving(Audience::Peers)?,
            for_control_plane_clients: serving(Audience::ControlPlaneClients)?,
            leaf,
        };
        Ok(Self::Mutual(trusting, Box::new(own)))
    }

    fn trusting(&self) -> Option<&Arc<Trusting>> {
        match self {
            Self::Empty => None,
            Self::Trusting(trusting) | Self::Mutual(trusting, _) => Some(trusting),
        }
    }

    fn own(&self) -> Option<&Own> {
        match self {
            Self::Empty | Self::Trusting(_) => None,
            Self::Mutual(_, own) => Some(own),
        }
    }

    fn bundle(&self) -> Option<&Bundle> {
        self.trusting().map(|trusting| &trusting.bundle)
    }

    fn leaf(&self) -> Option<&CertifiedLeaf> {
        self.own().map(|own| &own.leaf)
    }
}

/// Why credentials were not taken. Those of before stay in use.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Of another mesh.
    #[error("they are of trust domain {found}, not {expected}")]
    WrongTrustDomain {
        /// Theirs.
        found: TrustDomain,
        /// Ours.
        expected: TrustDomain,
    },
    /// A certificate came before any trust bundle.
    #[error("a certificate cannot be checked before there is a trust bundle")]
    NoBundle,
    /// Our own trust bundle does not vouch for the certificate.
    #[error("our own certificate is refused")]
    Refused(#[from] Refusal),
    /// No configuration could be made of them.
    #[error("they cannot be used")]
    Config(#[from] ConfigError),
}

#[cfg(test)]
mod tests;
