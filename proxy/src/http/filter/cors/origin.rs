//! Origins, and patterns for them. Pure functions. Source: Gateway API v1, CORSOrigin.

/// Which origins are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OriginPattern {
    All,
    These { scheme: Scheme, host: HostPattern, port: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    All,
    /// In lower case.
    Exact(String),
    /// What stands before this, which begins with a dot, has one letter at least.
    Below(String),
}

impl OriginPattern {
    /// `None` if it is no pattern.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let (scheme, host, port) = parts(text)?;
        let host = host.to_ascii_lowercase();
        let host = if host == "*" {
            HostPattern::All
        } else if let Some(below) = host.strip_prefix('*') {
            HostPattern::Below(Some(below).filter(|below| below.starts_with('.'))?.to_owned())
        } else {
            HostPattern::Exact(host)
        };
        let name = match &host {
            HostPattern::All => "a",
            HostPattern::Below(below) => below.strip_prefix('.')?,
            HostPattern::Exact(exact) => exact,
        };
        is_host(name).then_some(Self::These { scheme, host, port })
    }

    /// Whether an origin, as a browser writes it, is meant. That may be `null`, which is no origin
    /// that could be named.
    pub(super) fn matches(&self, origin: &[u8]) -> bool {
        let Self::These { scheme, host, port } = self else { return true };
        let Some(found) = std::str::from_utf8(origin).ok().and_then(parts) else { return false };
        let (found_scheme, found_host, found_port) = found;
        found_scheme == *scheme && found_port == *port && host.matches(found_host)
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(host),
            Self::Below(below) => {
                let cut = host.len().checked_sub(below.len()).filter(|cut| *cut > 0);
                cut.and_then(|cut| host.get(cut..))
                    .is_some_and(|rest| rest.eq_ignore_ascii_case(below))
            }
        }
    }
}

/// Scheme, host and port; the last is the scheme's own if there is none.
fn parts(origin: &str) -> Option<(Scheme, &str, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let (scheme, default) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        _ => return None,
    };
    let (host, port) = host_and_port(rest)?;
    Some((scheme, host, port.unwrap_or(default)))
}

fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| is_number && *port > 0)?;
            Some((host, Some(port)))
        }
        Some(_) | None => Some((text, None)),
    }
}

/// Whether an origin is one that somebody has: `scheme://host[:port]`, of any scheme. `null` is what
/// browsers say for everybody who has none, such as a page in a sandbox that anybody may have made.
pub(super) fn is_somebodys(origin: &[u8]) -> bool {
    let parts = std::str::from_utf8(origin).ok().and_then(|text| text.split_once("://"));
    let Some((scheme, rest)) = parts else { return false };
    // RFC 3986, section 3.1.
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme && host_and_port(rest).is_some_and(|(host, _port)| is_host(host))
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match in_brackets {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            !text.is_empty() && text.bytes().all(is_plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn origins_match_as_the_gateway_api_has_it() {
        for (pattern, origin, expected) in [
            ("*", "https://a.b", true),
            ("*", "null", true),
            ("https://www.foo.com", "https://www.foo.com", true),
            ("https://www.foo.com", "https://WWW.foo.com", true),
            ("https://www.foo.com", "http://www.foo.com", false),
            ("https://www.foo.com", "https://foo.com", false),
            ("https://www.foo.com", "https://www.foo.com:443", true),
            ("https://www.foo.com:443", "https://www.foo.com", true),
            ("https://www.foo.com", "https://www.foo.com:8443", false),
            ("http://www.foo.com:8080", "http://www.foo.com:8080", true),
            ("http://www.foo.com:80", "http://www.foo.com", true),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://xpto.www.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://.bar.com", false),
            ("https://*.bar.com", "https://foobar.com", false),
            ("https://*.bar.com", "https://www.bar.com.evil.org", false),
            ("https://*.bar.com", "https://www.bar.com:8443", false),
            ("https://*.bar.com:8443", "https://www.bar.com:8443", true),
            ("https://*", "https://a.b", true),
            ("https://*", "http://a.b", false),
            ("https://*:8443", "https://a.b:8443", true),
            ("https://a", "null", false),
            ("https://*", "null", false),
            ("https://*", "chrome-extension://a", false),
            ("http://[::1]:80", "http://[::1]", true),
            ("http://127.0.0.1", "http://127.0.0.1", true),
        ] {
            let found = OriginPattern::parse(pattern).unwrap().matches(origin.as_bytes());
            assert_eq!(found, expected, "case: {pattern} {origin}");
        }
    }

    #[test]
    fn origins_are_told_from_what_is_none() {
        for (origin, expected) in [
            ("https://a.b", true),
            ("http://a:8080", true),
            ("http://[::1]:80", true),
            ("chrome-extension://abc", true),
            ("capacitor://localhost", true),
            ("null", false),
            ("", false),
            ("https://", false),
            ("://a", false),
            ("1://a", false),
            ("https://a/b", false),
            ("https://me@a", false),
            ("https://a:0", false),
            ("https://a b", false),
            ("https://a, https://b", false),
            ("https://[::1", false),
        ] {
            assert_eq!(is_somebodys(origin.as_bytes()), expected, "case: {origin:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "a",
            "a.b",
            "ftp://a",
            "https://",
            "https://a/",
            "https://a:0",
            "https://a:+80",
            "https://a:99999",
            "https://*a.b",
            "https://a.*.b",
            "https://**",
            "https://*.",
            "https://[::1",
            "https://me@a",
            "null",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "case: {text:?}");
        }
    }

    proptest! {
        /// The oracle is an expression made of the pattern.
        #[test]
        fn matching_agrees_with_the_oracle(
            stars in any::<bool>(),
            pattern in "[ab](\\.[ab]){0,2}",
            scheme in "(http|https)",
            origin in "(http|https)://[ab](\\.[ab]){0,3}",
        ) {
            let host = if stars { format!("*.{pattern}") } else { pattern.clone() };
            let name = pattern.replace('.', "\\.");
            let before = if stars { "[ab.]*[ab]\\." } else { "" };
            let expected = regex::Regex::new(&format!("^{scheme}://{before}{name}$")).unwrap();
            let parsed = OriginPattern::parse(&format!("{scheme}://{host}")).unwrap();
            prop_assert_eq!(parsed.matches(origin.as_bytes()), expected.is_match(&origin));
        }
    }
}
