//! A proxy's own workload.

use std::net::IpAddr;

use heddle_model::access_log::{AccessLogFormat, AccessLogMode, AccessLogWish};
use heddle_model::workload::{
    InboundMode, InboundPort, NodeProbes, Probe, ProbeGet, ProbeKind, Workload,
};

use super::key::{ip, ip_bytes, port, protocol};
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
            probes: workload.probes.probes.iter().map(Into::into).collect(),
            probe_sources: workload.probes.sources.iter().copied().map(ip_bytes).collect(),
            access_log: access_log(workload.access_log),
        }
    }
}

/// Nothing where nothing is said.
fn access_log(wish: AccessLogWish) -> Option<wire::AccessLog> {
    let mode = wish.mode.map(|mode| match mode {
        AccessLogMode::Off => wire::AccessLogMode::Off,
        AccessLogMode::Errors => wire::AccessLogMode::Errors,
        AccessLogMode::All => wire::AccessLogMode::All,
    });
    let format = wish.format.map(|format| match format {
        AccessLogFormat::Text => wire::AccessLogFormat::Text,
        AccessLogFormat::Json => wire::AccessLogFormat::Json,
    });
    (wish != AccessLogWish::default()).then(|| wire::AccessLog {
        mode: mode.unwrap_or_default().into(),
        format: format.unwrap_or_default().into(),
    })
}

impl TryFrom<wire::AccessLog> for AccessLogWish {
    type Error = InvalidMessage;

    fn try_from(wire: wire::AccessLog) -> Result<Self, InvalidMessage> {
        let unknown =
            |field: &str, number: i32| InvalidMessage::new(field, format!("{number} is not known"));
        let mode = match wire::AccessLogMode::try_from(wire.mode) {
            Ok(wire::AccessLogMode::Unspecified) => None,
            Ok(wire::AccessLogMode::Off) => Some(AccessLogMode::Off),
            Ok(wire::AccessLogMode::Errors) => Some(AccessLogMode::Errors),
            Ok(wire::AccessLogMode::All) => Some(AccessLogMode::All),
            Err(_) => return Err(unknown("access_log.mode", wire.mode)),
        };
        let format = match wire::AccessLogFormat::try_from(wire.format) {
            Ok(wire::AccessLogFormat::Unspecified) => None,
            Ok(wire::AccessLogFormat::Text) => Some(AccessLogFormat::Text),
            Ok(wire::AccessLogFormat::Json) => Some(AccessLogFormat::Json),
            Err(_) => return Err(unknown("access_log.format", wire.format)),
        };
        Ok(Self { mode, format })
    }
}

impl From<&Probe> for wire::Probe {
    fn from(probe: &Probe) -> Self {
        let (kind, get) = match &probe.kind {
            ProbeKind::Http(get) => (wire::ProbeKind::Http, Some(get)),
            ProbeKind::Https(get) => (wire::ProbeKind::Https, Some(get)),
            ProbeKind::Tcp => (wire::ProbeKind::Tcp, None),
            ProbeKind::Grpc => (wire::ProbeKind::Grpc, None),
        };
        let (path, headers) =
            get.map(|get| (get.path.clone(), get.headers.clone())).unwrap_or_default();
        Self { port: u32::from(probe.port.number()), kind: kind.into(), path, headers }
    }
}

impl TryFrom<wire::Probe> for Probe {
    type Error = InvalidMessage;

    fn try_from(wire: wire::Probe) -> Result<Self, InvalidMessage> {
        let kind = match wire::ProbeKind::try_from(wire.kind) {
            Ok(wire::ProbeKind::Http) => ProbeKind::Http(get(wire.path, wire.headers)?),
            Ok(wire::ProbeKind::Https) => ProbeKind::Https(get(wire.path, wire.headers)?),
            Ok(wire::ProbeKind::Tcp) => ProbeKind::Tcp,
            Ok(wire::ProbeKind::Grpc) => ProbeKind::Grpc,
            Ok(wire::ProbeKind::Unspecified) => return Err(InvalidMessage::missing("kind")),
            Err(_) => {
                return Err(InvalidMessage::new("kind", format!("{} is not known", wire.kind)));
            }
        };
        Ok(Self { port: port(wire.port, "port")?, kind })
    }
}

fn get(path: String, headers: Vec<String>) -> Result<ProbeGet, InvalidMessage> {
    if path.starts_with('/') {
        Ok(ProbeGet { path, headers })
    } else {
        Err(InvalidMessage::new("path", "does not begin with a slash"))
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
            probes: NodeProbes {
                sources: sources(&wire.probe_sources)?,
                probes: all(wire.probes, "probes")?,
            },
            access_log: wire
                .access_log
                .map_or_else(|| Ok(AccessLogWish::default()), TryInto::try_into)?,
        })
    }
}

impl TryFrom<wire::InboundPort> for InboundPort {
    type Error = InvalidMessage;

    fn try_from(wire: wire::InboundPort) -> Result<Self, InvalidMessage> {
        Ok(Self { port: port(wire.port, "port")?, protocol: protocol(wire.protocol)? })
    }
}

fn sources(wire: &[Vec<u8>]) -> Result<Vec<IpAddr>, InvalidMessage> {
    let read = |(index, bytes): (usize, &Vec<u8>)| ip(bytes, &format!("probe_sources[{index}]"));
    wire.iter().enumerate().map(read).collect()
}
