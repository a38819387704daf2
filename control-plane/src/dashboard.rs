//! The dashboard: what the admin listener answers to a browser, beside gRPC. Who is answered is decided in
//! `dashboard/guard.rs`, what a path means in `dashboard/question.rs`, the JSON is made in `dashboard/answer.rs`, single
//! requests are told by `dashboard/tap.rs`, and the page's own files are in `dashboard/page.rs`.

mod answer;
mod guard;
mod page;
mod question;
mod services;
mod tap;

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Layer, Service};

use crate::admin::listen::Services;
use crate::dashboard::guard::Refusal;
use crate::dashboard::question::Asked;

/// Answers what is not gRPC.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Whom it asks.
    pub services: Services,
}

/// gRPC, and the dashboard before it.
#[derive(Clone, Debug)]
pub struct WithDashboard {
    grpc: Routes,
    dashboard: Dashboard,
}

impl Layer<Routes> for Dashboard {
    type Service = WithDashboard;

    fn layer(&self, grpc: Routes) -> WithDashboard {
        WithDashboard { grpc, dashboard: self.clone() }
    }
}

impl Service<Request<Body>> for WithDashboard {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.grpc, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_grpc(&request) {
            return Box::pin(self.grpc.call(request));
        }
        let dashboard = self.dashboard.clone();
        Box::pin(async move { Ok(dashboard.answer(request).await) })
    }
}

/// Over HTTP/1 nothing is gRPC: a page in a browser can send a POST with any body to any address, and here gRPC changes
/// things. No browser speaks HTTP/2 without TLS.
fn is_grpc(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(GRPC));
    request.version() == Version::HTTP_2 && is_grpc
}

impl Dashboard {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (request, _) = request.into_parts();
        let mut response = match guard::admit(&request).and_then(|()| Asked::read(&request.uri)) {
            Ok(Asked::File(file)) => {
                let mut response =
                    Response::new(Body::new(Full::new(Bytes::from_static(file.content))));
                let kind = HeaderValue::from_static(file.content_type);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Ok(Asked::Question(question)) => match answer::answer(&self.services, question).await {
                Ok(text) => json(StatusCode::OK, text),
                Err(refusal) => refused(&refusal),
            },
            Ok(Asked::Tap(asked)) => {
                let told = tap::tap(&self.services.tap, &asked, &request.headers).await;
                told.unwrap_or_else(|refusal| refused(&refusal))
            }
            Err(refusal) => refused(&refusal),
        };
        // What was begun for it ends with its body.
        if request.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let said = serde_json::json!({ "error": refusal.to_string() });
    let mut response = json(refusal.status(), said.to_string());
    if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if refusal.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

fn json(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// How gRPC's content types begin.
const GRPC: &[u8] = b"application/grpc";

/// On every answer: the page runs nothing but its own files, asks nobody else, and is in nobody's frame; nothing is kept
/// by the browser, since a later answer would be taken for the mesh's present.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_browser_can_send_is_grpc() {
        for (case, version, content_type, expected) in [
            ("gRPC", Version::HTTP_2, Some("application/grpc"), true),
            ("gRPC, with its encoding", Version::HTTP_2, Some("application/grpc+proto"), true),
            ("over HTTP/1", Version::HTTP_11, Some("application/grpc"), false),
            ("what a page may send anywhere", Version::HTTP_11, Some("text/plain"), false),
            ("without a type", Version::HTTP_2, None, false),
        ] {
            let mut request = Request::new(Body::empty());
            *request.version_mut() = version;
            if let Some(value) = content_type {
                let value = HeaderValue::from_static(value);
                request.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            assert_eq!(is_grpc(&request), expected, "case: {case}");
        }
    }
}
