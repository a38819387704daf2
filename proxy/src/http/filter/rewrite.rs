//! Rewrites: where a request seems to be going. Source: Gateway API v1, HTTPURLRewriteFilter.

use heddle_model::filter::Rewrite;
use http::header::{HOST, HeaderValue};
use http::uri::Authority;
use http::{Request, Uri};

use crate::http::filter::path::CompiledPathChange;
use crate::http::filter::{Unservable, has_path};
use crate::http::respond::ProxyError;

/// A rewrite that can be applied to every request.
#[derive(Clone, Debug)]
pub(super) struct CompiledRewrite {
    host: Option<(Authority, HeaderValue)>,
    path: Option<CompiledPathChange>,
    is_of_header: bool,
}

impl CompiledRewrite {
    pub(super) fn compile(rewrite: &Rewrite) -> Result<Self, Unservable> {
        let in_place =
            |Unservable { part, reason }| Unservable { part: format!("urlRewrite.{part}"), reason };
        let host = rewrite.hostname.as_deref().map(hostname).transpose().map_err(in_place)?;
        let path = rewrite.path.as_ref().map(CompiledPathChange::compile);
        let path = path.transpose().map_err(in_place)?;
        Ok(Self { host: host.and_then(with_value), path, is_of_header: false })
    }

    /// A header's change that sets the host.
    pub(super) fn to(host: Authority) -> Self {
        Self { host: with_value(host), path: None, is_of_header: true }
    }

    pub(super) fn is_of_header(&self) -> bool {
        self.is_of_header
    }

    pub(super) fn uses_prefix(&self) -> bool {
        self.path.as_ref().is_some_and(CompiledPathChange::uses_prefix)
    }

    /// The host is in the target where HTTP/2 has it, and in a header if it is there, or if it is
    /// nowhere else.
    pub(super) fn apply<B>(
        &self,
        request: &mut Request<B>,
        prefix: Option<&str>,
    ) -> Result<(), ProxyError> {
        let mut parts = request.uri().clone().into_parts();
        let is_in_target = parts.authority.is_some();
        if let Some((authority, value)) = &self.host {
            if is_in_target {
                parts.authority = Some(authority.clone());
            }
            if !is_in_target || request.headers().contains_key(HOST) {
                request.headers_mut().insert(HOST, value.clone());
            }
        }
        if let Some(path) = &self.path
            && has_path(request.uri())
        {
            let path = path.apply(request.uri(), prefix).map_err(invalid)?;
            parts.path_and_query = Some(path);
        }
        *request.uri_mut() = Uri::from_parts(parts).map_err(invalid)?;
        Ok(())
    }
}

/// What a change is made of was checked, and so was what it changes.
fn invalid<E>(_error: E) -> ProxyError {
    ProxyError::Internal { reason: "a rewritten target is none" }
}

/// A host name or an IPv4 address, without a port.
pub(super) fn hostname(text: &str) -> Result<Authority, Unservable> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let authority = Authority::try_from(text).ok();
    authority.filter(|_| text.bytes().all(is_plain)).ok_or_else(|| {
        let reason = format!("{text:?} is no host name; want one such as www.example.com");
        Unservable::new("hostname", reason)
    })
}

fn with_value(authority: Authority) -> Option<(Authority, HeaderValue)> {
    // An authority is visible ASCII, of which every value can be made.
    let value = HeaderValue::from_str(authority.as_str()).ok()?;
    Some((authority, value))
}

#[cfg(test)]
mod tests {
    use heddle_model::filter::PathChange;

    use super::*;

    fn rewrite(hostname: Option<&str>, path: Option<PathChange>) -> CompiledRewrite {
        let hostname = hostname.map(str::to_owned);
        CompiledRewrite::compile(&Rewrite { hostname, path }).unwrap()
    }

    #[test]
    fn hosts_and_paths_are_rewritten_where_the_version_has_them() {
        let full = || Some(PathChange::Full("/x".to_owned()));
        let prefix = || Some(PathChange::Prefix("/x".to_owned()));
        for (case, rewrite, target, host, expected, expected_host) in [
            ("a host", rewrite(Some("b"), None), "/a?q", Some("a:81"), "/a?q", Some("b")),
            ("a host of h2", rewrite(Some("b"), None), "http://a:81/a", None, "http://b/a", None),
            (
                "a host of h2 that is there twice",
                rewrite(Some("b"), None),
                "http://a/a",
                Some("a"),
                "http://b/a",
                Some("b"),
            ),
            ("a path", rewrite(None, full()), "/a?q", Some("a"), "/x?q", Some("a")),
            ("a prefix", rewrite(None, prefix()), "/a/b?q", Some("a"), "/x/b?q", Some("a")),
            ("both", rewrite(Some("b"), full()), "http://a/a?q", None, "http://b/x?q", None),
            ("nothing", rewrite(None, None), "/a?q", Some("a"), "/a?q", Some("a")),
            ("another prefix", rewrite(None, prefix()), "/b?q", Some("a"), "/b?q", Some("a")),
            ("a whole server", rewrite(Some("b"), full()), "*", Some("a"), "*", Some("b")),
            ("a prefix of nothing", rewrite(None, prefix()), "*", Some("a"), "*", Some("a")),
        ] {
            let mut request = Request::get(target).body(()).unwrap();
            if let Some(host) = host {
                request.headers_mut().insert(HOST, HeaderValue::from_str(host).unwrap());
            }
            rewrite.apply(&mut request, Some("/a")).unwrap();
            assert_eq!(request.uri().to_string(), expected, "case: {case}");
            let found = request.headers().get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!(found, expected_host, "case: {case}");
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for text in ["", "a:80", "a b", "me@a", "http://a", "[::1]", "*.example.com"] {
            let refused = hostname(text).unwrap_err();
            assert_eq!(refused.part, "hostname", "case: {text:?}");
        }
    }
}
