//! Reads the body of a request, within bounds of size and time. A short one needs no place but its
//! connection's, so that slow bodies keep nobody else's out.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

use crate::server::places::{Caller, LongPlace, Places};

/// A body that is there.
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    /// What it holds while it is there, if it is long.
    pub(crate) place: Option<LongPlace>,
}

/// Why a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyRefusal {
    #[error("the body is longer than {BODY_LIMIT_BYTES} bytes")]
    TooLong,
    #[error("the body did not come within {} seconds", BODY_TIMEOUT.as_secs())]
    Slow,
    #[error("the body broke off")]
    Broken,
    #[error("too many reviews at once")]
    Overloaded,
}

impl BodyRefusal {
    /// As a metric label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::Overloaded => "overloaded",
        }
    }

    /// As the caller is told.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Reads a whole body.
///
/// Cancel safe: yes; what was read is lost.
pub(crate) async fn read<B>(
    mut body: B,
    places: &Places,
    caller: &Caller,
) -> Result<Whole, BodyRefusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if told > BODY_LIMIT_BYTES {
        return Err(BodyRefusal::TooLong);
    }
    let mut whole = Whole { bytes: Vec::new(), place: None };
    if told > SHORT_LIMIT_BYTES {
        whole.place = Some(places.long(caller).await.ok_or(BodyRefusal::Overloaded)?);
    }
    whole.bytes.reserve_exact(told);
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| BodyRefusal::Broken)?;
            let Ok(data) = frame.into_data() else { continue };
            let length = whole.bytes.len().saturating_add(data.len());
            if length > BODY_LIMIT_BYTES {
                return Err(BodyRefusal::TooLong);
            }
            // Of one that did not say how long it is.
            if length > SHORT_LIMIT_BYTES && whole.place.is_none() {
                whole.place = Some(places.long(caller).await.ok_or(BodyRefusal::Overloaded)?);
            }
            whole.bytes.extend_from_slice(&data);
        }
        Ok(whole)
    };
    timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(BodyRefusal::Slow))
}

/// The API server takes objects of 3 MiB; a review holds one, and a little more.
pub(crate) const BODY_LIMIT_BYTES: usize = 4 << 20;
/// Pods are some KiB long. Every connection may have one of these.
const SHORT_LIMIT_BYTES: usize = 64 << 10;
/// How long a body may take: the API server sends it at once.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// A body that does not say how long it is: so many pieces, and then nothing more, or the end.
    fn pieces(count: usize, length: usize, ends: bool) -> impl Body<Data = Bytes> + Unpin {
        let piece = move |_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; length])));
        let pieces = stream::iter((0..count).map(piece));
        if ends {
            StreamBody::new(pieces.left_stream())
        } else {
            StreamBody::new(pieces.chain(stream::pending()).right_stream())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_short_long_too_long_or_too_slow() {
        let places = Places::default();
        let caller = places.enter([10, 0, 0, 1].into()).unwrap();
        for (case, count, length, ends, expected) in [
            ("nothing", 0, 0, true, Ok((0, false))),
            ("short", 2, 1000, true, Ok((2000, false))),
            ("long", 2, SHORT_LIMIT_BYTES, true, Ok((2 * SHORT_LIMIT_BYTES, true))),
            ("too long", 5, 1 << 20, true, Err(BodyRefusal::TooLong)),
            ("without an end", 1, 10, false, Err(BodyRefusal::Slow)),
        ] {
            let read = read(pieces(count, length, ends), &places, &caller).await;
            let read = read.map(|whole| (whole.bytes.len(), whole.place.is_some()));
            assert_eq!(read, expected, "case: {case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_long_bodies_keep_no_short_one_out() {
        let places = Places::default();
        let caller = places.enter([10, 0, 0, 1].into()).unwrap();
        let slow = || read(pieces(2, SHORT_LIMIT_BYTES, false), &places, &caller);
        let many = futures_util::future::join_all((0..40).map(|_| slow()));
        let short = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            timeout(Duration::from_secs(1), read(pieces(1, 1000, true), &places, &caller)).await
        };
        let (slow, short) = tokio::join!(many, short);
        assert!(short.unwrap().is_ok());
        let overloaded =
            slow.iter().filter(|it| it.as_ref().err() == Some(&BodyRefusal::Overloaded));
        assert!(overloaded.count() > 20, "the rest found no place");
    }
}
