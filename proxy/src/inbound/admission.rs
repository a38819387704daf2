//! Who may come in, decided on what a connection begins with. Pure functions; the handshake checks
//! everything that is believed here.

use std::net::IpAddr;
use std::time::Duration;

use heddle_model::identity::{PeerServerName, PodUid, TrustDomain};
use heddle_model::names::Protocol;
use heddle_model::workload::{InboundMode, Workload};
use heddle_tls::alpn::InnerProtocol;
use heddle_tls::hello::{Hello, peek};

use crate::inbound::probes::{self, First, Node, NodeEntrance};
use crate::listen::DataPathSettings;

/// How a connection comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// By the handshake between proxies, to a port of which this is known.
    Mesh(Protocol),
    /// As it is, with what is known of its protocol.
    Plain(Protocol),
}

/// Why a connection does not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAdmitted {
    /// What is not known is denied.
    #[error("nothing is known of the workload yet")]
    NoWorkload,
    /// The workload's mode.
    #[error("the workload takes connections of the mesh only")]
    Plaintext,
    /// As happens when a pod's address is used again.
    #[error("it asks for another pod")]
    OtherPod,
    /// The name and the address do not agree.
    #[error("it asks for another port than it came to")]
    OtherPort,
    /// Bytes, for a port that is declared to be HTTP.
    #[error("it brings something other than the HTTP that the port is declared to speak")]
    OtherProtocol,
}

impl NotAdmitted {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NoWorkload => "no_workload",
            Self::Plaintext => "plaintext",
            Self::OtherPod => "other_pod",
            Self::OtherPort => "other_port",
            Self::OtherProtocol => "other_protocol",
        }
    }
}

/// What a connection comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door<'a> {
    pub(super) port: u16,
    pub(super) own: &'a PodUid,
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) workload: &'a Workload,
}

/// What becomes of a client that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silent {
    /// It is no proxy, and must be.
    Refused,
    /// It had something to say and was given time enough: its place is for others.
    Closed,
    /// The application may have to speak first: it is connected to.
    ServerAsked,
}

impl Door<'_> {
    /// How long a client may say nothing, and what it gets then.
    ///
    /// Where everybody must be a proxy, and proxies speak first, there is no hurry. Elsewhere the
    /// application may have to speak first, unless its protocol is known not to. A proxy whose
    /// hello is later than that, to an application that does speak first, gets the greeting in
    /// plain text: its handshake fails, nothing of its own was sent, and it tries again.
    pub(super) fn silence(&self, settings: &DataPathSettings) -> (Duration, Silent) {
        match (self.workload.inbound_mode, self.declared()) {
            (InboundMode::Strict, _) => (settings.detection_timeout, Silent::Refused),
            (InboundMode::Permissive, Protocol::Detect | Protocol::Opaque) => {
                (settings.silence, Silent::ServerAsked)
            }
            (InboundMode::Permissive, Protocol::Http1 | Protocol::Http2 | Protocol::Tls) => {
                (settings.inbound_idle, Silent::Closed)
            }
        }
    }

    /// What is known of the port's protocol.
    pub(super) fn declared(&self) -> Protocol {
        let Self { port, workload, .. } = self;
        let declared = workload.ports.iter().find(|declared| declared.port.number() == *port);
        declared.map_or(Protocol::Detect, |declared| declared.protocol)
    }
}

/// Whether a proxy may bring this to a port of that protocol. Bytes are carried as they are, and an
/// application that is declared to speak HTTP believes what the mesh says of its callers. Those for a
/// port of which nothing is declared are looked at before they are carried.
pub(super) fn may_carry(inner: InnerProtocol, declared: Protocol) -> Result<(), NotAdmitted> {
    match (inner, declared) {
        (InnerProtocol::Tcp | InnerProtocol::Warm, Protocol::Http1 | Protocol::Http2) => {
            Err(NotAdmitted::OtherProtocol)
        }
        (
            InnerProtocol::Tcp | InnerProtocol::Warm,
            Protocol::Tls | Protocol::Opaque | Protocol::Detect,
        )
        | (InnerProtocol::Http1 | InnerProtocol::SharedHttp1 | InnerProtocol::Http2, _) => Ok(()),
    }
}

/// What a ClientHello says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientHello {
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
}

/// Reads a ClientHello; `Some(None)` for what is none, `None` for what needs more bytes.
pub(super) fn hello(bytes: &[u8]) -> Option<Option<ClientHello>> {
    match peek(bytes) {
        Hello::NeedMore => None,
        Hello::NotTls => Some(None),
        Hello::Client { server_name, alpn } => Some(Some(ClientHello { server_name, alpn })),
    }
}

/// A proxy of the mesh says whom it wants, and which protocol of the mesh; all else is plain, also
/// the application's own TLS.
pub(super) fn admit(hello: Option<&ClientHello>, door: &Door<'_>) -> Result<Entrance, NotAdmitted> {
    let wanted = hello
        .filter(|hello| hello.alpn.iter().any(|name| InnerProtocol::from_name(name).is_some()))
        .and_then(|hello| hello.server_name.as_deref())
        .and_then(|name| PeerServerName::parse(name, door.trust_domain));
    match wanted {
        Some(name) if name.pod_uid != *door.own => Err(NotAdmitted::OtherPod),
        Some(name) if name.port.number() != door.port => Err(NotAdmitted::OtherPort),
        Some(_) => Ok(Entrance::Mesh(door.declared())),
        None => match door.workload.inbound_mode {
            InboundMode::Strict => Err(NotAdmitted::Plaintext),
            InboundMode::Permissive => Ok(Entrance::Plain(door.declared())),
        },
    }
}

/// A connection that is refused for being plain may be the node's, who may probe.
pub(super) fn admit_node(
    refused: NotAdmitted,
    node: Node<'_>,
    called: (IpAddr, u16),
    first: First,
) -> Result<NodeEntrance, NotAdmitted> {
    match refused {
        NotAdmitted::Plaintext => probes::entrance(node, called, first).ok_or(refused),
        NotAdmitted::NoWorkload
        | NotAdmitted::OtherPod
        | NotAdmitted::OtherPort
        | NotAdmitted::OtherProtocol => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::names::Port;
    use heddle_model::workload::{InboundPort, NodeProbes};

    use super::*;

    fn workload(inbound_mode: InboundMode) -> Workload {
        Workload {
            namespace: "default".to_owned(),
            name: "api-0".to_owned(),
            pod_uid: "u1".parse().unwrap(),
            inbound_mode,
            ports: vec![InboundPort { port: Port::new(80).unwrap(), protocol: Protocol::Http1 }],
            rate_limits: Vec::new(),
            zone: String::new(),
            node: String::new(),
            probes: NodeProbes::default(),
            access_log: Default::default(),
        }
    }

    fn client(server_name: &str, alpn: &str) -> Option<ClientHello> {
        Some(ClientHello {
            server_name: Some(server_name.to_owned()),
            alpn: vec![alpn.as_bytes().to_vec()],
        })
    }

    #[test]
    fn only_a_proxy_that_wants_this_very_port_gets_a_handshake() {
        let ours = "80.u1.pod.cluster.local";
        let mesh = Entrance::Mesh(Protocol::Http1);
        let http = Entrance::Plain(Protocol::Http1);
        for (case, hello, permissive, strict) in [
            ("a proxy", client(ours, "heddle/h2"), Ok(mesh), Ok(mesh)),
            (
                "for another pod",
                client("80.u2.pod.cluster.local", "heddle/h1"),
                Err(NotAdmitted::OtherPod),
                Err(NotAdmitted::OtherPod),
            ),
            (
                "for another port",
                client("81.u1.pod.cluster.local", "heddle/tcp"),
                Err(NotAdmitted::OtherPort),
                Err(NotAdmitted::OtherPort),
            ),
            ("plain", None, Ok(http), Err(NotAdmitted::Plaintext)),
            (
                "an application's TLS",
                client("example.org", "h2"),
                Ok(http),
                Err(NotAdmitted::Plaintext),
            ),
            (
                "another mesh",
                client("80.u1.pod.other.local", "heddle/h1"),
                Ok(http),
                Err(NotAdmitted::Plaintext),
            ),
            ("another protocol", client(ours, "h2"), Ok(http), Err(NotAdmitted::Plaintext)),
        ] {
            for (mode, expected) in
                [(InboundMode::Permissive, permissive), (InboundMode::Strict, strict)]
            {
                let door = Door {
                    port: 80,
                    own: &"u1".parse().unwrap(),
                    trust_domain: &"cluster.local".parse().unwrap(),
                    workload: &workload(mode),
                };
                assert_eq!(admit(hello.as_ref(), &door), expected, "case: {case}, {mode:?}");
            }
        }
    }

    #[test]
    fn a_client_is_given_the_time_that_its_port_calls_for() {
        let settings = DataPathSettings::default();
        for (case, mode, port, expected) in [
            ("strict", InboundMode::Strict, 80, (settings.detection_timeout, Silent::Refused)),
            ("http", InboundMode::Permissive, 80, (settings.inbound_idle, Silent::Closed)),
            ("unknown", InboundMode::Permissive, 81, (settings.silence, Silent::ServerAsked)),
        ] {
            let door = Door {
                port,
                own: &"u1".parse().unwrap(),
                trust_domain: &"cluster.local".parse().unwrap(),
                workload: &workload(mode),
            };
            assert_eq!(door.silence(&settings), expected, "case: {case}");
        }
    }

    #[test]
    fn bytes_do_not_come_to_a_port_of_http() {
        for (declared, expected) in [
            (Protocol::Http1, Err(NotAdmitted::OtherProtocol)),
            (Protocol::Http2, Err(NotAdmitted::OtherProtocol)),
            (Protocol::Tls, Ok(())),
            (Protocol::Opaque, Ok(())),
            (Protocol::Detect, Ok(())),
        ] {
            for bytes in [InnerProtocol::Tcp, InnerProtocol::Warm] {
                assert_eq!(may_carry(bytes, declared), expected, "case: {bytes}, {declared:?}");
            }
            for http in [InnerProtocol::Http1, InnerProtocol::SharedHttp1, InnerProtocol::Http2] {
                assert_eq!(may_carry(http, declared), Ok(()), "case: {declared:?}");
            }
        }
    }
}
