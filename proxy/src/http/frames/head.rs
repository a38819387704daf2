//! The nine octets that each frame of HTTP/2 begins with, and which kinds there are (RFC 9113, sections 4.1 and 6).

/// A frame's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Of what follows, in octets.
    pub length: u32,
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Zero: of the connection.
    pub stream: u32,
}

impl Head {
    /// Reads one.
    pub fn parse([l0, l1, l2, kind, flags, s0, s1, s2, s3]: [u8; HEAD_BYTES]) -> Self {
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            // The highest bit is reserved.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1),
        }
    }

    /// Writes one.
    pub fn write(self, output: &mut Vec<u8>) {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        output.extend_from_slice(&[l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]);
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What frames are for.
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// A head, or trailers.
    pub const HEADERS: u8 = 1;
    /// Of no consequence any more (RFC 9113, section 5.3).
    pub const PRIORITY: u8 = 2;
    /// A stream is given up.
    pub const RST_STREAM: u8 = 3;
    /// What the sender takes.
    pub const SETTINGS: u8 = 4;
    /// Servers only.
    pub const PUSH_PROMISE: u8 = 5;
    /// A sign of life, asked for or given.
    pub const PING: u8 = 6;
    /// No new streams are taken.
    pub const GOAWAY: u8 = 7;
    /// More may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
    /// RFC 9218, section 7.1.
    pub const PRIORITY_UPDATE: u8 = 16;
}

/// What frames may say beside what is in them.
pub mod flag {
    /// Nothing follows on the stream.
    pub const END_STREAM: u8 = 1;
    /// Of SETTINGS and PING: an answer.
    pub const ACK: u8 = 1;
    /// The head is whole.
    pub const END_HEADERS: u8 = 4;
    /// Filled up.
    pub const PADDED: u8 = 8;
    /// Five octets of a priority go before the head.
    pub const PRIORITY: u8 = 32;
}

/// RFC 9113, section 4.1.
pub const HEAD_BYTES: usize = 9;
