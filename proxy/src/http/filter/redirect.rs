//! Redirects: another location as the answer. Source: Gateway API v1, HTTPRequestRedirectFilter.

use heddle_matcher::host;
use heddle_model::filter::Redirect;
use heddle_model::names::Port;
use http::header::{HeaderValue, LOCATION};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode};

use crate::http::body::Body;
use crate::http::filter::path::CompiledPathChange;
use crate::http::filter::rewrite::hostname;
use crate::http::filter::{Found, Unservable};

/// A redirect that can be answered to every request.
#[derive(Clone, Debug)]
pub(super) struct CompiledRedirect {
    scheme: Option<Scheme>,
    hostname: Option<String>,
    path: Option<CompiledPathChange>,
    port: Option<Port>,
    status: StatusCode,
}

impl CompiledRedirect {
    pub(super) fn compile(redirect: &Redirect) -> Result<Self, Unservable> {
        let in_place = |Unservable { part, reason }| Unservable {
            part: format!("requestRedirect.{part}"),
            reason,
        };
        let path = redirect.path.as_ref().map(CompiledPathChange::compile);
        if let Some(text) = &redirect.hostname {
            hostname(text).map_err(in_place)?;
        }
        Ok(Self {
            scheme: redirect.scheme.as_deref().map(scheme).transpose().map_err(in_place)?,
            hostname: redirect.hostname.clone(),
            path: path.transpose().map_err(in_place)?,
            port: redirect.port,
            status: status(redirect.status).map_err(in_place)?,
        })
    }

    pub(super) fn uses_prefix(&self) -> bool {
        self.path.as_ref().is_some_and(CompiledPathChange::uses_prefix)
    }

    pub(super) fn answer<B>(&self, request: &Request<B>, found: Found<'_>) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        match self.location(request, found) {
            Some(location) => {
                *response.status_mut() = self.status;
                response.headers_mut().insert(LOCATION, location);
            }
            // A path that is longer than any can be, by what it was changed to.
            None => *response.status_mut() = StatusCode::URI_TOO_LONG,
        }
        response
    }

    fn location<B>(&self, request: &Request<B>, found: Found<'_>) -> Option<HeaderValue> {
        // What the application encrypts is not read, so that every request came by http.
        let scheme = self.scheme.as_ref().unwrap_or(&Scheme::HTTP);
        let well_known = if *scheme == Scheme::HTTPS { HTTPS_PORT } else { HTTP_PORT };
        let called = found.port.number();
        let port = match (self.port, &self.scheme) {
            (Some(port), _) => port.number(),
            (None, Some(_)) => well_known,
            (None, None) => called,
        };
        let host = self.hostname.as_deref().unwrap_or_else(|| host::of(request));
        let uri = request.uri();
        let path = match &self.path {
            Some(change) => change.apply(uri, found.prefix).ok()?,
            None => uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")),
        };
        let location = if port == well_known {
            format!("{scheme}://{host}{path}")
        } else {
            format!("{scheme}://{host}:{port}{path}")
        };
        HeaderValue::try_from(location).ok()
    }
}

fn scheme(text: &str) -> Result<Scheme, Unservable> {
    match text {
        "http" => Ok(Scheme::HTTP),
        "https" => Ok(Scheme::HTTPS),
        other => Err(Unservable::new("scheme", format!("{other:?}; want http or https"))),
    }
}

fn status(code: u16) -> Result<StatusCode, Unservable> {
    let status = StatusCode::from_u16(code).ok().filter(|_| STATUSES.contains(&code));
    status.ok_or_else(|| {
        Unservable::new("statusCode", format!("{code}; want 301, 302, 303, 307 or 308"))
    })
}

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use heddle_model::filter::PathChange;
    use proptest::prelude::*;

    use super::*;

    fn nothing() -> Redirect {
        Redirect { scheme: None, hostname: None, path: None, port: None, status: 302 }
    }

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn location(redirect: &Redirect, target: &str, host: &str, called: u16) -> String {
        let request = Request::get(target).header("host", host).body(()).unwrap();
        let found = Found { port: port(called), prefix: Some("/a") };
        let answer = CompiledRedirect::compile(redirect).unwrap().answer(&request, found);
        assert_eq!(answer.status().as_u16(), redirect.status);
        answer.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_not_set_stays_as_it_was() {
        let scheme = |scheme: &str| Some(scheme.to_owned());
        let path = |path| Redirect { path: Some(path), ..nothing() };
        for (case, redirect, called, expected) in [
            ("nothing", nothing(), 80, "http://web/a/b?c=d"),
            ("nothing, at another port", nothing(), 8080, "http://web:8080/a/b?c=d"),
            (
                "a host",
                Redirect { hostname: Some("example.org".to_owned()), ..nothing() },
                80,
                "http://example.org/a/b?c=d",
            ),
            (
                "https",
                Redirect { scheme: scheme("https"), ..nothing() },
                8080,
                "https://web/a/b?c=d",
            ),
            ("http", Redirect { scheme: scheme("http"), ..nothing() }, 8080, "http://web/a/b?c=d"),
            ("a port", Redirect { port: Some(port(81)), ..nothing() }, 80, "http://web:81/a/b?c=d"),
            ("port 80", Redirect { port: Some(port(80)), ..nothing() }, 81, "http://web/a/b?c=d"),
            (
                "port 443",
                Redirect { port: Some(port(443)), ..nothing() },
                80,
                "http://web:443/a/b?c=d",
            ),
            (
                "https at port 443",
                Redirect { scheme: scheme("https"), port: Some(port(443)), ..nothing() },
                80,
                "https://web/a/b?c=d",
            ),
            (
                "https at port 80",
                Redirect { scheme: scheme("https"), port: Some(port(80)), ..nothing() },
                80,
                "https://web:80/a/b?c=d",
            ),
            ("called at 443", nothing(), 443, "http://web:443/a/b?c=d"),
            ("a path", path(PathChange::Full("/x".to_owned())), 80, "http://web/x?c=d"),
            ("a prefix", path(PathChange::Prefix("/x".to_owned())), 80, "http://web/x/b?c=d"),
        ] {
            for host in ["web", "web:1234"] {
                let found = location(&redirect, "/a/b?c=d", host, called);
                assert_eq!(found, expected, "case: {case}, called as {host}");
            }
        }
    }

    #[test]
    fn every_kind_of_host_is_told_from_its_port() {
        for (target, host, expected) in [
            ("/", "[::1]:81", "http://[::1]/"),
            ("/", "[::1]", "http://[::1]/"),
            ("/", "10.0.0.1:81", "http://10.0.0.1/"),
            ("http://api:81/", "ignored", "http://api/"),
            ("http://[::1]:81/", "ignored", "http://[::1]/"),
        ] {
            assert_eq!(location(&nothing(), target, host, 80), expected, "case: {target} {host}");
        }
    }

    #[test]
    fn every_status_of_a_redirect_is_served_and_no_other() {
        for status in STATUSES {
            location(&Redirect { status, ..nothing() }, "/", "a", 80);
        }
        for (redirect, part) in [
            (Redirect { status: 300, ..nothing() }, "statusCode"),
            (Redirect { status: 304, ..nothing() }, "statusCode"),
            (Redirect { scheme: Some("ftp".to_owned()), ..nothing() }, "scheme"),
            (Redirect { hostname: Some("a:80".to_owned()), ..nothing() }, "hostname"),
            (
                Redirect { path: Some(PathChange::Full("x".to_owned())), ..nothing() },
                "path.replaceFullPath",
            ),
        ] {
            let refused = CompiledRedirect::compile(&redirect).unwrap_err();
            assert_eq!(refused.part, format!("requestRedirect.{part}"));
        }
    }

    proptest! {
        #[test]
        fn a_location_agrees_with_the_oracle(
            scheme in proptest::option::of("(http|https)"),
            hostname in proptest::option::of("[a-z]{1,5}"),
            redirect_port in proptest::option::of(prop_oneof![Just(80), Just(443), 1..500_u16]),
            called in prop_oneof![Just(80), Just(443), 1..500_u16],
        ) {
            let redirect = Redirect {
                scheme: scheme.clone(),
                hostname: hostname.clone(),
                port: redirect_port.and_then(Port::new),
                ..nothing()
            };
            // The rules of HTTPRequestRedirectFilter's port, one by one.
            let default = |scheme: &str| if scheme == "https" { 443 } else { 80 };
            let mut port = called;
            if let Some(scheme) = &scheme {
                port = default(scheme);
            }
            if let Some(explicit) = redirect_port {
                port = explicit;
            }
            let scheme = scheme.unwrap_or("http".to_owned());
            let host = hostname.unwrap_or("web".to_owned());
            let port =
                if port == default(&scheme) { String::new() } else { format!(":{port}") };
            let expected = format!("{scheme}://{host}{port}/a?b");
            prop_assert_eq!(location(&redirect, "/a?b", "web:99", called), expected);
        }
    }
}
