//! Names of headers, and which headers are not a route's or a policy's to change.

use crate::translate::Rejected;

/// Reads a name that headers are looked up by.
pub fn checked(name: &str, field: impl Fn() -> String) -> Result<String, Rejected> {
    if is_token(name) && name.len() <= NAME_LIMIT_BYTES {
        return Ok(name.to_owned());
    }
    Err(Rejected::invalid(field(), format!("{name:?} is no name of a header")))
}

/// Reads the name of a header that is to be changed.
pub fn changeable(name: &str, field: impl Fn() -> String) -> Result<String, Rejected> {
    let name = checked(name, &field)?;
    let lower = name.to_ascii_lowercase();
    if FRAMING.contains(&lower.as_str()) {
        let message = format!("{name} is about one connection only, and the proxy's to write");
        return Err(Rejected::unsupported(field(), message));
    }
    if lower == CLIENT_CERTIFICATE {
        let message = format!("{name} tells who called, and is the mesh's");
        return Err(Rejected::unsupported(field(), message));
    }
    Ok(name)
}

/// RFC 9110, section 5.6.2: what names and methods are made of. Names of cookies, too: RFC 6265,
/// section 4.1.1.
pub fn is_token(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(inner)
}

/// RFC 9110, section 7.6.1, and what tells where a message ends.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// Written by the called workload's proxy.
const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";
/// As the Gateway API has it.
const NAME_LIMIT_BYTES: usize = 256;
