//! The frames of a warm connection, and in which order they may come. Pure: no sockets. Who sends them is
//! in carrier.rs.
//!
//! A frame is one byte of kind, two of length, and so many of payload. A turn is `OPEN` from the client's
//! proxy, `ACCEPT` from the server's, then from each any number of `DATA` and one `END`. Nothing else ends
//! a turn that leaves the connection of use: what breaks off takes the connection with it.

use std::num::NonZeroU16;

/// One frame, but for the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A connection of the application begins.
    Open,
    /// It was taken on. What is sent before this was not seen by any application.
    Accept,
    /// So many of its bytes follow.
    Data(NonZeroU16),
    /// No more bytes will come from this side.
    End,
}

impl Frame {
    /// The header on the wire.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let [high, low] = match self {
            Self::Data(length) => length.get().to_be_bytes(),
            Self::Open | Self::Accept | Self::End => [0, 0],
        };
        [self.kind(), high, low]
    }

    /// Reads a header.
    pub fn decode([kind, high, low]: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let length = u16::from_be_bytes([high, low]);
        match (kind, NonZeroU16::new(length)) {
            (OPEN, None) => Ok(Self::Open),
            (ACCEPT, None) => Ok(Self::Accept),
            (END, None) => Ok(Self::End),
            (DATA, Some(length)) => Ok(Self::Data(length)),
            (OPEN | ACCEPT | END | DATA, _) => Err(FrameError::Length { kind, length }),
            (_, _) => Err(FrameError::Kind { kind }),
        }
    }

    fn kind(self) -> u8 {
        match self {
            Self::Open => OPEN,
            Self::Accept => ACCEPT,
            Self::Data(_) => DATA,
            Self::End => END,
        }
    }
}

/// What one side hears of the other within one turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearing {
    header: [u8; HEADER_BYTES],
    /// How much of it is there.
    filled: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing came that is of this turn; it has to be this.
    Before(Frame),
    Between,
    /// So many bytes of payload are to come.
    Payload(usize),
    Ended,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Less than a header.
    Part,
    /// The turn has begun.
    Begun,
    /// What follows is payload, so many bytes at most.
    Payload(usize),
    /// The other side has ended.
    End,
}

impl Hearing {
    /// Of the side that opens turns: it hears whether the other takes them on.
    pub fn of_client() -> Self {
        Self::expecting(Frame::Accept)
    }

    /// Of the side that takes turns on.
    pub fn of_server() -> Self {
        Self::expecting(Frame::Open)
    }

    fn expecting(first: Frame) -> Self {
        Self { header: [0; HEADER_BYTES], filled: 0, phase: Phase::Before(first) }
    }

    /// Whether nothing at all came that is of this turn.
    pub fn is_untouched(&self) -> bool {
        matches!(self.phase, Phase::Before(_)) && self.filled == 0
    }

    /// Whether the other side has ended.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether more of a frame's payload is to come.
    pub fn is_in_payload(&self) -> bool {
        matches!(self.phase, Phase::Payload(_))
    }

    /// Takes what can be taken of a header off `bytes`, says how many bytes that were, and what they
    /// mean. Payload is not taken here: [`Self::took`] tells how much of it was.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<(usize, Heard), FrameError> {
        if let Phase::Payload(left) = self.phase {
            return Ok((0, Heard::Payload(left)));
        }
        let room = self.header.get_mut(self.filled..).unwrap_or_default();
        let length = room.len().min(bytes.len());
        for (place, byte) in room.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.filled += length;
        if self.filled < HEADER_BYTES {
            return Ok((length, Heard::Part));
        }
        self.filled = 0;
        let frame = Frame::decode(self.header)?;
        let (phase, heard) = self.next(frame)?;
        self.phase = phase;
        Ok((length, heard))
    }

    fn next(&self, frame: Frame) -> Result<(Phase, Heard), FrameError> {
        match (self.phase, frame) {
            (Phase::Before(first), frame) if frame == first => Ok((Phase::Between, Heard::Begun)),
            (Phase::Between, Frame::Data(length)) => {
                let length = usize::from(length.get());
                Ok((Phase::Payload(length), Heard::Payload(length)))
            }
            (Phase::Between, Frame::End) => Ok((Phase::Ended, Heard::End)),
            (
                Phase::Before(_) | Phase::Between | Phase::Payload(_) | Phase::Ended,
                Frame::Open | Frame::Accept | Frame::Data(_) | Frame::End,
            ) => Err(FrameError::Order { frame }),
        }
    }

    /// So many bytes of payload were taken, of those that [`Self::hear`] has told.
    pub fn took(&mut self, length: usize) {
        if let Phase::Payload(left) = self.phase {
            let left = left.saturating_sub(length);
            self.phase = if left == 0 { Phase::Between } else { Phase::Payload(left) };
        }
    }
}

/// Why a warm connection cannot go on: the other side does not keep to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame has this kind.
    #[error("a frame of unknown kind {kind:#04x}")]
    Kind {
        /// As it came.
        kind: u8,
    },
    /// Bytes without a length, or a length where no bytes follow.
    #[error("a frame of kind {kind:#04x} with length {length}")]
    Length {
        /// As it came.
        kind: u8,
        /// As it came.
        length: u16,
    },
    /// Not at this point of a turn.
    #[error("{frame:?} where it may not come")]
    Order {
        /// What came.
        frame: Frame,
    },
}

/// Of every frame.
pub const HEADER_BYTES: usize = 3;
/// Of one frame. As many whole pages as leave room for the header within the 64 KiB that TLS takes at once:
/// what is read in such pieces stays aligned, which the kernel copies faster.
pub const PAYLOAD_LIMIT_BYTES: usize = 15 * 4096;
const _: () = assert!(PAYLOAD_LIMIT_BYTES + HEADER_BYTES <= u16::MAX as usize);
const OPEN: u8 = 1;
const ACCEPT: u8 = 2;
const DATA: u8 = 3;
const END: u8 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(bytes: &[u8]) -> Vec<u8> {
        let length = NonZeroU16::new(u16::try_from(bytes.len()).unwrap()).unwrap();
        [&Frame::Data(length).encode()[..], bytes].concat()
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Told {
        payload: Vec<u8>,
        begun: bool,
        ended: bool,
        rest: Vec<u8>,
        error: Option<FrameError>,
    }

    /// Hears the bytes in pieces of these sizes, again and again, up to the end of a turn.
    fn hear(mut hearing: Hearing, bytes: &[u8], sizes: &[usize]) -> Told {
        let mut told =
            Told { payload: Vec::new(), begun: false, ended: false, rest: Vec::new(), error: None };
        let mut rest = bytes;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() && !hearing.has_ended() {
            let (mut piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = after;
            while !piece.is_empty() && !hearing.has_ended() {
                let (taken, heard) = match hearing.hear(piece) {
                    Ok(heard) => heard,
                    Err(error) => return Told { error: Some(error), ..told },
                };
                piece = &piece[taken..];
                match heard {
                    Heard::Part => {}
                    Heard::Begun => told.begun = true,
                    Heard::End => told.ended = true,
                    Heard::Payload(most) => {
                        let (payload, after) = piece.split_at(most.min(piece.len()));
                        told.payload.extend_from_slice(payload);
                        hearing.took(payload.len());
                        piece = after;
                    }
                }
            }
            told.rest.extend_from_slice(piece);
        }
        told.rest.extend_from_slice(rest);
        told
    }

    #[test]
    fn frames_read_as_they_were_written() {
        let some = NonZeroU16::new(0x0102).unwrap();
        for (frame, wire) in [
            (Frame::Open, [1, 0, 0]),
            (Frame::Accept, [2, 0, 0]),
            (Frame::Data(some), [3, 1, 2]),
            (Frame::Data(NonZeroU16::MAX), [3, 255, 255]),
            (Frame::End, [4, 0, 0]),
        ] {
            assert_eq!(frame.encode(), wire);
            assert_eq!(Frame::decode(wire), Ok(frame));
        }
    }

    #[test]
    fn what_is_no_frame_or_comes_at_the_wrong_time_is_refused() {
        let order = |frame| Some(FrameError::Order { frame });
        let (open, end) = (Frame::Open.encode(), Frame::End.encode());
        let one = NonZeroU16::MIN;
        for (case, bytes, error) in [
            ("kind zero", vec![0, 0, 0], Some(FrameError::Kind { kind: 0 })),
            ("a kind of later", vec![5, 0, 0], Some(FrameError::Kind { kind: 5 })),
            ("TLS", vec![22, 3, 1], Some(FrameError::Kind { kind: 22 })),
            ("open with length", vec![1, 0, 1], Some(FrameError::Length { kind: 1, length: 1 })),
            ("data without", vec![3, 0, 0], Some(FrameError::Length { kind: 3, length: 0 })),
            ("data of the turn before", data(b"x"), order(Frame::Data(one))),
            ("an end before the beginning", end.to_vec(), order(Frame::End)),
            ("the other side's word", Frame::Accept.encode().to_vec(), order(Frame::Accept)),
            ("opened twice", [open, open].concat(), order(Frame::Open)),
            ("opened", open.to_vec(), None),
            ("opened and ended", [open, end].concat(), None),
        ] {
            for size in 1..=4 {
                let told = hear(Hearing::of_server(), &bytes, &[size]);
                assert_eq!(told.error, error, "case: {case}, in pieces of {size}");
            }
        }
        let mut ended = Hearing::of_server();
        for frame in [open, end] {
            ended.hear(&frame).unwrap();
        }
        assert_eq!(ended.hear(&open), Err(FrameError::Order { frame: Frame::Open }));
        assert_eq!(hear(Hearing::of_client(), &open, &[3]).error, order(Frame::Open));
    }

    proptest! {
        #[test]
        fn bytes_arrive_as_they_were_sent_however_they_are_cut(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            after in prop::collection::vec(any::<u8>(), 0..20),
            sizes in prop::collection::vec(1..50_usize, 1..6),
        ) {
            let mut wire = Frame::Open.encode().to_vec();
            wire.extend(sent.iter().flat_map(|bytes| data(bytes)));
            wire.extend(Frame::End.encode());
            wire.extend(&after);
            let told = hear(Hearing::of_server(), &wire, &sizes);
            prop_assert_eq!(told.error, None);
            prop_assert!(told.begun && told.ended);
            prop_assert_eq!(told.payload, sent.concat());
            // What comes after the end is of no turn that was before it.
            prop_assert_eq!(told.rest, after);
        }

        #[test]
        fn hostile_bytes_are_judged_alike_however_they_are_cut(
            bytes in prop::collection::vec(prop_oneof![0..5_u8, any::<u8>()], 0..200),
            sizes in prop::collection::vec(1..50_usize, 1..6),
        ) {
            let whole = hear(Hearing::of_server(), &bytes, &[usize::MAX]);
            prop_assert_eq!(hear(Hearing::of_server(), &bytes, &sizes), whole);
        }
    }
}
