//! What another proxy sends over a connection that is kept: frames, in turns.

use heddle_proxy::warm::frame::{Frame, FrameError, HEADER_BYTES, Heard, Hearing};

/// However the bytes are cut, the same is heard; no more payload than was promised; and what comes after
/// the end of a turn is not taken for a part of it.
pub(crate) fn check(data: &[u8]) {
    for hearing in [Hearing::of_server(), Hearing::of_client()] {
        let whole = hear(hearing.clone(), data, usize::MAX);
        for size in [1, 2, 3, 7] {
            assert_eq!(hear(hearing.clone(), data, size), whole, "in pieces of {size}");
        }
        let Told { payload, taken, promised, .. } = &whole;
        assert!(payload.len() <= *promised, "{whole:?}");
        let is_sound = *taken <= data.len() && payload.len() <= *taken;
        assert!(is_sound || whole.error.is_some(), "{whole:?}");
    }
    if let Some((header, _rest)) = data.split_first_chunk::<HEADER_BYTES>()
        && let Ok(frame) = Frame::decode(*header)
    {
        assert_eq!(frame.encode(), *header, "{frame:?}");
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    payload: Vec<u8>,
    promised: usize,
    /// Bytes of this turn; not told where they end in an error.
    taken: usize,
    has_begun: bool,
    has_ended: bool,
    error: Option<FrameError>,
}

/// Hears up to the end of a turn.
fn hear(mut hearing: Hearing, data: &[u8], size: usize) -> Told {
    let mut told = Told::default();
    let mut left_of_frame = 0;
    for piece in data.chunks(size.min(data.len()).max(1)) {
        let mut rest = piece;
        while !rest.is_empty() && !hearing.has_ended() {
            let (header, heard) = match hearing.hear(rest) {
                Ok(heard) => heard,
                Err(error) => {
                    return Told { error: Some(error), taken: 0, ..told };
                }
            };
            let mut taken = header;
            match heard {
                Heard::Part => {}
                Heard::Begun => told.has_begun = true,
                Heard::End => told.has_ended = true,
                Heard::Payload(most) => {
                    if left_of_frame == 0 {
                        told.promised += most;
                        left_of_frame = most;
                    }
                    assert_eq!(
                        left_of_frame, most,
                        "what is left of a frame is what was not taken"
                    );
                    let payload = rest.get(header..).unwrap_or_default();
                    let payload = payload.get(..most).unwrap_or(payload);
                    told.payload.extend_from_slice(payload);
                    hearing.took(payload.len());
                    left_of_frame -= payload.len();
                    taken += payload.len();
                }
            }
            told.taken += taken;
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
    told
}
