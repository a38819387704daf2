//! HTTP/2 frames by hand (RFC 9113), so that they can be as no library would send them.

/// What a connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames.
pub const DATA: u8 = 0;
/// As above.
pub const HEADERS: u8 = 1;
/// As above.
pub const PRIORITY: u8 = 2;
/// As above.
pub const RST_STREAM: u8 = 3;
/// As above.
pub const SETTINGS: u8 = 4;
/// As above.
pub const PING: u8 = 6;
/// As above.
pub const GOAWAY: u8 = 7;
/// As above.
pub const WINDOW_UPDATE: u8 = 8;
/// As above.
pub const CONTINUATION: u8 = 9;
/// Of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length.get(1..).unwrap_or_default().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface with no settings.
pub fn preface() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The preface of a client that lets nothing be sent to it.
pub fn preface_without_window() -> Vec<u8> {
    // SETTINGS_INITIAL_WINDOW_SIZE is 4.
    [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat()
}

/// The header block of a request without any indexing of its own (RFC 7541, section 6.2.2).
pub fn request(method: Method, path: &str) -> Vec<u8> {
    let method = match method {
        Method::Get => 0x82,
        Method::Post => 0x83,
    };
    let mut block = vec![method, 0x86];
    for (name, value) in [(0x04, path), (0x01, "server")] {
        block.push(name);
        block.push(u8::try_from(value.len().min(126)).unwrap_or(126));
        block.extend(value.bytes().take(126));
    }
    block
}

/// Methods that have a number in the static table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
}

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What it is.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Takes the first whole frame off what was read.
pub fn take(buffer: &mut Vec<u8>) -> Option<Received> {
    let head = buffer.get(..9)?;
    let &[l0, l1, l2, kind, flags, ..] = head else { return None };
    let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
    let payload = buffer.get(9..9 + length)?.to_vec();
    buffer.drain(..9 + length);
    Some(Received { kind, flags, payload })
}

/// What a polite client answers to a frame.
pub fn answer(received: &Received) -> Option<Vec<u8>> {
    let is_ack = received.flags & ACK != 0;
    match received.kind {
        SETTINGS if !is_ack => Some(frame(SETTINGS, ACK, 0, &[])),
        PING if !is_ack => Some(frame(PING, ACK, 0, &received.payload)),
        _ => None,
    }
}

/// The reason that a GOAWAY gives.
pub fn reason(received: &Received) -> Option<u32> {
    let bytes = received.payload.get(4..8)?;
    (received.kind == GOAWAY).then(|| u32::from_be_bytes(bytes.try_into().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_can_be_taken() {
        let mut buffer =
            [frame(PING, 0, 0, &[7; 8]), frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 11])].concat();
        let last = buffer.pop().unwrap();
        let ping = take(&mut buffer).unwrap();
        assert_eq!(answer(&ping), Some(frame(PING, ACK, 0, &[7; 8])));
        assert_eq!(take(&mut buffer), None);
        buffer.push(last);
        assert_eq!(reason(&take(&mut buffer).unwrap()), Some(11));
        assert!(buffer.is_empty());
    }
}
