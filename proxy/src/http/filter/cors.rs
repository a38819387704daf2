//! CORS: answers the browser's question which other origins may call (preflight), and tells it with
//! each response. A request is never refused for its origin: what a script may not read, its browser
//! keeps from it. Sources: Gateway API v1, HTTPCORSFilter; the Fetch standard, "HTTP CORS protocol".

mod origin;

use heddle_model::filter::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, SET_COOKIE, VARY,
};
use http::{Method, Request, Response};

use crate::http::body::Body;
use crate::http::filter::Unservable;
use crate::http::filter::cors::origin::{OriginPattern, is_somebodys};

/// Which origins may call, and how, ready to be told.
#[derive(Clone, Debug)]
pub(super) struct CompiledCors {
    origins: Vec<OriginPattern>,
    methods: Names,
    headers: Names,
    exposed: Names,
    allows_credentials: bool,
    max_age: HeaderValue,
}

/// Names that a browser is told.
#[derive(Clone, Debug)]
enum Names {
    None,
    /// Joined by commas.
    These(HeaderValue),
    All,
}

impl CompiledCors {
    pub(super) fn compile(cors: &Cors) -> Result<Self, Unservable> {
        let mut origins = Vec::new();
        for (index, text) in cors.allow_origins.iter().enumerate() {
            let origin = OriginPattern::parse(text).ok_or_else(|| {
                let reason = format!(
                    "{text:?} is no origin; want *, or one such as https://example.com or \
                     https://*.example.com"
                );
                Unservable::new(format!("cors.allowOrigins[{index}]"), reason)
            })?;
            origins.push(origin);
        }
        let max_age = HeaderValue::from(cors.max_age.as_secs());
        Ok(Self {
            origins,
            methods: Names::compile(&cors.allow_methods, "allowMethods")?,
            headers: Names::compile(&cors.allow_headers, "allowHeaders")?,
            exposed: Names::compile(&cors.expose_headers, "exposeHeaders")?,
            allows_credentials: cors.allow_credentials,
            max_age,
        })
    }

    /// The answer to a preflight, without what [`Self::allow`] adds to every response.
    pub(super) fn answer_preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let headers = request.headers();
        let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = headers.get(ORIGIN)?;
        if request.method() != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(Body::empty());
        if !self.allows(origin) {
            return Some(response);
        }
        let told = response.headers_mut();
        self.methods.tell(told, ACCESS_CONTROL_ALLOW_METHODS, Some(method));
        let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        self.headers.tell(told, ACCESS_CONTROL_ALLOW_HEADERS, asked);
        told.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        Some(response)
    }

    /// Tells what a response's reader may do with it. What the backend itself says of that is replaced:
    /// of two answers a browser takes none.
    pub(super) fn allow(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        let is_for_all = self.is_for_all();
        if !is_for_all {
            vary_by_origin(headers);
        }
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
        let allowed = if is_for_all { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.allows_credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        match &self.exposed {
            // With credentials, a star is the name of a header.
            Names::All if self.allows_credentials => {
                headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
                let names = response_names(headers);
                Names::of(&names).tell(headers, ACCESS_CONTROL_EXPOSE_HEADERS, None);
            }
            Names::All => {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
            }
            Names::None | Names::These(_) => {
                self.exposed.tell(headers, ACCESS_CONTROL_EXPOSE_HEADERS, None);
            }
        }
    }

    /// With credentials, a star is for everybody who is somebody: `null`, and what is no origin, is
    /// never answered with itself.
    fn allows(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        (!self.allows_credentials || is_somebodys(origin))
            && self.origins.iter().any(|pattern| pattern.matches(origin))
    }

    /// Whether every origin gets the same response.
    fn is_for_all(&self) -> bool {
        !self.allows_credentials && self.origins.contains(&OriginPattern::All)
    }
}

impl Names {
    fn compile(names: &[String], field: &str) -> Result<Self, Unservable> {
        for (index, name) in names.iter().enumerate() {
            // What is a header's name is a method's, too (RFC 9110, section 5.6.2).
            if Method::from_bytes(name.as_bytes()).is_err() {
                let reason = format!("{name:?} is neither a name nor *");
                return Err(Unservable::new(format!("cors.{field}[{index}]"), reason));
            }
        }
        if names.iter().any(|name| name == "*") {
            return Ok(Self::All);
        }
        Ok(Self::of(names))
    }

    fn of(names: &[String]) -> Self {
        match HeaderValue::from_str(&names.join(", ")) {
            Ok(joined) if !joined.is_empty() => Self::These(joined),
            Ok(_) | Err(_) => Self::None,
        }
    }

    /// All that is asked for, if all are allowed.
    fn tell(&self, headers: &mut HeaderMap, header: HeaderName, asked: Option<&HeaderValue>) {
        let told = match self {
            Self::None => None,
            Self::These(joined) => Some(joined),
            Self::All => asked,
        };
        if let Some(told) = told {
            headers.insert(header, told.clone());
        }
    }
}

/// A cache must not give one origin what was said to another.
fn vary_by_origin(headers: &mut HeaderMap) {
    let is_told = headers
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| matches!(name.trim(), "*") || name.trim().eq_ignore_ascii_case("origin"));
    if !is_told {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

/// Scripts are never shown cookies.
fn response_names(headers: &HeaderMap) -> Vec<String> {
    let is_shown = |name: &&HeaderName| **name != SET_COOKIE;
    let mut names: Vec<String> =
        headers.keys().filter(is_shown).map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests;
