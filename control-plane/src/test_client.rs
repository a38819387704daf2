//! A client of an API server that is a function: for what a real one does not do when it is told to.

use std::convert::Infallible;
use std::pin::Pin;

use kube::Client;
use kube::client::Body;

/// What the function answers, in its own time.
pub(crate) type Answer = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;

/// A client whose every request is answered by the function.
pub(crate) fn answering(
    answer: impl Fn(http::Request<Body>) -> Answer + Clone + Send + Sync + 'static,
) -> Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    Client::new(service, "default")
}

/// No answer at all.
pub(crate) fn never() -> Answer {
    Box::pin(std::future::pending())
}

/// An answer in JSON.
pub(crate) fn json(code: u16, body: serde_json::Value) -> Answer {
    let body = Body::from(body.to_string().into_bytes());
    let response = http::Response::builder().status(code).body(body).unwrap();
    Box::pin(std::future::ready(response))
}
