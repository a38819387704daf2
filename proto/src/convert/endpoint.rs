//! Endpoints and who must answer there.

use heddle_model::endpoint::{Endpoint, ExpectedPeer};
use heddle_model::identity::{PodUid, SpiffeId};

use super::{InvalidMessage, required};
use crate::discovery as wire;

impl From<&Endpoint> for wire::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let mesh = match &endpoint.peer {
            ExpectedPeer::Plaintext => None,
            ExpectedPeer::Mesh { identity, pod_uid } => Some(wire::MeshPeer {
                identity: identity.to_string(),
                pod_uid: pod_uid.to_string(),
            }),
        };
        Self {
            address: Some(endpoint.address.into()),
            mesh,
            zone: endpoint.zone.clone(),
            pod: endpoint.pod.clone(),
            node: endpoint.node.clone(),
        }
    }
}

impl TryFrom<wire::Endpoint> for Endpoint {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Endpoint) -> Result<Self, InvalidMessage> {
        let address = required(wire.address, "address")?;
        let address =
            address.try_into().map_err(|error: InvalidMessage| error.within("address"))?;
        let peer = match wire.mesh {
            None => ExpectedPeer::Plaintext,
            Some(peer) => mesh_peer(&peer).map_err(|error| error.within("mesh"))?,
        };
        Ok(Self { address, peer, zone: wire.zone, node: wire.node, pod: wire.pod })
    }
}

fn mesh_peer(peer: &wire::MeshPeer) -> Result<ExpectedPeer, InvalidMessage> {
    let identity: SpiffeId =
        peer.identity.parse().map_err(|error| InvalidMessage::new("identity", error))?;
    let pod_uid: PodUid =
        peer.pod_uid.parse().map_err(|error| InvalidMessage::new("pod_uid", error))?;
    Ok(ExpectedPeer::Mesh { identity, pod_uid })
}
