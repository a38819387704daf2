//! `Expect: 100-continue`, from end to end: a client's body is not asked for before the backend asks
//! for it. hyper answers 100 by itself as soon as the body is read, and the next hop reads it as soon as
//! the head is sent; so the body is held back until the backend's own 100. Source: RFC 9110, section
//! 10.1.1.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::EXPECT;
use http::{Request, StatusCode, Version};
use parking_lot::Mutex;
use tokio::time::Sleep;

/// Whether a body is asked for. Clones are of the same body.
#[derive(Clone, Debug, Default)]
pub struct Consent(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Held,
    Given,
    /// It was answered without the body, which nobody will ask for any more.
    Unwanted,
}

/// The body is not wanted any more.
#[derive(Debug)]
pub struct Unwanted;

impl Consent {
    /// Whether the client still waits to be asked.
    pub fn is_awaited(&self) -> bool {
        self.0.lock().stage == Stage::Held
    }

    /// The request is answered, and the answer sent.
    pub fn end(&self) {
        self.leave(Stage::Unwanted);
    }

    fn give(&self) {
        self.leave(Stage::Given);
    }

    fn leave(&self, to: Stage) {
        let mut state = self.0.lock();
        if state.stage == Stage::Held {
            state.stage = to;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }
}

/// A body's wait.
#[derive(Debug)]
pub struct Held {
    consent: Consent,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Held {
    /// Until there is consent.
    pub fn new(consent: Consent) -> Self {
        Self { consent, patience: None }
    }

    /// Ready once the body is asked for, or has waited for as long as clients do.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unwanted>> {
        let stage = {
            let mut state = self.consent.0.lock();
            if state.stage == Stage::Held {
                state.waker = Some(context.waker().clone());
            }
            state.stage
        };
        match stage {
            Stage::Given => Poll::Ready(Ok(())),
            Stage::Unwanted => Poll::Ready(Err(Unwanted)),
            Stage::Held => {
                let sleep = || Box::pin(tokio::time::sleep(CONTINUE_PATIENCE));
                let patience = self.patience.get_or_insert_with(sleep);
                if patience.as_mut().poll(context).is_ready() {
                    self.consent.give();
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending
            }
        }
    }
}

/// What a request needs whose client waits to be asked for its body. It travels with the request,
/// for [`ask_backend`].
pub fn consent<B: http_body::Body>(request: &mut Request<B>) -> Option<Consent> {
    // Clients of HTTP/1.0 do not know of it. Those of HTTP/2 are not told by hyper, and have to go on
    // by themselves.
    if request.version() != Version::HTTP_11 || request.body().is_end_stream() {
        return None;
    }
    let expected = request.headers().get(EXPECT)?;
    if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return None;
    }
    let consent = Consent::default();
    request.extensions_mut().insert(consent.clone());
    Some(consent)
}

/// Gives the request's consent, if it needs one, when the backend asks for the body.
pub fn ask_backend<B>(request: &mut Request<B>) {
    if let Some(consent) = request.extensions().get::<Consent>().cloned() {
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                consent.give();
            }
        });
    }
}

/// What curl waits for, as long as which a server that does not know the header costs each request.
/// A client that waits longer is asked for its body before the server has asked.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Bytes;

    use super::*;
    use crate::http::body::Body;

    fn poll(held: &mut Held) -> Poll<Result<(), Unwanted>> {
        held.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_until_it_is_asked_for_or_for_as_long_as_clients_do() {
        let consent = Consent::default();
        let mut held = Held::new(consent.clone());
        assert!(poll(&mut held).is_pending() && consent.is_awaited());
        consent.give();
        assert!(matches!(poll(&mut held), Poll::Ready(Ok(()))));
        consent.end();
        assert!(matches!(poll(&mut held), Poll::Ready(Ok(()))), "an answer takes nothing back");

        let mut held = Held::new(Consent::default());
        assert!(poll(&mut held).is_pending());
        tokio::time::advance(CONTINUE_PATIENCE).await;
        assert!(matches!(poll(&mut held), Poll::Ready(Ok(()))));

        let consent = Consent::default();
        let mut held = Held::new(consent.clone());
        consent.end();
        assert!(matches!(poll(&mut held), Poll::Ready(Err(Unwanted))));
    }

    #[test]
    fn only_a_client_that_waits_needs_consent() {
        for (case, version, expect, body, expected) in [
            ("it waits", Version::HTTP_11, Some("100-continue"), "body", true),
            ("in capitals", Version::HTTP_11, Some("100-Continue"), "body", true),
            ("no header", Version::HTTP_11, None, "body", false),
            ("no body", Version::HTTP_11, Some("100-continue"), "", false),
            ("another wish", Version::HTTP_11, Some("200-ok"), "body", false),
            ("HTTP/1.0", Version::HTTP_10, Some("100-continue"), "body", false),
            ("HTTP/2", Version::HTTP_2, Some("100-continue"), "body", false),
        ] {
            let mut request = Request::new(Body::text(Bytes::from_static(body.as_bytes())));
            *request.version_mut() = version;
            if let Some(expect) = expect {
                request.headers_mut().insert(EXPECT, expect.parse().unwrap());
            }
            assert_eq!(consent(&mut request).is_some(), expected, "case: {case}");
        }
    }
}
