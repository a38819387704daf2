//! Which header fields mean something to the gate, and what becomes of them on their way.

/// What a field is to the gate, and to who sends a request on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    /// Looks like one that says where the body ends.
    Lookalike,
    /// What the mesh says of a request, and nobody else may.
    Claim,
    Te,
    ContentType,
    /// Another that is for one hop only.
    Hop,
    Other,
}

impl Known {
    /// Whether it is for one hop only, whatever it says (RFC 9110, section 7.6.1); what `connection` names is, too.
    pub(in crate::http) fn is_of_hop(self) -> bool {
        match self {
            Self::TransferEncoding | Self::Connection | Self::Upgrade | Self::Hop => true,
            Self::Host
            | Self::ContentLength
            | Self::Expect
            | Self::Lookalike
            | Self::Claim
            | Self::Te
            | Self::ContentType
            | Self::Other => false,
        }
    }
}

/// All that is asked of a name is asked once: most are none of these, which their length and first letter tell.
pub(in crate::http) fn known(name: &[u8]) -> Known {
    // Almost everybody writes them in the same way.
    let is = |other: &[u8]| name == other || name.eq_ignore_ascii_case(other);
    let Some(first) = name.first() else { return Known::Other };
    match (name.len(), first.to_ascii_lowercase()) {
        (2, b't') if is(b"te") => Known::Te,
        (4, b'h') if is(b"host") => Known::Host,
        (6, b'e') if is(b"expect") => Known::Expect,
        (7, b'u') if is(b"upgrade") => Known::Upgrade,
        (10, b'c') if is(b"connection") => Known::Connection,
        (10, b'k') if is(b"keep-alive") => Known::Hop,
        (12, b'c') if is(b"content-type") => Known::ContentType,
        (14, b'c') if is(b"content-length") => Known::ContentLength,
        (14, b'c') if is_alike(name, b"content-length") => Known::Lookalike,
        (14, b'h') if is(b"http2-settings") => Known::Hop,
        (16, b'p') if is(b"proxy-connection") => Known::Hop,
        (17, b't') if is(b"transfer-encoding") => Known::TransferEncoding,
        (17, b't') if is_alike(name, b"transfer-encoding") => Known::Lookalike,
        (_, b'x') if is_claim(name) => Known::Claim,
        _ => Known::Other,
    }
}

/// What only the mesh says: the caller's identity, and everything under the mesh's own name. To
/// applications that read headers from variables, as CGI has it, `_` is the same as `-`.
pub fn is_claim(name: &[u8]) -> bool {
    matches!(name, [b'x' | b'X', b'-' | b'_', ..])
        && (is_alike(name, CLIENT_CERTIFICATE.as_bytes())
            || name
                .get(..MESH_PREFIX.len())
                .is_some_and(|prefix| is_alike(prefix, MESH_PREFIX.as_bytes())))
}

/// Whether a name is not that of a field that says where a message ends, and may be taken for it.
pub fn is_lookalike(name: &[u8]) -> bool {
    known(name) == Known::Lookalike
}

/// The same but for case, and `_` in place of `-`.
fn is_alike(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len()
        && name.iter().zip(other).all(|(octet, expected)| {
            octet.eq_ignore_ascii_case(expected) || (*octet, *expected) == (b'_', b'-')
        })
}

/// Whether a field may come after the body. RFC 9110, section 6.5.1: not what says where a message
/// ends, whom it is for, or who sent it.
pub fn may_trail(name: &[u8]) -> bool {
    let is_listed = NOT_IN_TRAILERS.iter().any(|listed| name.eq_ignore_ascii_case(listed));
    let is_other =
        matches!(known(name), Known::Te | Known::ContentType | Known::Hop | Known::Other);
    !is_listed && is_other
}

/// Whether `Connection` may name a field, to have it removed at the next hop (RFC 9110, section
/// 7.6.1). Who names one of these takes from the recipient what it goes by.
pub(super) fn may_be_named(name: &[u8]) -> bool {
    let is_prefixed = NEVER_NAMED_PREFIXES.iter().any(|prefix| {
        name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    });
    let is_listed = NEVER_NAMED.iter().any(|listed| name.eq_ignore_ascii_case(listed));
    let is_framing = match known(name) {
        Known::Host | Known::ContentLength | Known::Lookalike | Known::Claim | Known::Expect => {
            true
        }
        Known::TransferEncoding
        | Known::Connection
        | Known::Upgrade
        | Known::Te
        | Known::ContentType
        | Known::Hop
        | Known::Other => false,
    };
    !is_prefixed && !is_listed && !is_framing
}

/// One line.
pub(in crate::http) fn write(output: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    output.extend_from_slice(name);
    output.extend_from_slice(b": ");
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}

/// Envoy's name, which applications know.
pub const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";
/// Of everything that is the mesh's own, such as `x-heddle-error`.
pub const MESH_PREFIX: &str = "x-heddle-";
const NEVER_NAMED: [&[u8]; 7] = [
    b"authorization",
    b"content-encoding",
    b"content-type",
    b"cookie",
    b"forwarded",
    b"range",
    b"via",
];
const NEVER_NAMED_PREFIXES: [&[u8]; 2] = [b"x-forwarded-", b"x-real-"];
const NOT_IN_TRAILERS: [&[u8]; 15] = [
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-range",
    b"content-type",
    b"cookie",
    b"forwarded",
    b"keep-alive",
    b"max-forwards",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"set-cookie",
    b"te",
    b"trailer",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One question after the other.
    fn known_slowly(name: &[u8]) -> Known {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let is_alike = |other: &str| {
            let dashed = name.iter().map(|octet| if *octet == b'_' { b'-' } else { *octet });
            dashed.collect::<Vec<u8>>().eq_ignore_ascii_case(other.as_bytes())
        };
        let exact = [
            ("host", Known::Host),
            ("expect", Known::Expect),
            ("upgrade", Known::Upgrade),
            ("connection", Known::Connection),
            ("content-length", Known::ContentLength),
            ("transfer-encoding", Known::TransferEncoding),
            ("te", Known::Te),
            ("content-type", Known::ContentType),
            ("keep-alive", Known::Hop),
            ("http2-settings", Known::Hop),
            ("proxy-connection", Known::Hop),
        ];
        if let Some((_name, known)) = exact.iter().find(|(other, _)| is(other)) {
            return *known;
        }
        match name {
            _ if is_alike("content-length") || is_alike("transfer-encoding") => Known::Lookalike,
            name if is_claim(name) => Known::Claim,
            _ => Known::Other,
        }
    }

    proptest! {
        #[test]
        fn a_name_is_known_as_it_is_when_asked_for_each(
            name in proptest::sample::select(vec![
                "host", "expect", "upgrade", "connection", "content-length", "transfer-encoding", "te",
                "content-type", "keep-alive", "http2-settings", "proxy-connection", "accept", "cookie",
                "x-forwarded-client-cert", "x-heddle-error", "x-request-id", "",
            ]),
            cases in proptest::collection::vec(any::<bool>(), 32),
            changed in proptest::option::weighted(0.4, (any::<proptest::sample::Index>(), any::<u8>())),
        ) {
            let mut name: Vec<u8> = name.bytes().zip(cases)
                .map(|(octet, is_upper)| if is_upper { octet.to_ascii_uppercase() } else { octet })
                .collect();
            if let Some((at, octet)) = changed && !name.is_empty() {
                let at = at.index(name.len());
                name[at] = if octet % 3 == 0 { b'_' } else { octet };
            }
            prop_assert_eq!(known(&name), known_slowly(&name));
        }
    }

    #[test]
    fn fields_are_known_by_their_names() {
        for (name, expected) in [
            ("hOST", Known::Host),
            ("Content-Length", Known::ContentLength),
            ("content_length", Known::Lookalike),
            ("transfer_encoding", Known::Lookalike),
            ("X-Forwarded-Client-Cert", Known::Claim),
            ("x_forwarded_client-cert", Known::Claim),
            ("x-heddle-anything", Known::Claim),
            ("X_Heddle_Error", Known::Claim),
            ("x-heddle", Known::Other),
            ("Te", Known::Te),
            ("Keep-Alive", Known::Hop),
            ("keep_alive", Known::Other),
            ("x-forwarded-for", Known::Other),
        ] {
            assert_eq!(known(name.as_bytes()), expected, "case: {name}");
        }
    }

    #[test]
    fn trailers_do_not_change_what_the_head_said() {
        for (name, expected) in [
            ("x-checksum", true),
            ("grpc-status", true),
            ("Host", false),
            ("content-length", false),
            ("Transfer-Encoding", false),
            ("x-forwarded-client-cert", false),
            ("cookie", false),
        ] {
            assert_eq!(may_trail(name.as_bytes()), expected, "case: {name}");
        }
    }
}
