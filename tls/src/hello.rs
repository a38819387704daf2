//! Reads server name and protocols out of a ClientHello's bytes, before any handshake.
//! Believes nothing: what is read here chooses a path, and the handshake checks it again.

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Could still become a ClientHello.
    NeedMore,
    /// Not a ClientHello, or not one within [`LIMIT_BYTES`].
    NotTls,
    /// A whole ClientHello.
    Client {
        /// The host name asked for (SNI), in lower case; `None` if there is none, or no DNS name.
        server_name: Option<String>,
        /// The protocols offered (ALPN), in the client's order; empty if it offers none.
        alpn: Vec<Vec<u8>>,
    },
}

/// Decides on the first bytes of a connection, be they in one TLS record or in many.
///
/// More bytes never change a verdict other than [`Hello::NeedMore`].
pub fn peek(bytes: &[u8]) -> Hello {
    let bytes = bytes.get(..LIMIT_BYTES).unwrap_or(bytes);
    match gather(bytes) {
        Gathered::Whole(message) => client_hello(&message).unwrap_or(Hello::NotTls),
        Gathered::Part if bytes.len() < LIMIT_BYTES => Hello::NeedMore,
        Gathered::Part | Gathered::NotTls => Hello::NotTls,
    }
}

enum Gathered {
    Whole(Vec<u8>),
    Part,
    NotTls,
}

/// Puts the first handshake message together from its records. Judges every byte as soon as it is
/// there, so that a connection that is not TLS is not held up waiting for more.
fn gather(bytes: &[u8]) -> Gathered {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let length = match record_length(rest) {
            Ok(Some(length)) => length,
            Ok(None) => return Gathered::Part,
            Err(NotTls) => return Gathered::NotTls,
        };
        let body = rest.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        message.extend_from_slice(body.get(..length).unwrap_or(body));
        match whole_message(&message) {
            Ok(Some(whole)) => return Gathered::Whole(whole.to_vec()),
            Ok(None) => {}
            Err(NotTls) => return Gathered::NotTls,
        }
        match body.get(length..) {
            Some(next) => rest = next,
            None => return Gathered::Part,
        }
    }
}

struct NotTls;

/// The length of the record that begins here; `None` if its header is not all there.
fn record_length(bytes: &[u8]) -> Result<Option<usize>, NotTls> {
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE_RECORD)
        || bytes.get(1).is_some_and(|major| *major != 3)
    {
        return Err(NotTls);
    }
    let Some([high, low]) = bytes.get(3..RECORD_HEADER_BYTES) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    // RFC 8446, section 5.1: handshake records are never empty.
    if length == 0 || length > RECORD_LIMIT_BYTES { Err(NotTls) } else { Ok(Some(length)) }
}

/// The body of the ClientHello that begins here; `None` if it is not all there.
fn whole_message(message: &[u8]) -> Result<Option<&[u8]>, NotTls> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(NotTls);
    }
    let Some([high, middle, low]) = message.get(1..MESSAGE_HEADER_BYTES) else { return Ok(None) };
    let length = usize::from(*high) << 16 | usize::from(u16::from_be_bytes([*middle, *low]));
    if length > LIMIT_BYTES {
        return Err(NotTls);
    }
    Ok(message.get(MESSAGE_HEADER_BYTES..MESSAGE_HEADER_BYTES + length))
}

/// RFC 8446, section 4.1.2; `None` if it is malformed.
fn client_hello(body: &[u8]) -> Option<Hello> {
    let mut reader = Reader(body);
    reader.take(VERSION_BYTES + RANDOM_BYTES)?;
    let _session_id = reader.short_vector()?;
    let _cipher_suites = reader.long_vector()?;
    let _compression_methods = reader.short_vector()?;
    let (mut server_name, mut alpn) = (None, None);
    // A ClientHello of old may end here.
    if !reader.is_empty() {
        let mut extensions = Reader(reader.long_vector()?);
        if !reader.is_empty() {
            return None;
        }
        while !extensions.is_empty() {
            let kind = extensions.number()?;
            let data = extensions.long_vector()?;
            // Of two equal extensions another parser might take the other one.
            if kind == SERVER_NAME_EXTENSION && server_name.replace(host_name(data)?).is_some() {
                return None;
            }
            if kind == ALPN_EXTENSION && alpn.replace(protocols(data)?).is_some() {
                return None;
            }
        }
    }
    Some(Hello::Client { server_name: server_name.flatten(), alpn: alpn.unwrap_or_default() })
}

/// RFC 6066, section 3. The outer option: malformed; the inner: no DNS name in it.
fn host_name(data: &[u8]) -> Option<Option<String>> {
    let mut reader = Reader(data);
    let mut list = Reader(reader.long_vector()?);
    let kind = *list.take(1)?.first()?;
    let name = list.long_vector()?;
    if !reader.is_empty() || !list.is_empty() || kind != HOST_NAME || name.is_empty() {
        return None;
    }
    let is_dns = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let text = std::str::from_utf8(name).ok().filter(|name| name.len() <= NAME_LIMIT_BYTES);
    Some(text.filter(|name| name.bytes().all(|byte| is_dns(&byte))).map(str::to_ascii_lowercase))
}

/// RFC 7301, section 3.1; `None` if malformed.
fn protocols(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader(data);
    let mut list = Reader(reader.long_vector()?);
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.short_vector()?;
        if protocol.is_empty() {
            return None;
        }
        protocols.push(protocol.to_vec());
    }
    reader.is_empty().then_some(protocols)
}

/// Takes from the front; `None` once there is not enough.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length))
    }

    fn long_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

/// How many bytes, with the headers of their records, a ClientHello may take. Browsers' with
/// post-quantum keys take about 2 KiB; a peek needs no larger buffer than this.
pub const LIMIT_BYTES: usize = 16 * 1024;

const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;
const VERSION_BYTES: usize = 2;
const RANDOM_BYTES: usize = 32;
/// RFC 8446, section 5.1.
const RECORD_LIMIT_BYTES: usize = 1 << 14;
/// RFC 1035, section 2.3.4.
const NAME_LIMIT_BYTES: usize = 255;
const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const HOST_NAME: u8 = 0;
const SERVER_NAME_EXTENSION: u16 = 0;
const ALPN_EXTENSION: u16 = 16;

#[cfg(test)]
mod tests;
