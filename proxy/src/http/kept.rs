//! A copy of a request, kept while the request itself is sent on, from which it can be made again:
//! for a retry, or for a mirror. The body passes as it comes and is not held up.

use bytes::{Bytes, BytesMut};
use http::header::{EXPECT, HeaderMap};
use http::{Method, Request, Uri, Version};
use http_body::Frame;
use tokio::sync::watch;

use crate::http::body::Body;

/// A request that can be made again once its body has passed.
#[derive(Clone, Debug)]
pub struct Kept {
    method: Method,
    target: Uri,
    version: Version,
    headers: HeaderMap,
    body: KeptBody,
}

#[derive(Clone, Debug)]
enum KeptBody {
    Nothing,
    /// Still passing, or passed.
    Watched(watch::Receiver<Stage>),
}

#[derive(Clone, Debug)]
enum Stage {
    Passing,
    Whole(Whole),
    TooLong,
}

/// All of a body.
#[derive(Clone, Debug)]
struct Whole {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

/// Why a request cannot be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Its body is longer than [`KEPT_LIMIT_BYTES`].
    TooLong,
    /// Its body has not passed, and will not any more if waited for.
    BrokenOff,
}

impl Kept {
    /// Keeps a copy of a request, which goes on as it is. Extensions are not kept: they hold what is
    /// the connection's.
    pub fn of(request: &mut Request<Body>) -> Self {
        let mut kept = Self {
            method: request.method().clone(),
            target: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            body: KeptBody::Nothing,
        };
        // Nobody is there who could be asked for the body of the copy, which is there already.
        kept.headers.remove(EXPECT);
        if !http_body::Body::is_end_stream(request.body()) {
            let (keeper, watched) = Keeper::new();
            kept.body = KeptBody::Watched(watched);
            let body = std::mem::replace(request.body_mut(), Body::empty());
            *request.body_mut() = body.keeping(keeper);
        }
        kept
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Whether nothing of its body is still to pass.
    pub fn has_passed(&self) -> bool {
        match &self.body {
            KeptBody::Nothing => true,
            KeptBody::Watched(watched) => !matches!(*watched.borrow(), Stage::Passing),
        }
    }

    /// The request again, if all of its body has passed by now.
    pub fn now(&self) -> Result<Request<Body>, NotKept> {
        let body = match &self.body {
            KeptBody::Nothing => Body::empty(),
            KeptBody::Watched(watched) => watched.borrow().body()?,
        };
        Ok(self.with(body))
    }

    /// The request again, as soon as all of its body has passed.
    /// Cancel safe.
    pub async fn whole(mut self) -> Result<Request<Body>, NotKept> {
        let body = match &mut self.body {
            KeptBody::Nothing => Body::empty(),
            KeptBody::Watched(watched) => {
                let passed = watched.wait_for(|stage| !matches!(stage, Stage::Passing)).await;
                passed.map_err(|_gone| NotKept::BrokenOff)?.body()?
            }
        };
        Ok(self.with(body))
    }

    fn with(&self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl Stage {
    fn body(&self) -> Result<Body, NotKept> {
        match self {
            Self::Passing => Err(NotKept::BrokenOff),
            Self::TooLong => Err(NotKept::TooLong),
            Self::Whole(Whole { bytes, trailers }) => {
                Ok(Body::whole(bytes.clone(), trailers.clone()))
            }
        }
    }
}

/// Sees a body pass.
#[derive(Debug)]
pub struct Keeper {
    bytes: BytesMut,
    trailers: Option<HeaderMap>,
    stage: watch::Sender<Stage>,
}

impl Keeper {
    fn new() -> (Self, watch::Receiver<Stage>) {
        let (stage, watched) = watch::channel(Stage::Passing);
        (Self { bytes: BytesMut::new(), trailers: None, stage }, watched)
    }

    /// A part has passed. False once nothing more is to be kept, since it would be too much.
    pub fn saw(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            if self.bytes.len() + data.len() > KEPT_LIMIT_BYTES {
                self.stage.send_replace(Stage::TooLong);
                return false;
            }
            // Copied: what arrives is a part of a buffer that may be much larger.
            self.bytes.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        true
    }

    /// All has passed.
    pub fn end(self) {
        let Self { bytes, trailers, stage } = self;
        stage.send_replace(Stage::Whole(Whole { bytes: bytes.freeze(), trailers }));
    }
}

/// How much of one body is kept, as in Linkerd. It is held once for each request under way whose rule
/// has retries or mirrors, of which one endpoint has at most
/// [`crate::listen::REQUESTS_PER_ENDPOINT`].
pub const KEPT_LIMIT_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    fn request(body: Body) -> Request<Body> {
        Request::post("/a").header("x-a", "1").header(EXPECT, "100-continue").body(body).unwrap()
    }

    async fn collect(body: Body) -> Vec<u8> {
        body.collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn a_request_without_a_body_can_be_made_again_at_once() {
        let mut original = request(Body::empty());
        let again = Kept::of(&mut original).now().unwrap();
        assert_eq!((again.method(), again.uri().path()), (&Method::POST, "/a"));
        assert_eq!(again.headers()["x-a"], "1");
        assert!(!again.headers().contains_key(EXPECT));
        assert!(collect(again.into_body()).await.is_empty());
    }

    #[tokio::test]
    async fn a_body_is_there_again_when_it_has_passed_and_not_before() {
        let mut original = request(Body::text(Bytes::from_static(b"text")));
        let kept = Kept::of(&mut original);
        assert_eq!(kept.now().unwrap_err(), NotKept::BrokenOff);
        assert_eq!(collect(original.into_body()).await, b"text");
        for _time in 0..2 {
            assert_eq!(collect(kept.now().unwrap().into_body()).await, b"text");
        }
        assert_eq!(collect(kept.whole().await.unwrap().into_body()).await, b"text");
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_before_its_end_is_not_waited_for() {
        let mut original = request(Body::text(Bytes::from_static(b"text")));
        let kept = Kept::of(&mut original);
        drop(original);
        assert_eq!(kept.whole().await.unwrap_err(), NotKept::BrokenOff);
    }

    #[tokio::test]
    async fn trailers_are_kept() {
        let trailers: HeaderMap =
            [("x-t".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
        let body = Body::whole(Bytes::from_static(b"text"), Some(trailers.clone()));
        let mut original = request(body);
        let kept = Kept::of(&mut original);
        collect(original.into_body()).await;
        let again = kept.now().unwrap().into_body().collect().await.unwrap();
        assert_eq!(again.trailers(), Some(&trailers));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_has_passed_up_to_the_limit(
            parts in proptest::collection::vec(0..40_000_usize, 0..6),
        ) {
            let (mut keeper, watched) = Keeper::new();
            let mut passed = Vec::new();
            let mut keeps = true;
            for (number, length) in parts.iter().enumerate() {
                let part = vec![u8::try_from(number).unwrap(); *length];
                passed.extend_from_slice(&part);
                keeps = keeps && keeper.saw(&Frame::data(Bytes::from(part)));
            }
            prop_assert_eq!(keeps, passed.len() <= KEPT_LIMIT_BYTES);
            if keeps {
                keeper.end();
            }
            match &*watched.borrow() {
                Stage::Whole(whole) => prop_assert_eq!(&whole.bytes[..], &passed[..]),
                Stage::TooLong => prop_assert!(passed.len() > KEPT_LIMIT_BYTES),
                Stage::Passing => prop_assert!(false, "it has ended"),
            }
        }
    }
}
