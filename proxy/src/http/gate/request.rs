//! What a request's head means: whom it is for, where its body ends, whether it asks for a tunnel.
//! One pure function for both versions of HTTP; what it finds is what is forwarded.

use crate::http::gate::fields::{self, Known};
use crate::http::gate::octets;
use crate::http::gate::refusal::Refusal;

/// The first part of a request, as its version of HTTP has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// A token.
    pub method: &'a [u8],
    /// Where it goes.
    pub target: Target<'a>,
    /// How it came.
    pub version: Version,
}

/// Of the request, not of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// Whom a request is for, besides what its `host` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http` or `https`.
    pub scheme: Option<&'a [u8]>,
    /// A host, and a port if it has one.
    pub authority: Option<&'a [u8]>,
    /// A path and what follows it; `*` of OPTIONS; nothing of CONNECT.
    pub path: &'a [u8],
}

/// What was found in a request that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning<'a> {
    /// The one host that it is for; a client of HTTP/1.0 may name none.
    pub host: Option<&'a [u8]>,
    /// In the form that the next hop expects.
    pub path: &'a [u8],
    /// Where its body ends. Of HTTP/2, frames say so.
    pub body: BodyLength,
    /// It asks for the connection itself (RFC 9110, sections 7.8 and 9.3.6).
    pub tunnel: bool,
    /// It waits to be told to send its body.
    pub expects: bool,
}

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// It has none, and says nothing of one.
    None,
    /// After so many octets.
    Known(u64),
    /// With its last chunk.
    Chunked,
}

/// Whether a request may pass, and what it means.
pub fn judge<'a>(
    line: Line<'a>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Meaning<'a>, Refusal> {
    judge_known(line, fields.map(|(name, value)| (fields::known(name), value)))
}

/// The same of fields whose names were looked at.
pub(super) fn judge_known<'a>(
    line: Line<'a>,
    fields: impl Iterator<Item = (Known, &'a [u8])>,
) -> Result<Meaning<'a>, Refusal> {
    let mut found = Found::default();
    for (known, value) in fields {
        found.add(known, value, line.version)?;
    }
    let path = check_target(&line)?;
    let host = found.host(&line)?;
    let body = found.body(line.version)?;
    let is_connect = line.method == b"CONNECT";
    if body != BodyLength::None && (is_connect || line.method == b"TRACE") {
        return Err(Refusal::UnexpectedBody);
    }
    let tunnel = match line.version {
        Version::Http10 => is_connect,
        Version::Http11 => is_connect || found.asks_for_upgrade(),
        Version::Http2 => is_connect,
    };
    let expects =
        found.expects
            && match (line.version, body) {
                (Version::Http10, _)
                | (Version::Http11, BodyLength::None | BodyLength::Known(0)) => false,
                (Version::Http11, BodyLength::Known(_) | BodyLength::Chunked)
                | (Version::Http2, _) => true,
            };
    Ok(Meaning { host, path, body, tunnel, expects })
}

/// The target of a request of HTTP/1 (RFC 9112, section 3.2), which has one of four forms.
pub fn read_target<'a>(method: &[u8], target: &'a [u8]) -> Result<Target<'a>, Refusal> {
    if target.contains(&b'#') {
        return Err(Refusal::Fragment);
    }
    let path_only = |path| Target { scheme: None, authority: None, path };
    if method == b"CONNECT" {
        return Ok(Target { scheme: None, authority: Some(target), path: b"" });
    }
    if target.starts_with(b"/") || target == b"*" {
        return Ok(path_only(target));
    }
    let colon = target.iter().position(|octet| *octet == b':').ok_or(Refusal::Target)?;
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://").ok_or(Refusal::Target)?;
    let end = rest.iter().position(|octet| matches!(octet, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = match (path, method) {
        // RFC 9112, section 3.2.4: what asks about a server as a whole.
        ([], b"OPTIONS") => &b"*"[..],
        ([], _) => b"/",
        // No path that could be written without copying.
        ([b'?', ..], _) => return Err(Refusal::Target),
        (path, _) => path,
    };
    Ok(Target { scheme: Some(scheme), authority: Some(authority), path })
}

/// The path, or `*`, or nothing, if the target is one of its method.
fn check_target<'a>(line: &Line<'a>) -> Result<&'a [u8], Refusal> {
    let Target { scheme, path, .. } = line.target;
    if scheme.is_some_and(|scheme| {
        !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https")
    }) {
        return Err(Refusal::Scheme);
    }
    let wrong = match line.version {
        Version::Http2 => Refusal::Path,
        Version::Http10 | Version::Http11 => Refusal::Target,
    };
    match (line.method, path) {
        // RFC 9113, section 8.5: an authority and nothing else. RFC 8441, section 4: with a protocol,
        // which admitted.rs looks for, as any other.
        (b"CONNECT", _) if line.version == Version::Http2 => {
            match (line.target.authority, scheme, path) {
                (Some(_), None, []) => Ok(path),
                (Some(_), Some(_), [b'/', ..]) => {
                    check_path(path, Refusal::ConnectOfHttp2).map(|()| path)
                }
                _ => Err(Refusal::ConnectOfHttp2),
            }
        }
        (b"CONNECT", []) | (b"OPTIONS", b"*") => Ok(path),
        // RFC 9113, section 11.6 reserves it: half a preface of HTTP/2.
        (b"PRI", _) => Err(Refusal::Method),
        (_, [b'/', ..]) => check_path(path, wrong).map(|()| path),
        _ => Err(wrong),
    }
}

fn check_path(target: &[u8], wrong: Refusal) -> Result<(), Refusal> {
    let plain = octets::plain_path_length(target);
    let (path, query) = match target.get(plain) {
        // As most paths are.
        None => return Ok(()),
        Some(b'?') => target.split_at(plain),
        Some(_) => {
            let end = target.iter().position(|octet| *octet == b'?').unwrap_or(target.len());
            target.split_at(end)
        }
    };
    let is_path =
        plain == path.len() || path.iter().skip(plain).all(|octet| octets::is_path(*octet));
    if !is_path || !query.iter().all(|octet| octets::is_query(*octet)) {
        return Err(wrong);
    }
    match plain < path.len() && has_dots(path) {
        true => Err(Refusal::DotSegments),
        false => Ok(()),
    }
}

/// Whether a segment of a path, which begins with a slash, is one of dots.
fn has_dots(path: &[u8]) -> bool {
    let mut rest = path;
    loop {
        rest = match (after_slash(rest), rest) {
            (Some(segment), _) if begins_with_dots(segment) => return true,
            (Some(segment), _) => segment,
            (None, [_octet, rest @ ..]) => rest,
            (None, []) => return false,
        };
    }
}

/// What follows a slash, or what servers take for one that unescape a path before they resolve its
/// dots: to routes, and to all else here, an escaped slash is a part of its segment.
fn after_slash(path: &[u8]) -> Option<&[u8]> {
    match path {
        [b'/', rest @ ..]
        | [b'%', b'2', b'f' | b'F', rest @ ..]
        | [b'%', b'5', b'c' | b'C', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// `.` or `..`, escaped or not, and with the parameters that some servers cut off first.
fn begins_with_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    for dots in 0..=2 {
        rest = match rest {
            [] | [b';', ..] => return dots > 0,
            rest if after_slash(rest).is_some() => return dots > 0,
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
    }
    false
}

/// `host[:port]`, of RFC 9110, section 7.2, with a name that resolvers take.
pub fn check_authority(authority: &[u8]) -> Result<(), Refusal> {
    // A name and perhaps a port, as almost all are, at one look.
    let (host, rest) = authority.split_at(octets::host_length(authority));
    let is_rest = match rest {
        [] => true,
        [b':', port @ ..] => is_port(port),
        [_, ..] => false,
    };
    if is_rest && (1..=HOST_LIMIT_BYTES).contains(&host.len()) {
        return Ok(());
    }
    check_rare_authority(authority)
}

fn check_rare_authority(authority: &[u8]) -> Result<(), Refusal> {
    if authority.contains(&b'@') {
        return Err(Refusal::UserInfo);
    }
    let (host, port) = split_port(authority).ok_or(Refusal::Host)?;
    let is_host = match host {
        [b'[', address @ .., b']'] => std::str::from_utf8(address)
            .is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        name => {
            !name.is_empty()
                && name.len() <= HOST_LIMIT_BYTES
                && name.iter().all(|octet| octets::is_host(*octet))
        }
    };
    if is_host && port.is_none_or(is_port) { Ok(()) } else { Err(Refusal::Host) }
}

/// The colon of a port is the last, and that of an IPv6 address is between brackets.
fn split_port(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let colon = match authority.iter().rposition(|octet| *octet == b']') {
        Some(end) if end + 1 == authority.len() => None,
        Some(end) => (authority.get(end + 1) == Some(&b':')).then_some(Some(end + 1))?,
        None => authority.iter().position(|octet| *octet == b':'),
    };
    match colon {
        None => Some((authority, None)),
        Some(colon) => Some((authority.get(..colon)?, Some(authority.get(colon + 1..)?))),
    }
}

fn is_port(port: &[u8]) -> bool {
    let is_short = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let number = || port.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    is_short && port.first() != Some(&b'0') && number() <= u32::from(u16::MAX)
}

/// The port of HTTP need not be written.
pub fn names_same(authority: &[u8], host: &[u8]) -> bool {
    fn without_port(name: &[u8]) -> &[u8] {
        name.strip_suffix(b":80").unwrap_or(name)
    }
    without_port(authority).eq_ignore_ascii_case(without_port(host))
}

/// What the fields said so far.
#[derive(Default)]
struct Found<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    has_upgrade_option: bool,
    has_upgrade: bool,
    upgrades_http: bool,
    expects: bool,
}

impl<'a> Found<'a> {
    fn add(&mut self, known: Known, value: &'a [u8], version: Version) -> Result<(), Refusal> {
        let is_space = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
        if is_space(value.first()) || is_space(value.last()) {
            return Err(Refusal::Padded);
        }
        match known {
            Known::Host if self.host.is_some() => return Err(Refusal::HostRepeated),
            Known::Host => self.host = Some(value),
            Known::ContentLength if self.length.is_some() => {
                return Err(Refusal::ContentLengthRepeated);
            }
            Known::ContentLength => self.length = Some(number(value)?),
            Known::TransferEncoding => self.add_coding(value, version)?,
            Known::Lookalike => return Err(Refusal::FramingLookalike),
            Known::Connection => self.add_options(value)?,
            Known::Upgrade => {
                self.has_upgrade = true;
                self.upgrades_http |= elements(value).any(is_http);
            }
            Known::Expect if self.expects || !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(Refusal::Expectation);
            }
            Known::Expect => self.expects = true,
            Known::Claim | Known::Te | Known::ContentType | Known::Hop | Known::Other => {}
        }
        Ok(())
    }

    fn add_coding(&mut self, value: &[u8], version: Version) -> Result<(), Refusal> {
        if version == Version::Http10 {
            return Err(Refusal::TransferEncodingOld);
        }
        if self.is_chunked {
            return Err(Refusal::TransferEncodingRepeated);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.is_chunked = true;
            return Ok(());
        }
        // RFC 9112, section 6.1 has 501 for codings that are not known, and 400 for what could be
        // read as another.
        let is_token = |coding: &[u8]| {
            !coding.is_empty() && coding.iter().all(|octet| octets::is_token(*octet))
        };
        let last_is_chunked =
            elements(value).last().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        if last_is_chunked
            && elements(value).filter(|coding| is_chunked(coding)).count() == 1
            && elements(value).all(is_token)
        {
            return Err(Refusal::TransferCoding);
        }
        Err(Refusal::TransferEncoding)
    }

    fn add_options(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // RFC 9110, section 5.6.1: empty elements are ignored.
        for option in elements(value).filter(|option| !option.is_empty()) {
            if !option.iter().all(|octet| octets::is_token(*octet)) {
                return Err(Refusal::ConnectionOption);
            }
            if !fields::may_be_named(option) {
                return Err(Refusal::ConnectionNames);
            }
            self.has_upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }

    /// An upgrade to HTTP is none: its requests would pass unseen through a tunnel. A server need
    /// not agree, and is not asked.
    fn asks_for_upgrade(&self) -> bool {
        self.has_upgrade && self.has_upgrade_option && !self.upgrades_http
    }

    /// RFC 9112, section 3.2.2: the target's host, if it names one. RFC 9113, section 8.3.1: what
    /// is said twice must be the same.
    fn host(&self, line: &Line<'a>) -> Result<Option<&'a [u8]>, Refusal> {
        if let Some(host) = self.host {
            check_authority(host)?;
        }
        if let Some(authority) = line.target.authority {
            check_authority(authority)?;
            let has_port = split_port(authority).is_some_and(|(_host, port)| port.is_some());
            if line.method == b"CONNECT" && line.target.scheme.is_none() && !has_port {
                return Err(Refusal::Target);
            }
        }
        match (line.version, line.target.authority, self.host) {
            (Version::Http11, _, None) | (Version::Http2, None, None) => Err(Refusal::HostMissing),
            (Version::Http2, Some(authority), Some(host)) if !names_same(authority, host) => {
                Err(Refusal::HostConflict)
            }
            (_, Some(authority), _) => Ok(Some(authority)),
            (_, None, host) => Ok(host),
        }
    }

    /// RFC 9112, section 6.3.
    fn body(&self, version: Version) -> Result<BodyLength, Refusal> {
        match (self.is_chunked, self.length) {
            (true, _) if version == Version::Http2 => Err(Refusal::TransferEncoding),
            (true, Some(_)) => Err(Refusal::LengthAndCoding),
            (true, None) => Ok(BodyLength::Chunked),
            (false, Some(length)) => Ok(BodyLength::Known(length)),
            (false, None) => Ok(BodyLength::None),
        }
    }
}

/// RFC 9110, section 8.6: digits, and nothing else.
fn number(value: &[u8]) -> Result<u64, Refusal> {
    let is_number =
        (1..=LENGTH_LIMIT_DIGITS).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_text| is_number);
    text.and_then(|text| text.parse().ok()).ok_or(Refusal::ContentLength)
}

fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

/// `h2c`, or `HTTP/2.0` and its like.
fn is_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|octet| *octet == b'/').next().unwrap_or_default();
    ["h2c", "h2", "http"].iter().any(|http| name.eq_ignore_ascii_case(http.as_bytes()))
}

/// The elements of a list (RFC 9110, section 5.6.1), without the spaces around them.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii)
}

/// What DNS has.
const HOST_LIMIT_BYTES: usize = 253;
/// Eighteen digits are an exabyte.
const LENGTH_LIMIT_DIGITS: usize = 18;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each question by itself.
    fn check_path_slowly(target: &[u8]) -> Result<(), Refusal> {
        let end = target.iter().position(|octet| *octet == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(end);
        let is_path = path.iter().all(|octet| octets::is_path(*octet));
        if !is_path || !query.iter().all(|octet| octets::is_query(*octet)) {
            return Err(Refusal::Target);
        }
        if has_dots(path) { Err(Refusal::DotSegments) } else { Ok(()) }
    }

    fn is_port_slowly(port: &[u8]) -> bool {
        let is_written_once = port.first().is_some_and(|first| (b'1'..=b'9').contains(first));
        is_written_once
            && port.iter().all(u8::is_ascii_digit)
            && std::str::from_utf8(port).unwrap().parse::<u16>().is_ok()
    }

    fn bent(text: &str, changed: Option<(prop::sample::Index, u8)>) -> Vec<u8> {
        let mut octets = text.as_bytes().to_vec();
        if let Some((at, octet)) = changed
            && !octets.is_empty()
        {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        octets
    }

    proptest! {
        #[test]
        fn a_path_is_checked_as_its_parts_are(
            text in "/([a-z;=]{0,3}|\\.{0,3}|%2[eEfF]|%5[cC]|/){0,6}(\\?[a-z/.?#\\\\`%]{0,6})?",
            changed in proptest::option::weighted(0.3, any::<(prop::sample::Index, u8)>()),
        ) {
            let target = bent(&text, changed);
            prop_assert_eq!(check_path(&target, Refusal::Target), check_path_slowly(&target));
        }

        #[test]
        fn an_authority_is_checked_as_a_rare_one_is(
            text in "([a-z0-9._~-]{0,12}|\\[[0-9a-f:.]{0,9}\\]|[a-z]{250,256})(:[0-9]{0,6})?[@:]?",
            changed in proptest::option::weighted(0.3, any::<(prop::sample::Index, u8)>()),
        ) {
            let authority = bent(&text, changed);
            prop_assert_eq!(check_authority(&authority), check_rare_authority(&authority));
        }

        #[test]
        fn a_port_is_a_number_that_is_written_in_one_way(port in "[0-9]{0,6}|[0-9a+ -]{1,5}|655[0-9]{2}") {
            prop_assert_eq!(is_port(port.as_bytes()), is_port_slowly(port.as_bytes()));
        }
    }
}
