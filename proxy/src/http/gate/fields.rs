//! Which header fields mean something to the gate, and what becomes of them on their way.

/// What a field is to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
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
    Other,
}

pub(super) fn known(name: &[u8]) -> Known {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    match name.len() {
        4 if is("host") => Known::Host,
        6 if is("expect") => Known::Expect,
        7 if is("upgrade") => Known::Upgrade,
        10 if is("connection") => Known::Connection,
        14 if is("content-length") => Known::ContentLength,
        14 if is_alike(name, b"content-length") => Known::Lookalike,
        17 if is("transfer-encoding") => Known::TransferEncoding,
        17 if is_alike(name, b"transfer-encoding") => Known::Lookalike,
        _ if is_claim(name) => Known::Claim,
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
    !is_listed && matches!(known(name), Known::Other)
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
        Known::TransferEncoding | Known::Connection | Known::Upgrade | Known::Other => false,
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
    use super::*;

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
