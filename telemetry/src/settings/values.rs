//! How the values of OpenTelemetry's variables are written.

use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri};

use crate::settings::Protocol;

/// Source: "Environment Variable Specification", boolean values: case does not matter.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(super) fn milliseconds(text: &str) -> Option<Duration> {
    let number = text.parse().ok().filter(|number| (1..=LONGEST_MS).contains(number))?;
    Some(Duration::from_millis(number))
}

/// Pairs as W3C Baggage writes them, but for its properties.
pub(super) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let written = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = written.map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let key = decoded(key.trim()).filter(|key| !key.is_empty())?;
        Some((key, decoded(value.trim())?))
    });
    pairs.collect::<Option<Vec<_>>>().filter(|pairs| pairs.len() <= PAIR_LIMIT)
}

pub(super) fn headers(text: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let header = |(name, value): (String, String)| {
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name.parse().ok()?, value))
    };
    pairs(text)?.into_iter().map(header).collect()
}

/// An address with a scheme that says whether it is encrypted. One for all signals gets `path` added, for
/// HTTP: gRPC has its own.
pub(super) fn endpoint(text: &str, protocol: Protocol, path: Option<&str>) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme()?;
    let is_known = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    if !is_known || authority.host().is_empty() {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    let base = uri.path().trim_end_matches('/');
    let path = match (protocol, path) {
        (Protocol::Grpc, _) => "/".to_owned(),
        (Protocol::HttpProtobuf, Some(path)) => format!("{base}/{path}"),
        (Protocol::HttpProtobuf, None) => return Some(uri),
    };
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// An hour: whoever waits longer has mistaken the unit.
const LONGEST_MS: u64 = 3_600_000;
/// Of headers, or attributes.
const PAIR_LIMIT: usize = 128;
