//! The body of a request or response on its way through: never collected, and holding what its
//! exchange holds (load, connection) until it ends.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::http::account::Counted;
use crate::http::breaker::Breaker;
use crate::http::expect::{Consent, Held, Unwanted};
use crate::http::gate::{admitted, exchanges};
use crate::http::grpc::Ending;
use crate::http::kept::Keeper;
use crate::http::pool::Exchange;
use crate::http::progress::Watch;

/// A body, and what is to be given back when it ends.
pub struct Body {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
    /// When it is cut off: at the limit of the attempt, and that of the whole request.
    deadlines: Vec<Pin<Box<Sleep>>>,
    /// Of the connection that it goes to, if its end may be the connection's.
    breaker: Option<Breaker>,
    /// The exchange on the connection that it goes to, which ends with it.
    served: Option<exchanges::Exchange>,
    /// Of the stream that it belongs to, if that is of HTTP/2.
    watch: Option<Watch>,
    /// Keeps a copy for another attempt, or for a mirror.
    keeper: Option<Box<Keeper>>,
    /// Of the connection that it comes from, which it is not all read of if dropped before its end.
    unread: Option<Breaker>,
    /// Where its bytes are counted.
    counted: Option<Counted>,
    /// Whether its last frame was taken.
    has_ended: bool,
    /// What only few bodies have.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    /// A request's: it is not asked for yet.
    held: Option<Held>,
    /// A response's, to a request whose body may not have been asked for.
    wait: Option<Consent>,
    /// A response's, of gRPC.
    ending: Option<Ending>,
}

enum Kind {
    Text(Option<Bytes>),
    /// Bytes, and what follows them.
    Whole(Option<Bytes>, Option<Box<HeaderMap>>),
    Incoming(Incoming),
}

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Its sender, or the connection to it, broke off.
    #[error(transparent)]
    Broken(hyper::Error),
    /// The route's limit was over.
    #[error("the body took longer than the route's limit")]
    TooLate,
    /// The request was answered without it.
    #[error("the body was not asked for")]
    Unwanted,
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::of(Kind::Text(None))
    }

    /// Bytes of our own.
    pub fn text(text: Bytes) -> Self {
        Self::of(Kind::Text(Some(text).filter(|text| !text.is_empty())))
    }

    /// Bytes of our own, if that is what it is.
    pub fn into_text(mut self) -> Option<Bytes> {
        let Kind::Text(text) = &mut self.kind else { return None };
        let text = text.take()?;
        if let Some(counted) = &self.counted {
            counted.add(text.len());
        }
        Some(text)
    }

    /// All of a body that was kept.
    pub fn whole(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        match trailers {
            None => Self::text(bytes),
            Some(_) => Self::of(Kind::Whole(Some(bytes), trailers.map(Box::new))),
        }
    }

    /// A response's body, whose exchange ends with it.
    pub fn of_exchange(incoming: Incoming, exchange: Exchange) -> Self {
        let mut body = Self::from(incoming);
        body.exchange = Some(Box::new(exchange));
        body
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            exchange: None,
            deadlines: Vec::new(),
            breaker: None,
            served: None,
            watch: None,
            keeper: None,
            unread: None,
            counted: None,
            has_ended: false,
            rare: None,
        }
    }

    /// Fails at `deadline`, if it has not ended by then.
    pub fn until(mut self, deadline: Instant) -> Self {
        if !http_body::Body::is_end_stream(&self) {
            self.deadlines.push(Box::pin(tokio::time::sleep_until(deadline)));
        }
        self
    }

    /// Trips `breaker` if it fails.
    pub fn breaking(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Ends `exchange` with itself.
    pub fn serving(mut self, exchange: exchanges::Exchange) -> Self {
        self.served = Some(exchange);
        self
    }

    /// Tells `watch` of its progress.
    pub fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Counts its bytes.
    pub fn count(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// Shows `keeper` what passes.
    pub fn keeping(mut self, keeper: Keeper) -> Self {
        self.keeper = Some(Box::new(keeper));
        self
    }

    /// Whoever sends a body of known length does not ask for what follows its last byte.
    fn show_keeper(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        let Some(mut keeper) = self.keeper.take() else { return };
        match polled {
            Poll::Pending => self.keeper = Some(keeper),
            Poll::Ready(Some(Ok(frame))) => {
                if keeper.saw(frame) {
                    match http_body::Body::is_end_stream(self) {
                        true => keeper.end(),
                        false => self.keeper = Some(keeper),
                    }
                }
            }
            Poll::Ready(None) => keeper.end(),
            Poll::Ready(Some(Err(_))) => {}
        }
    }

    /// A request's body, whose connection is told if not all of it is read.
    pub fn of_connection(incoming: Incoming, breaker: Breaker) -> Self {
        let mut body = Self::from(incoming);
        body.unread = Some(breaker);
        body
    }

    /// A request's body that waits for consent.
    pub fn held(mut self, consent: Consent) -> Self {
        self.rare().held = Some(Held::new(consent));
        self
    }

    /// A response's body whose end is the end of waiting for consent.
    pub fn ending_wait(mut self, consent: Consent) -> Self {
        self.rare().wait = Some(consent);
        self
    }

    /// A response's body whose trailers say how the call ended.
    pub fn told_by(mut self, ending: Ending) -> Self {
        self.rare().ending = Some(ending);
        self
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn take_ending(&mut self) -> Option<Ending> {
        self.rare.as_mut().and_then(|rare| rare.ending.take())
    }

    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(rare) = &mut self.rare else { return Poll::Ready(Ok(())) };
        let Some(held) = &mut rare.held else { return Poll::Ready(Ok(())) };
        let result = ready!(held.poll(context)).map_err(|Unwanted| BodyError::Unwanted);
        rare.held = None;
        Poll::Ready(result)
    }

    fn poll_kind(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        for deadline in &mut self.deadlines {
            if deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(BodyError::TooLate)));
            }
        }
        if let Err(unwanted) = ready!(self.poll_held(context)) {
            return Poll::Ready(Some(Err(unwanted)));
        }
        match &mut self.kind {
            Kind::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Whole(bytes, trailers) => Poll::Ready(
                bytes
                    .take()
                    .map(Frame::data)
                    .or_else(|| trailers.take().map(|trailers| Frame::trailers(*trailers)))
                    .map(Ok),
            ),
            Kind::Incoming(incoming) => {
                let polled = http_body::Body::poll_frame(Pin::new(incoming), context);
                polled.map_ok(without_claims).map_err(BodyError::Broken)
            }
        }
    }
}

/// What comes after a body says nothing that belongs before it.
fn without_claims(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        admitted::keep_trailers(trailers);
    }
    frame
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        Self::of(Kind::Incoming(incoming))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_kind(context);
        if let Some(watch) = &self.watch {
            watch.polled(&polled);
        }
        self.show_keeper(&polled);
        match &polled {
            Poll::Ready(None) => {
                self.has_ended = true;
                if let Some(exchange) = self.exchange.take() {
                    exchange.complete();
                }
                if let Some(ending) = self.take_ending() {
                    ending.end();
                }
            }
            // The connection's task aborts the other side, which sees an error and no short body.
            Poll::Ready(Some(Err(error))) => {
                if let Some(exchange) = self.exchange.take() {
                    exchange.fail(error);
                }
                if let Some(ending) = self.take_ending() {
                    ending.break_off();
                }
                if let Some(breaker) = &self.breaker {
                    breaker.trip();
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(counted), Some(data)) = (&self.counted, frame.data_ref()) {
                    counted.add(data.len());
                }
                if let Some(trailers) = frame.trailers_ref() {
                    if let Some(exchange) = &self.exchange {
                        exchange.learn(trailers);
                    }
                    if let Some(ending) = self.rare.as_mut().and_then(|rare| rare.ending.as_mut()) {
                        ending.learn(trailers);
                    }
                }
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_none(),
            Kind::Whole(bytes, trailers) => bytes.is_none() && trailers.is_none(),
            Kind::Incoming(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => {
                let length = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            // With a length there would be no place for trailers in HTTP/1.
            Kind::Whole(_, _) => SizeHint::default(),
            Kind::Incoming(incoming) => incoming.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Whoever reads a body of known length does not ask for what follows its last byte.
        if let Some(exchange) = self.exchange.take()
            && http_body::Body::is_end_stream(self)
        {
            exchange.complete();
        }
        if let Some(wait) = self.rare.as_ref().and_then(|rare| rare.wait.as_ref()) {
            wait.end();
        }
        if let Some(counted) = &self.counted {
            counted.left(|| self.has_ended || http_body::Body::is_end_stream(self));
        }
        if !self.has_ended
            && !http_body::Body::is_end_stream(self)
            && let Some(breaker) = &self.unread
        {
            breaker.leave_unread();
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
