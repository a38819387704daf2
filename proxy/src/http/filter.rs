//! What a rule, or one of its backends, does to requests and responses. Compiling refuses what cannot
//! be served; applying is a pure function of a head. Mirrors are in mirror.rs, faults in fault.rs.
//!
//! Whatever the order in which they are written, CORS answers before a redirect does (browsers follow
//! none from a preflight), and both before anything is sent. Changes keep their order among each other.

mod cors;
pub mod headers;
mod path;
mod redirect;
mod rewrite;

use heddle_model::filter::HttpFilter;
use heddle_model::names::Port;
use http::header::{HeaderMap, HeaderValue, ORIGIN};
use http::{Method, Request, Response, Uri};

use crate::http::body::Body;
use crate::http::filter::cors::CompiledCors;
use crate::http::filter::headers::CompiledHeaders;
use crate::http::filter::redirect::CompiledRedirect;
use crate::http::filter::rewrite::CompiledRewrite;
use crate::http::respond::ProxyError;

/// The filters of one rule or backend, ready to be applied. Without any, nothing is allocated.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    cors: Option<CompiledCors>,
    redirect: Option<CompiledRedirect>,
    requests: Vec<RequestChange>,
    responses: Vec<CompiledHeaders>,
    uses_prefix: bool,
}

#[derive(Clone, Debug)]
enum RequestChange {
    Headers(CompiledHeaders),
    Rewrite(CompiledRewrite),
}

/// A filter that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unservable {
    /// Where in the rule or backend, such as `filters[1].requestRedirect.hostname`.
    pub part: String,
    /// Why, and what would do.
    pub reason: String,
}

impl Unservable {
    fn new(part: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { part: part.into(), reason: reason.into() }
    }
}

/// What is known of a request beside its head.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The port of the service that was called.
    pub port: Port,
    /// The prefix by which the rule matched, without a slash at its end; `None` if by none.
    pub prefix: Option<&'a str>,
}

impl Filters {
    /// Refuses what cannot be served. `has_prefixes`: whether all of the rule's conditions match a
    /// prefix of the path, which can be replaced then.
    pub fn compile(filters: &[HttpFilter], has_prefixes: bool) -> Result<Self, Unservable> {
        let mut compiled = Self::default();
        for (index, filter) in filters.iter().enumerate() {
            compiled.take(filter).map_err(|Unservable { part, reason }| {
                Unservable::new(format!("filters[{index}].{part}"), reason)
            })?;
            if compiled.uses_prefix && !has_prefixes {
                let part = format!("filters[{index}]");
                let reason = "a prefix can be replaced only where every match is by a prefix";
                return Err(Unservable::new(part, reason));
            }
        }
        Ok(compiled)
    }

    /// Whether nothing is done, to no request and to no response.
    pub fn is_empty(&self) -> bool {
        self.cors.is_none()
            && self.redirect.is_none()
            && self.requests.is_empty()
            && self.responses.is_empty()
    }

    fn take(&mut self, filter: &HttpFilter) -> Result<(), Unservable> {
        match filter {
            HttpFilter::RequestHeaders(change) => {
                let (headers, host) = headers::of_request(change)?;
                self.requests.push(RequestChange::Headers(headers));
                self.requests.extend(host.map(CompiledRewrite::to).map(RequestChange::Rewrite));
            }
            HttpFilter::ResponseHeaders(change) => {
                self.responses.push(headers::of_response(change)?);
            }
            HttpFilter::Redirect(redirect) => {
                let part = "requestRedirect";
                if self.has_rewrite() {
                    return Err(Unservable::new(part, "a request cannot be rewritten as well"));
                }
                let compiled = CompiledRedirect::compile(redirect)?;
                self.uses_prefix |= compiled.uses_prefix();
                once(&mut self.redirect, compiled, part)?;
            }
            HttpFilter::Rewrite(rewrite) => {
                let part = "urlRewrite";
                if self.redirect.is_some() {
                    return Err(Unservable::new(part, "a request cannot be redirected as well"));
                }
                if self.has_rewrite() {
                    return Err(Unservable::new(part, TWICE));
                }
                let compiled = CompiledRewrite::compile(rewrite)?;
                self.uses_prefix |= compiled.uses_prefix();
                self.requests.push(RequestChange::Rewrite(compiled));
            }
            HttpFilter::Cors(cors) => once(&mut self.cors, CompiledCors::compile(cors)?, "cors")?,
            // Its backend is found in resolved.rs.
            HttpFilter::Mirror(_) => {}
        }
        Ok(())
    }

    fn has_rewrite(&self) -> bool {
        self.requests.iter().any(|change| match change {
            RequestChange::Rewrite(rewrite) => !rewrite.is_of_header(),
            RequestChange::Headers(_) => false,
        })
    }

    /// Whether [`Found::prefix`] is of interest.
    pub fn uses_prefix(&self) -> bool {
        self.uses_prefix
    }

    /// The answer to a request that no backend gets. What asks about a server as a whole (`OPTIONS
    /// *`) has no location that could be another; what asks for a tunnel is refused where it would
    /// have to go elsewhere.
    pub fn answer<B>(
        &self,
        request: &Request<B>,
        found: Found<'_>,
    ) -> Result<Option<Response<Body>>, ProxyError> {
        if let Some(cors) = &self.cors
            && let Some(answer) = cors.answer_preflight(request)
        {
            return Ok(Some(answer));
        }
        let is_moved = self.redirect.is_some() || self.has_rewrite();
        if is_moved && request.method() == Method::CONNECT && !has_path(request.uri()) {
            return Err(ProxyError::NotSupported { what: MOVED_TUNNEL });
        }
        let redirect = self.redirect.as_ref().filter(|_| has_path(request.uri()));
        Ok(redirect.map(|redirect| redirect.answer(request, found)))
    }

    /// Whether requests are changed.
    pub fn change_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Changes what is sent. What was for the hop before is to be removed before: a client could have
    /// named a header that is set here as one of that.
    pub fn change_request<B>(
        &self,
        request: &mut Request<B>,
        prefix: Option<&str>,
    ) -> Result<(), ProxyError> {
        for change in &self.requests {
            match change {
                RequestChange::Headers(headers) => headers.apply(request.headers_mut()),
                RequestChange::Rewrite(rewrite) => rewrite.apply(request, prefix)?,
            }
        }
        Ok(())
    }

    /// Whether responses are changed.
    pub fn change_responses(&self) -> bool {
        self.cors.is_some() || !self.responses.is_empty()
    }

    /// Changes what is answered, be it by a backend or by the proxy; `origin` is the request's.
    pub fn change_response(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        if let Some(cors) = &self.cors {
            cors.allow(headers, origin);
        }
        for change in &self.responses {
            change.apply(headers);
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, part: &str) -> Result<(), Unservable> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Unservable::new(part, TWICE)),
    }
}

/// Whether a target has a path that could be changed: that of `OPTIONS *` and of CONNECT has none.
fn has_path(uri: &Uri) -> bool {
    uri.path().starts_with('/')
}

/// The origin that a browser says a request is from.
pub fn origin<B>(request: &Request<B>) -> Option<&HeaderValue> {
    request.headers().get(ORIGIN)
}

const MOVED_TUNNEL: &str = "CONNECT where the route redirects or rewrites";
const TWICE: &str = "there is one already; want one at most";

#[cfg(test)]
mod tests;
