//! What a port's declarations say about its protocol.

use std::collections::BTreeSet;

use heddle_model::names::{OPAQUE_PORTS, Port, Protocol};

/// What is said of a port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Declared<'a> {
    /// `appProtocol`; empty if not set.
    pub app_protocol: &'a str,
    /// The port's name; empty if not set.
    pub name: &'a str,
}

/// Decides a port's protocol, and says what was not understood.
///
/// In this order: the opaque annotation, `appProtocol`, the name's first word (`http`, `grpc-web`), the
/// ports that are opaque by custom, and else what the first bytes will show.
pub fn decide(
    declared: Declared<'_>,
    numbers: &[Port],
    opaque: &BTreeSet<Port>,
) -> (Protocol, Option<String>) {
    if numbers.iter().any(|port| opaque.contains(port)) {
        return (Protocol::Opaque, None);
    }
    let mut note = None;
    match declared.app_protocol.parse() {
        Ok(Protocol::Detect) => {}
        Ok(protocol) => return (protocol, None),
        Err(unknown) => note = Some(unknown.to_string()),
    }
    let protocol = by_name(declared.name).unwrap_or_else(|| {
        let custom = numbers.iter().any(|port| OPAQUE_PORTS.contains(&port.number()));
        if custom { Protocol::Opaque } else { Protocol::Detect }
    });
    (protocol, note)
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
        for (case, app_protocol, name, numbers, expected) in [
            ("nothing is said", "", "", &[80][..], Protocol::Detect),
            ("an annotation wins", "http", "http", &[9000], Protocol::Opaque),
            ("appProtocol beats the name", "kubernetes.io/h2c", "http", &[80], Protocol::Http2),
            ("a name with a suffix", "", "grpc-api", &[80], Protocol::Http2),
            ("a word that only begins alike", "", "httpd", &[80], Protocol::Detect),
            ("a name beats the custom", "", "http", &[6379], Protocol::Http1),
            ("the custom of a target port", "", "db", &[80, 5432], Protocol::Opaque),
            ("an unknown appProtocol", "pigeon", "", &[80], Protocol::Detect),
            ("an unknown appProtocol with a name", "pigeon", "tls", &[80], Protocol::Tls),
        ] {
            let numbers: Vec<Port> = numbers.iter().map(|number| port(*number)).collect();
            let opaque = BTreeSet::from([port(9000)]);
            let (protocol, _) = decide(Declared { app_protocol, name }, &numbers, &opaque);
            assert_eq!(protocol, expected, "case: {case}");
        }
        let (_, note) =
            decide(Declared { app_protocol: "pigeon", name: "" }, &[], &BTreeSet::new());
        assert!(note.unwrap().contains("pigeon"));
    }
}
