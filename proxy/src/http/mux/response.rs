//! The head of an answer of HTTP/2, and its trailers: read, held against what may be forwarded, and written for the client.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::balance::ejection::Sign;
use crate::http::body::Body;
use crate::http::date;
use crate::http::gate::fields;
use crate::http::gate::octets;
use crate::http::gate::response::Fault;
use crate::http::grpc::{self, Code};
use crate::http::headers::is_of_hop;
use crate::http::hpack::decoder::Decoder;
use crate::http::hpack::encoder;
use crate::http::hpack::fields::Fields;
use crate::http::outcome;
use crate::http::respond::{ERROR_HEADER, PEER_HEADER, SOURCE_HEADER};
use crate::http::send::is_of_dead_application;

/// What a head says.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) status: u16,
    /// Of the body, in octets.
    pub(super) length: Option<u64>,
    content_type: Option<&'a [u8]>,
    grpc_status: Option<&'a [u8]>,
    error: Option<&'a [u8]>,
    has_date: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It is no HTTP (RFC 9113, section 8.1.1).
    Malformed,
    /// It could be read in two ways.
    Ambiguous(Fault),
}

impl<'a> Said<'a> {
    pub(super) fn of(fields: &'a Fields) -> Result<Self, NoAnswer> {
        let mut said = Self::default();
        for (number, field) in fields.iter().enumerate() {
            let (name, value) = (field.name, field.value);
            if number == 0 {
                said.status = status(name, value).ok_or(NoAnswer::Malformed)?;
                continue;
            }
            if !is_regular(name, value) {
                return Err(NoAnswer::Malformed);
            }
            match name.len() {
                4 if name == b"date" => said.has_date = true,
                11 if name == b"grpc-status" => said.grpc_status = said.grpc_status.or(Some(value)),
                12 if name == b"content-type" => {
                    said.content_type = said.content_type.or(Some(value))
                }
                14 if name == ERROR_HEADER.as_str().as_bytes() => {
                    said.error = said.error.or(Some(value))
                }
                14 if name == b"content-length" => {
                    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                    let number = std::str::from_utf8(value).ok().filter(|_| is_number);
                    let number = number.and_then(|number| number.parse().ok());
                    if number.is_none() || said.length.is_some() {
                        return Err(NoAnswer::Ambiguous(Fault::ContentLength));
                    }
                    said.length = number;
                }
                _ => {}
            }
        }
        match said.status {
            0 => Err(NoAnswer::Malformed),
            101 => Err(NoAnswer::Ambiguous(Fault::UnaskedUpgrade)),
            _ => Ok(said),
        }
    }

    /// Whether it is on the way to the answer, and not the answer.
    pub(super) fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// What it tells of its endpoint; `None`: only the trailers will.
    pub(super) fn sign(&self) -> Option<Sign> {
        outcome::of_fields(self.status, self.content_type, || self.grpc_status)
    }

    /// Whether it is another proxy's, whose application cannot be connected to.
    pub(super) fn is_of_dead_application(&self) -> bool {
        self.error.is_some_and(is_of_dead_application)
    }

    /// How a call of gRPC ended, if it is known by now.
    pub(super) fn grpc_status(&self) -> Option<Code> {
        grpc::status_of(self.status, self.content_type, self.grpc_status)
    }
}

/// Writes the head for the client. `mesh`: it is the proxy's of that pod, or else anybody's, who tells nothing of the
/// mesh's errors.
pub(super) fn write(fields: &Fields, said: &Said<'_>, mesh: Option<&str>, block: &mut Vec<u8>) {
    encoder::status(said.status, block);
    let is_left_out = |name: &[u8]| {
        let is = |known: &HeaderName| name == known.as_str().as_bytes();
        name.len() >= fields::MESH_PREFIX.len()
            && match (mesh, said.error) {
                (None, _) => is(&ERROR_HEADER) || is(&SOURCE_HEADER) || is(&PEER_HEADER),
                (Some(pod), Some(_)) => is(&PEER_HEADER) && !pod.is_empty(),
                (Some(_), None) => false,
            }
    };
    for field in fields.iter().skip(1).filter(|field| !is_left_out(field.name)) {
        encoder::field(field.name, field.value, field.static_name, field.is_sensitive, block);
    }
    if let (Some(pod), Some(_)) = (mesh, said.error)
        && !pod.is_empty()
    {
        encoder::field(PEER_HEADER.as_str().as_bytes(), pod.as_bytes(), 0, false, block);
    }
    if !said.has_date {
        // RFC 9110, section 6.6.1.
        date::now(|date| encoder::field(b"date", date.as_bytes(), 0, false, block));
    }
}

/// The proxy's own answer; its text, if it has one.
pub(super) fn own(response: Response<Body>, block: &mut Vec<u8>) -> Option<bytes::Bytes> {
    let (parts, body) = response.into_parts();
    encoder::status(parts.status.as_u16(), block);
    for (name, value) in &parts.headers {
        encoder::field(name.as_str().as_bytes(), value.as_bytes(), 0, false, block);
    }
    let text = body.into_text();
    if let Some(text) = &text {
        let length = text.len().to_string();
        encoder::field(b"content-length", length.as_bytes(), 0, false, block);
    }
    date::now(|date| encoder::field(b"date", date.as_bytes(), 0, false, block));
    text
}

/// Writes trailers, without those that may not come after a body; what they say of a call of gRPC. `None`: they are none.
pub(super) fn trailers(fields: &Fields, block: &mut Vec<u8>) -> Option<Option<Vec<u8>>> {
    let mut grpc_status = None;
    // h2 leaves out what only a head may say, and so does this.
    for field in fields.iter().filter(|field| field.name.first() != Some(&b':')) {
        if !is_regular(field.name, field.value) {
            return None;
        }
        if grpc_status.is_none() && field.name == outcome::GRPC_STATUS.as_bytes() {
            grpc_status = Some(field.value.to_vec());
        }
        if fields::may_trail(field.name) {
            encoder::field(field.name, field.value, field.static_name, field.is_sensitive, block);
        }
    }
    Some(grpc_status)
}

/// The head that was written, as a map, for those who want to know of it.
pub(super) fn map(block: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut fields = Fields::default();
    // It uses no table.
    if Decoder::new(0).decode(block, usize::MAX, &mut fields).is_err() {
        return map;
    }
    for field in fields.iter() {
        let name = HeaderName::from_bytes(field.name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            map.append(name, value);
        }
    }
    map
}

/// Whether a field may stand in a message of HTTP/2 as it is (RFC 9113, section 8.2): its name is a token without capital
/// letters, its value has no octets that end it, and it is not for one hop.
pub(super) fn is_regular(name: &[u8], value: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|octet| octets::is_token(*octet) && !octet.is_ascii_uppercase())
        && value.iter().all(|octet| octets::is_value(*octet))
        && !is_of_hop(name)
}

fn status(name: &[u8], value: &[u8]) -> Option<u16> {
    let is_number = name == b":status" && value.len() == 3 && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| is_number)?;
    number.parse().ok().filter(|number| StatusCode::from_u16(*number).is_ok())
}
