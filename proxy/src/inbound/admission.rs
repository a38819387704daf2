//! Who may come in, decided on what a connection begins with. Pure functions; the handshake checks
//! everything that is believed here.

use std::time::Duration;

use heddle_model::identity::{PeerServerName, PodUid, TrustDomain};
use heddle_model::names::Protocol;
use heddle_model::workload::{InboundMode, Workload};
use heddle_tls::alpn::InnerProtocol;
use heddle_tls::hello::{Hello, peek};

use crate::listen::DataPathSettings;

/// How a connection comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// By the handshake between proxies.
    Mesh,
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
}

impl NotAdmitted {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NoWorkload => "no_workload",
            Self::Plaintext => "plaintext",
            Self::OtherPod => "other_pod",
            Self::OtherPort => "other_port",
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

impl Door<'_> {
    /// How long a client may say nothing.
    ///
    /// Where everybody must be a proxy, and proxies speak first, there is no hurry. Elsewhere the
    /// application may have to speak first, unless its protocol is known not to.
    pub(super) fn silence(&self, settings: &DataPathSettings) -> Option<Duration> {
        match (self.workload.inbound_mode, declared(self.workload, self.port)) {
            (InboundMode::Strict, _) => Some(settings.detection_timeout),
            (InboundMode::Permissive, Protocol::Detect | Protocol::Opaque) => {
                Some(settings.silence)
            }
            (InboundMode::Permissive, Protocol::Http1 | Protocol::Http2 | Protocol::Tls) => None,
        }
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
        Some(_) => Ok(Entrance::Mesh),
        None => match door.workload.inbound_mode {
            InboundMode::Strict => Err(NotAdmitted::Plaintext),
            InboundMode::Permissive => Ok(Entrance::Plain(declared(door.workload, door.port))),
        },
    }
}

fn declared(workload: &Workload, port: u16) -> Protocol {
    let declared = workload.ports.iter().find(|declared| declared.port.number() == port);
    declared.map_or(Protocol::Detect, |declared| declared.protocol)
}

#[cfg(test)]
mod tests {
    use heddle_model::names::Port;
    use heddle_model::workload::InboundPort;

    use super::*;

    fn workload(inbound_mode: InboundMode) -> Workload {
        Workload {
            namespace: "default".to_owned(),
            name: "api-0".to_owned(),
            pod_uid: "u1".parse().unwrap(),
            inbound_mode,
            ports: vec![InboundPort { port: Port::new(80).unwrap(), protocol: Protocol::Http1 }],
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
        let http = Entrance::Plain(Protocol::Http1);
        for (case, hello, permissive, strict) in [
            ("a proxy", client(ours, "heddle/h2"), Ok(Entrance::Mesh), Ok(Entrance::Mesh)),
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
    fn a_port_that_is_not_declared_is_looked_at() {
        let workload = workload(InboundMode::Permissive);
        assert_eq!(declared(&workload, 80), Protocol::Http1);
        assert_eq!(declared(&workload, 81), Protocol::Detect);
    }
}
