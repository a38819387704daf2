//! Who is answered over HTTP: people and pages of this very address. A page of another site must not read the mesh through
//! the browser of somebody who looks at it. Pure.

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, header};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nothing is changed here.
    #[error("nothing is changed here: use GET")]
    Method,
    /// A name that another site may have pointed at this address.
    #[error("the Host is not this machine's: use localhost, 127.0.0.1 or [::1]")]
    Host,
    /// Another site asks.
    #[error("a page of another site asks: open the address of the dashboard itself")]
    Foreign,
    /// There is nothing.
    #[error("there is nothing at {0}")]
    Unknown(String),
    /// The question makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It is not shown who asks.
    #[error("{0}")]
    Unauthenticated(String),
    /// Who asks may not.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
    /// As many ask as may.
    #[error("{0}")]
    Full(String),
    /// It cannot be answered now.
    #[error("{0}")]
    Unavailable(String),
    /// Ours.
    #[error("the answer cannot be written: {0}")]
    Unwritten(String),
}

impl Refusal {
    /// As HTTP says it.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            // As the standard has it for a request that came to the wrong place.
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Foreign => StatusCode::FORBIDDEN,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Full(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unwritten(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Whether a request is answered.
pub(super) fn admit(request: &Parts) -> Result<(), Refusal> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return Err(Refusal::Method);
    }
    let host = host(request)?;
    if !is_own_site(&request.headers, &host) {
        return Err(Refusal::Foreign);
    }
    Ok(())
}

/// The host that was asked for. A name of another site can be made to mean this machine (DNS rebinding), and its pages
/// would be of the same origin then.
fn host(request: &Parts) -> Result<Authority, Refusal> {
    let mut named = request.headers.get_all(header::HOST).iter().map(|value| {
        let text = value.to_str().map_err(|_| Refusal::Host)?;
        text.parse::<Authority>().map_err(|_| Refusal::Host)
    });
    let in_header = named.next().transpose()?;
    if named.next().is_some() {
        return Err(Refusal::Host);
    }
    let in_target = request.uri.authority().cloned();
    let host = in_target.clone().or_else(|| in_header.clone()).ok_or(Refusal::Host)?;
    let all = in_header.iter().chain(&in_target);
    let is_ours = |authority: &Authority| {
        !authority.as_str().contains('@')
            && OWN_HOSTS.iter().any(|own| authority.host().eq_ignore_ascii_case(own))
    };
    if all.into_iter().all(is_ours) { Ok(host) } else { Err(Refusal::Host) }
}

/// Browsers say which site asks; whatever says nothing is no browser, or an old one, which sends an `Origin` at least
/// where it would let a page of another site read the answer.
fn is_own_site(headers: &HeaderMap, host: &Authority) -> bool {
    let own_site = headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|site| [&b"same-origin"[..], b"none"].contains(&site.as_bytes()));
    let own_origin = headers
        .get_all(header::ORIGIN)
        .iter()
        .all(|origin| origin.as_bytes().strip_prefix(b"http://") == Some(host.as_str().as_bytes()));
    own_site && own_origin
}

/// Names that nobody else can give to this machine.
const OWN_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn admitted(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        admit(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_page_of_this_address_is_answered_and_no_other() {
        let own = ("host", "127.0.0.1:9000");
        let site = |site| [own, ("sec-fetch-site", site)];
        for (case, method, target, headers, expected) in [
            ("a person with curl", "GET", "/", &[own][..], Ok(())),
            ("a head", "HEAD", "/", &[own], Ok(())),
            ("typed into a browser", "GET", "/", &site("none"), Ok(())),
            ("the page's own question", "GET", "/api", &site("same-origin"), Ok(())),
            (
                "another port of this machine",
                "GET",
                "/api",
                &site("same-site"),
                Err(Refusal::Foreign),
            ),
            ("another site", "GET", "/api", &site("cross-site"), Err(Refusal::Foreign)),
            ("a word of tomorrow", "GET", "/api", &site("whatever"), Err(Refusal::Foreign)),
            ("own origin", "GET", "/", &[own, ("origin", "http://127.0.0.1:9000")], Ok(())),
            (
                "another origin",
                "GET",
                "/",
                &[own, ("origin", "http://evil.test")],
                Err(Refusal::Foreign),
            ),
            (
                "another port's origin",
                "GET",
                "/",
                &[own, ("origin", "http://127.0.0.1:80")],
                Err(Refusal::Foreign),
            ),
            ("an origin that hides", "GET", "/", &[own, ("origin", "null")], Err(Refusal::Foreign)),
        ] {
            assert_eq!(admitted(method, target, headers), expected, "case: {case}");
        }
    }

    #[test]
    fn only_questions_to_this_machine_are_answered() {
        let own = ("host", "127.0.0.1:9000");
        for (case, method, target, headers, expected) in [
            (
                "a post",
                "POST",
                "/heddle.admin.v1.Admin/RotateIdentity",
                &[own][..],
                Err(Refusal::Method),
            ),
            ("a question before one", "OPTIONS", "/api", &[own], Err(Refusal::Method)),
            ("by name", "GET", "/", &[("host", "LocalHost")], Ok(())),
            ("by IPv6", "GET", "/", &[("host", "[::1]:9000")], Ok(())),
            ("rebound", "GET", "/", &[("host", "evil.test:9000")], Err(Refusal::Host)),
            ("below our name", "GET", "/", &[("host", "localhost.evil.test")], Err(Refusal::Host)),
            (
                "a user before it",
                "GET",
                "/",
                &[("host", "localhost@evil.test")],
                Err(Refusal::Host),
            ),
            (
                "a user before ours",
                "GET",
                "/",
                &[("host", "evil.test@localhost")],
                Err(Refusal::Host),
            ),
            ("no host", "GET", "/", &[], Err(Refusal::Host)),
            ("two hosts", "GET", "/", &[own, own], Err(Refusal::Host)),
            ("a host that is none", "GET", "/", &[("host", "a b")], Err(Refusal::Host)),
            ("another in the target", "GET", "http://evil.test/", &[own], Err(Refusal::Host)),
            (
                "ours in the target, another beside it",
                "GET",
                "http://localhost/",
                &[("host", "evil.test")],
                Err(Refusal::Host),
            ),
        ] {
            assert_eq!(admitted(method, target, headers), expected, "case: {case}");
        }
    }
}
