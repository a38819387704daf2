//! What a port's declarations say about its protocol.

use std::collections::BTreeSet;
use std::fmt;

use heddle_model::names::{OPAQUE_PORTS, Port, Protocol};

/// What is said of a port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Declared<'a> {
    /// `appProtocol`; empty if not set.
    pub app_protocol: &'a str,
    /// The port's name; empty if not set.
    pub name: &'a str,
}

/// What a port's protocol was decided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evidence {
    /// The annotation `heddle.dev/opaque-ports`.
    Annotation,
    /// `appProtocol`.
    AppProtocol,
    /// The first word of the port's name.
    Name,
    /// The port's number, which is opaque by custom.
    Custom,
    /// Nothing: the first bytes will show.
    #[default]
    Nothing,
}

/// What was decided of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The protocol.
    pub protocol: Protocol,
    /// By what.
    pub evidence: Evidence,
    /// What was not understood.
    pub note: Option<String>,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Annotation => "by the annotation heddle.dev/opaque-ports",
            Self::AppProtocol => "by its appProtocol",
            Self::Name => "by the port's name",
            Self::Custom => "by custom of the port's number",
            Self::Nothing => "nothing is declared: the first bytes tell",
        })
    }
}

/// Decides a port's protocol, and says what was not understood.
///
/// In this order: the opaque annotation, `appProtocol`, the name's first word (`http`, `grpc-web`), the
/// ports that are opaque by custom, and else what the first bytes will show.
pub fn decide(declared: Declared<'_>, numbers: &[Port], opaque: &BTreeSet<Port>) -> Decision {
    let decided = |protocol, evidence| Decision { protocol, evidence, note: None };
    if numbers.iter().any(|port| opaque.contains(port)) {
        return decided(Protocol::Opaque, Evidence::Annotation);
    }
    let mut note = None;
    match declared.app_protocol.parse() {
        Ok(Protocol::Detect) => {}
        Ok(protocol) => return decided(protocol, Evidence::AppProtocol),
        Err(unknown) => note = Some(unknown.to_string()),
    }
    let custom = numbers.iter().any(|port| OPAQUE_PORTS.contains(&port.number()));
    let (protocol, evidence) = match by_name(declared.name) {
        Some(protocol) => (protocol, Evidence::Name),
        None if custom => (Protocol::Opaque, Evidence::Custom),
        None => (Protocol::Detect, Evidence::Nothing),
    };
    Decision { protocol, evidence, note }
}

/// Source: Istio's explicit protocol selection, `<protocol>` or `<protocol>-<suffix>`.
fn by_name(name: &str) -> Option<Protocol> {
    let first = name.split('-').next().unwrap_or_default();
    match first {
        "http" => Some(Protocol::Http1),
        "http2" | "h2c" | "grpc" => Some(Protocol::Http2),
        "https" | "tls" => Some(Protocol::Tls),
        "tcp" | "mongo" | "mysql" | "postgres" | "postgresql" | "redis" | "smtp" => {
            Some(Protocol::Opaque)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_explicit_declaration_counts() {
        let port = |number| Port::new(number).unwrap();
        let by = |protocol, evidence| (protocol, evidence);
        for (case, app_protocol, name, numbers, expected) in [
            ("nothing is said", "", "", &[80][..], by(Protocol::Detect, Evidence::Nothing)),
            (
                "an annotation wins",
                "http",
                "http",
                &[9000],
                by(Protocol::Opaque, Evidence::Annotation),
            ),
            (
                "appProtocol beats the name",
                "kubernetes.io/h2c",
                "http",
                &[80],
                by(Protocol::Http2, Evidence::AppProtocol),
            ),
            ("a name with a suffix", "", "grpc-api", &[80], by(Protocol::Http2, Evidence::Name)),
            (
                "a word that only begins alike",
                "",
                "httpd",
                &[80],
                by(Protocol::Detect, Evidence::Nothing),
            ),
            ("a name beats the custom", "", "http", &[6379], by(Protocol::Http1, Evidence::Name)),
            (
                "the custom of a target port",
                "",
                "db",
                &[80, 5432],
                by(Protocol::Opaque, Evidence::Custom),
            ),
            (
                "an unknown appProtocol",
                "pigeon",
                "",
                &[80],
                by(Protocol::Detect, Evidence::Nothing),
            ),
            (
                "an unknown appProtocol with a name",
                "pigeon",
                "tls",
                &[80],
                by(Protocol::Tls, Evidence::Name),
            ),
        ] {
            let numbers: Vec<Port> = numbers.iter().map(|number| port(*number)).collect();
            let opaque = BTreeSet::from([port(9000)]);
            let found = decide(Declared { app_protocol, name }, &numbers, &opaque);
            assert_eq!((found.protocol, found.evidence), expected, "case: {case}");
        }
        let found = decide(Declared { app_protocol: "pigeon", name: "" }, &[], &BTreeSet::new());
        assert!(found.note.unwrap().contains("pigeon"));
    }
}
