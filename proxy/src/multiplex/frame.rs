//! The frames of a connection that channels share. Pure: no sockets.
//!
//! A frame is one octet of kind, four with the number of its channel, two with the length of its payload, and that.
//! A channel is `OPEN` from the client's proxy, then from each side any number of `DATA`, as far as the other has told
//! that there is room, and one `END`; or a `RESET` from either, after which nothing of it means anything. `CLOSING`
//! belongs to no channel: the server's proxy asks that no new one be opened, and the client's says that none will be.
//! `PING` is answered with `PONG`, so that a peer that has vanished is found.

/// One frame, but for the payload of `DATA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A channel begins.
    Open(u32),
    /// So many of its octets follow, one at least.
    Data(u32, usize),
    /// No more octets will come from this side.
    End(u32),
    /// It broke off.
    Reset(u32),
    /// So many more octets may be sent.
    Room(u32, u32),
    /// No new channel.
    Closing,
    /// Whether anybody is there.
    Ping,
    /// Yes.
    Pong,
}

/// What cannot be a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of kind {kind} with {length} octets on channel {channel}")]
pub(super) struct FrameError {
    kind: u8,
    channel: u32,
    length: u16,
}

impl Frame {
    /// Writes it. The payload of `DATA` follows.
    pub(super) fn write(self, output: &mut Vec<u8>) {
        let (kind, channel, length) = match self {
            Self::Open(channel) => (OPEN, channel, 0),
            Self::Data(channel, length) => {
                (DATA, channel, u16::try_from(length).unwrap_or_default())
            }
            Self::End(channel) => (END, channel, 0),
            Self::Reset(channel) => (RESET, channel, 0),
            Self::Room(channel, _) => (ROOM, channel, 4),
            Self::Closing => (CLOSING, 0, 0),
            Self::Ping => (PING, 0, 0),
            Self::Pong => (PONG, 0, 0),
        };
        output.push(kind);
        output.extend_from_slice(&channel.to_be_bytes());
        output.extend_from_slice(&length.to_be_bytes());
        if let Self::Room(_, by) = self {
            output.extend_from_slice(&by.to_be_bytes());
        }
    }

    /// Reads one off the front of `input`, but for the payload of `DATA`; `None`: not all of it is there.
    pub(super) fn read(input: &mut &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [kind, a, b, c, d, high, low] = *head;
        let (channel, length) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([high, low]));
        let mut after = rest;
        let frame = match (kind, channel, length) {
            (OPEN, 1.., 0) => Self::Open(channel),
            (DATA, 1.., 1..) if usize::from(length) <= DATA_BYTES => {
                Self::Data(channel, usize::from(length))
            }
            (END, 1.., 0) => Self::End(channel),
            (RESET, 1.., 0) => Self::Reset(channel),
            (ROOM, 1.., 4) => {
                let Some((by, rest)) = rest.split_first_chunk() else { return Ok(None) };
                after = rest;
                Self::Room(channel, u32::from_be_bytes(*by))
            }
            (CLOSING, 0, 0) => Self::Closing,
            (PING, 0, 0) => Self::Ping,
            (PONG, 0, 0) => Self::Pong,
            (_, _, _) => return Err(FrameError { kind, channel, length }),
        };
        *input = after;
        Ok(Some(frame))
    }
}

const OPEN: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;
const RESET: u8 = 4;
const ROOM: u8 = 5;
const CLOSING: u8 = 6;
const PING: u8 = 7;
const PONG: u8 = 8;
const HEAD_BYTES: usize = 7;
/// The payload of one frame at most: with its head, it fills a record of TLS (RFC 8446, section 5.1).
pub(super) const DATA_BYTES: usize = (1 << 14) - HEAD_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Frame; 8] = [
        Frame::Open(1),
        Frame::Data(u32::MAX, DATA_BYTES),
        Frame::End(2),
        Frame::Reset(3),
        Frame::Room(4, u32::MAX),
        Frame::Closing,
        Frame::Ping,
        Frame::Pong,
    ];

    #[test]
    fn a_frame_reads_as_it_was_written_and_a_part_of_one_is_waited_for() {
        for frame in ALL {
            let mut octets = Vec::new();
            frame.write(&mut octets);
            for length in 0..octets.len() {
                let mut part = &octets[..length];
                assert_eq!(Frame::read(&mut part), Ok(None), "{frame:?}, {length}");
                assert_eq!(part.len(), length);
            }
            octets.extend_from_slice(b"more");
            let mut input = octets.as_slice();
            assert_eq!(Frame::read(&mut input), Ok(Some(frame)));
            assert_eq!(input, b"more");
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for (case, octets) in [
            ("no kind", [0, 0, 0, 0, 1, 0, 0]),
            ("an unknown kind", [9, 0, 0, 0, 0, 0, 0]),
            ("no channel", [OPEN, 0, 0, 0, 0, 0, 0]),
            ("data of no channel", [DATA, 0, 0, 0, 0, 0, 1]),
            ("no data", [DATA, 0, 0, 0, 1, 0, 0]),
            ("too much data", [DATA, 0, 0, 0, 1, 0x40, 0]),
            ("an end with something", [END, 0, 0, 0, 1, 0, 1]),
            ("room of another length", [ROOM, 0, 0, 0, 1, 0, 3]),
            ("the end of all, of one", [CLOSING, 0, 0, 0, 1, 0, 0]),
        ] {
            assert!(Frame::read(&mut octets.as_slice()).is_err(), "case: {case}");
        }
    }
}
