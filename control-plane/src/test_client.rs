//! A client of an API server that is a function: for what a real one does not do when it is told to.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;

/// What the function answers, in its own time.
pub(crate) type Answer = Pin<Box<dyn Future<Output = http::Response<AnswerBody>> + Send>>;
type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

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
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    let response = http::Response::builder().status(code).body(body).unwrap();
    Box::pin(std::future::ready(response))
}

/// A watch that tells these lines, and ends after a while.
pub(crate) fn watch(lines: &[serde_json::Value], lasting: Duration) -> Answer {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let first = futures_util::stream::iter([Some(text)]);
    let last = futures_util::stream::once(async move {
        tokio::time::sleep(lasting).await;
        None
    });
    let texts = first.chain(last).filter_map(std::future::ready);
    let frames = texts.map(|text| Ok(Frame::data(Bytes::from(text))));
    let response = http::Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    Box::pin(std::future::ready(response))
}
