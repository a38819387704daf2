//! A proxy's own workload.

use heddle_model::workload::{InboundMode, InboundPort, Workload};

use super::key::{port, protocol};
use super::{InvalidMessage, all};
use crate::discovery as wire;

impl From<&Workload> for wire::Workload {
    fn from(workload: &Workload) -> Self {
        let inbound_mode = match workload.inbound_mode {
            InboundMode::Permissive => wire::InboundMode::Permissive,
            InboundMode::Strict => wire::InboundMode::Strict,
        };
        let ports = workload.ports.iter().map(|inbound| wire::InboundPort {
            port: u32::from(inbound.port.number()),
            protocol: wire::Protocol::from(inbound.protocol).into(),
        });
        Self {
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            pod_uid: workload.pod_uid.to_string(),
            inbound_mode: inbound_mode.into(),
            ports: ports.collect(),
            rate_limits: workload.rate_limits.iter().map(Into::into).collect(),
            zone: workload.zone.clone(),
            node: workload.node.clone(),
        }
    }
}

impl TryFrom<wire::Workload> for Workload {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Workload) -> Result<Self, InvalidMessage> {
        // A mode that is not known must not be taken for the lenient one.
        let inbound_mode = match wire::InboundMode::try_from(wire.inbound_mode) {
            Ok(wire::InboundMode::Permissive) => InboundMode::Permissive,
            Ok(wire::InboundMode::Strict) => InboundMode::Strict,
            Ok(wire::InboundMode::Unspecified) => {
                return Err(InvalidMessage::missing("inbound_mode"));
            }
            Err(_) => {
                let reason = format!("{} is not known", wire.inbound_mode);
                return Err(InvalidMessage::new("inbound_mode", reason));
            }
        };
        Ok(Self {
            namespace: wire.namespace,
            name: wire.name,
            pod_uid: wire.pod_uid.parse().map_err(|error| InvalidMessage::new("pod_uid", error))?,
            inbound_mode,
            ports: all(wire.ports, "ports")?,
            rate_limits: all(wire.rate_limits, "rate_limits")?,
            zone: wire.zone,
            node: wire.node,
        })
    }
}

impl TryFrom<wire::InboundPort> for InboundPort {
    type Error = InvalidMessage;

    fn try_from(wire: wire::InboundPort) -> Result<Self, InvalidMessage> {
        Ok(Self { port: port(wire.port, "port")?, protocol: protocol(wire.protocol)? })
    }
}
