//! Addresses, names, ports, protocols and resource keys.

use std::net::{IpAddr, SocketAddr};

use heddle_model::identity::PodUid;
use heddle_model::names::{ObjectReference, Port, Protocol, ServiceName, ServicePort};
use heddle_model::resource::ResourceKey;

use super::{InvalidMessage, required};
use crate::discovery as wire;

impl From<SocketAddr> for wire::SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self { ip: ip_bytes(address.ip()), port: u32::from(address.port()) }
    }
}

impl TryFrom<wire::SocketAddress> for SocketAddr {
    type Error = InvalidMessage;

    fn try_from(address: wire::SocketAddress) -> Result<Self, InvalidMessage> {
        let ip = ip(&address.ip, "ip")?;
        let port = port(address.port, "port")?;
        Ok(Self::new(ip, port.number()))
    }
}

pub(super) fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(super) fn ip(bytes: &[u8], field: &str) -> Result<IpAddr, InvalidMessage> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| InvalidMessage::new(field, "want 4 or 16 bytes"))
}

pub(super) fn port(number: u32, field: &str) -> Result<Port, InvalidMessage> {
    Port::try_from(number).map_err(|error| InvalidMessage::new(field, error))
}

impl From<&ServicePort> for wire::ServicePort {
    fn from(port: &ServicePort) -> Self {
        let ServicePort { service: ServiceName { namespace, name }, port } = port;
        let service = wire::ServiceName { namespace: namespace.clone(), name: name.clone() };
        Self { service: Some(service), port: u32::from(port.number()) }
    }
}

impl TryFrom<wire::ServicePort> for ServicePort {
    type Error = InvalidMessage;

    fn try_from(wire: wire::ServicePort) -> Result<Self, InvalidMessage> {
        let wire::ServiceName { namespace, name } = required(wire.service, "service")?;
        if namespace.is_empty() || name.is_empty() {
            return Err(InvalidMessage::new("service", "want a namespace and a name"));
        }
        let service = ServiceName { namespace, name };
        Ok(Self { service, port: port(wire.port, "port")? })
    }
}

impl From<&ObjectReference> for wire::ObjectReference {
    fn from(object: &ObjectReference) -> Self {
        let ObjectReference { kind, namespace, name } = object.clone();
        Self { kind, namespace, name }
    }
}

impl From<wire::ObjectReference> for ObjectReference {
    fn from(object: wire::ObjectReference) -> Self {
        let wire::ObjectReference { kind, namespace, name } = object;
        Self { kind, namespace, name }
    }
}

impl From<Protocol> for wire::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Detect => Self::Detect,
            Protocol::Http1 => Self::Http1,
            Protocol::Http2 => Self::Http2,
            Protocol::Tls => Self::Tls,
            Protocol::Opaque => Self::Opaque,
        }
    }
}

pub(super) fn protocol(number: i32) -> Result<Protocol, InvalidMessage> {
    match wire::Protocol::try_from(number) {
        Ok(wire::Protocol::Detect) => Ok(Protocol::Detect),
        Ok(wire::Protocol::Http1) => Ok(Protocol::Http1),
        Ok(wire::Protocol::Http2) => Ok(Protocol::Http2),
        Ok(wire::Protocol::Tls) => Ok(Protocol::Tls),
        Ok(wire::Protocol::Opaque) => Ok(Protocol::Opaque),
        Ok(wire::Protocol::Unspecified) => Err(InvalidMessage::missing("protocol")),
        Err(_) => Err(InvalidMessage::new("protocol", format!("{number} is not known"))),
    }
}

impl From<&ResourceKey> for wire::ResourceKey {
    fn from(key: &ResourceKey) -> Self {
        use wire::resource_key::Key;

        let key = match key {
            ResourceKey::Workload(uid) => Key::Workload(uid.to_string()),
            ResourceKey::Destination(address) => Key::Destination((*address).into()),
            ResourceKey::Endpoints(port) => Key::Endpoints(port.into()),
        };
        Self { key: Some(key) }
    }
}

impl TryFrom<wire::ResourceKey> for ResourceKey {
    type Error = InvalidMessage;

    fn try_from(wire: wire::ResourceKey) -> Result<Self, InvalidMessage> {
        use wire::resource_key::Key;

        match required(wire.key, "key")? {
            Key::Workload(uid) => {
                let uid = uid.parse::<PodUid>();
                uid.map(Self::Workload).map_err(|error| InvalidMessage::new("workload", error))
            }
            Key::Destination(address) => SocketAddr::try_from(address)
                .map(Self::Destination)
                .map_err(|error| error.within("destination")),
            Key::Endpoints(port) => ServicePort::try_from(port)
                .map(Self::Endpoints)
                .map_err(|error| error.within("endpoints")),
        }
    }
}

/// A service's port that must be there.
pub(super) fn service_port(
    wire: Option<wire::ServicePort>,
    field: &str,
) -> Result<ServicePort, InvalidMessage> {
    ServicePort::try_from(required(wire, field)?).map_err(|error| error.within(field))
}
