//! What the `h2` crate writes is read, with its dynamic table and the Huffman code, and it reads what is
//! written here.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

/// A request and its answer.
#[derive(Clone, Debug)]
struct Exchange {
    method: Method,
    path: String,
    request: HeaderMap,
    status: StatusCode,
    response: HeaderMap,
}

impl Exchange {
    fn request(&self) -> Request<()> {
        let uri = format!("https://{AUTHORITY}{}", self.path);
        let mut request = Request::builder().method(self.method.clone()).uri(uri).body(()).unwrap();
        *request.headers_mut() = self.request.clone();
        request
    }

    fn response(&self) -> Response<()> {
        let mut response = Response::builder().status(self.status).body(()).unwrap();
        *response.headers_mut() = self.response.clone();
        response
    }
}

const AUTHORITY: &str = "example.org:8080";

/// The other side of a connection, frame by frame.
struct Wire {
    io: DuplexStream,
    decoder: Decoder,
    has_written: bool,
}

impl Wire {
    fn new(io: DuplexStream, table_size: u32) -> Self {
        let decoder = Decoder::new(usize::try_from(table_size).unwrap());
        Self { io, decoder, has_written: false }
    }

    async fn settings(&mut self, table_size: u32) {
        let setting = [&[0_u8, 1][..], &table_size.to_be_bytes()].concat();
        self.write(SETTINGS, 0, 0, &setting).await;
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.io.write_all(&frame).await.unwrap();
    }

    /// Writes a message without a body.
    async fn write_block(
        &mut self,
        stream: u32,
        fields: &HeaderMap,
        pseudo: impl Fn(&mut Vec<u8>),
    ) {
        let mut block = Vec::new();
        if !self.has_written {
            encoder::no_table(&mut block);
            self.has_written = true;
        }
        pseudo(&mut block);
        for (name, value) in fields {
            let name = name.as_str().as_bytes();
            encoder::field(name, value.as_bytes(), 0, value.is_sensitive(), &mut block);
        }
        let mut chunks = block.chunks(16_384).peekable();
        let mut kind = HEADERS;
        while let Some(chunk) = chunks.next() {
            let end = if chunks.peek().is_none() { END_HEADERS } else { 0 };
            let flags = if kind == HEADERS { end | END_STREAM } else { end };
            self.write(kind, flags, stream, chunk).await;
            kind = CONTINUATION;
        }
    }

    /// Reads up to the end of a message's fields. Settings are acknowledged.
    async fn read_block(&mut self) -> (u32, Fields) {
        let mut block = Vec::new();
        loop {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await.unwrap();
            let [l0, l1, l2, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, l0, l1, l2]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.io.read_exact(&mut payload).await.unwrap();
            if kind == SETTINGS && flags & ACK == 0 {
                self.write(SETTINGS, ACK, 0, &[]).await;
            }
            assert!(![RST_STREAM, GOAWAY].contains(&kind), "a frame of kind {kind}: {payload:?}");
            if [HEADERS, CONTINUATION].contains(&kind) {
                assert_eq!(flags & (PADDED | PRIORITY), 0, "h2 sends neither");
                block.extend(payload);
                if flags & END_HEADERS != 0 {
                    let mut fields = Fields::default();
                    self.decoder.decode(&block, NO_LIMIT, &mut fields).unwrap();
                    return (u32::from_be_bytes(stream), fields);
                }
            }
        }
    }
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// The fields are those of `expected`, after the pseudo fields, which may be in any order.
fn assert_same(fields: &Fields, mut pseudo: Vec<(&str, &str)>, expected: &HeaderMap) {
    let (found, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|it| it.name.starts_with(b":"));
    let text = |octets| std::str::from_utf8(octets).unwrap();
    let mut found: Vec<_> = found.iter().map(|it| (text(it.name), text(it.value))).collect();
    found.sort_unstable();
    pseudo.sort_unstable();
    assert_eq!(found, pseudo);
    let found = rest.iter().map(|it| (it.name, it.value));
    let sent = expected.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    assert_eq!(found.collect::<Vec<_>>(), sent.collect::<Vec<_>>());
    // h2 sends what is in its table already by its number, which says nothing of how sensitive it is.
    for (field, (name, value)) in rest.iter().zip(expected) {
        assert!(!field.is_sensitive || value.is_sensitive(), "{name}");
    }
    for field in fields.iter().filter(|field| field.static_name != 0) {
        let entry = super::super::static_table::get(field.static_name.into()).unwrap();
        assert_eq!(entry.name(), field.name);
    }
}

fn request_pseudo(exchange: &Exchange) -> Vec<(&str, &str)> {
    vec![
        (":method", exchange.method.as_str()),
        (":scheme", "https"),
        (":authority", AUTHORITY),
        (":path", &exchange.path),
    ]
}

/// A client of h2 sends the requests, and is sent the answers.
async fn with_client(exchanges: &[Exchange], table_size: u32) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let mut wire = Wire::new(far, table_size);
    let handshake = h2::client::Builder::new().enable_push(false).handshake::<_, Bytes>(near);
    let (mut sender, connection) = handshake.await.unwrap();
    let exchange = async {
        let mut preface = [0; 24];
        wire.io.read_exact(&mut preface).await.unwrap();
        wire.settings(table_size).await;
        for exchange in exchanges {
            sender = sender.ready().await.unwrap();
            let (response, _) = sender.send_request(exchange.request(), true).unwrap();
            let (stream, fields) = wire.read_block().await;
            assert_same(&fields, request_pseudo(exchange), &exchange.request);
            let status = |block: &mut Vec<u8>| encoder::status(exchange.status.as_u16(), block);
            wire.write_block(stream, &exchange.response, status).await;
            let response = response.await.unwrap();
            assert_eq!(response.status(), exchange.status);
            assert_eq!(response.headers(), &exchange.response);
        }
    };
    tokio::select! {
        ended = connection => panic!("the connection has ended: {ended:?}"),
        () = exchange => {}
    }
}

/// A server of h2 is sent the requests, and answers.
async fn with_server(exchanges: &[Exchange], table_size: u32) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let mut wire = Wire::new(far, table_size);
    let serve = async {
        let mut connection = h2::server::handshake(near).await.unwrap();
        for exchange in exchanges {
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.method(), exchange.method);
            assert_eq!(request.uri(), exchange.request().uri());
            assert_eq!(request.headers(), &exchange.request);
            respond.send_response(exchange.response(), true).unwrap();
        }
        connection.accept().await.map(|accepted| accepted.map(|_| "one more"))
    };
    let exchange = async {
        wire.io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        wire.settings(table_size).await;
        for (exchange, stream) in exchanges.iter().zip((1..).step_by(2)) {
            let pseudo = |block: &mut Vec<u8>| {
                encoder::method(exchange.method.as_str().as_bytes(), block);
                encoder::scheme(b"https", block);
                encoder::authority(AUTHORITY.as_bytes(), block);
                encoder::path(exchange.path.as_bytes(), block);
            };
            wire.write_block(stream, &exchange.request, pseudo).await;
            let (answered, fields) = wire.read_block().await;
            assert_eq!(answered, stream);
            let pseudo = vec![(":status", exchange.status.as_str())];
            assert_same(&fields, pseudo, &exchange.response);
        }
    };
    tokio::select! {
        ended = serve => panic!("the connection has ended: {ended:?}"),
        () = exchange => {}
    }
}

fn within_a_deadline(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let timed = async { tokio::time::timeout(Duration::from_secs(30), run).await };
    runtime.block_on(timed).expect("it takes less than 30 seconds");
}

/// Names that come again, and others; none with a meaning for h2.
fn any_name() -> impl Strategy<Value = HeaderName> {
    let known = [
        "accept",
        "accept-encoding",
        "age",
        "authorization",
        "cache-control",
        "content-type",
        "cookie",
        "etag",
        "set-cookie",
        "traceparent",
        "user-agent",
        "x-request-id",
    ];
    let known = prop::sample::select(known.to_vec()).prop_map(HeaderName::from_static);
    let other = "x-[a-z0-9!#$%&'*+.^_`|~-]{1,30}";
    prop_oneof![3 => known, 1 => other.prop_map(|name| name.parse().unwrap())]
}

/// Values that come again, and others, of which some are larger than a table or a frame.
fn any_value() -> impl Strategy<Value = HeaderValue> {
    let known = ["", "gzip, deflate", "no-cache", "a=b; c=d", "text/html; charset=utf-8"];
    let known = prop::sample::select(known.to_vec()).prop_map(|value| value.as_bytes().to_vec());
    let octet = || prop_oneof![4 => b' '..=b'~', 1 => Just(b'\t'), 1 => 0x80_u8..];
    let text = prop::collection::vec(b' '..=b'~', 0..100);
    let other = prop::collection::vec(octet(), 0..300);
    let long = (octet(), 3000_usize..20_000).prop_map(|(octet, length)| vec![octet; length]);
    let octets = prop_oneof![20 => known, 10 => text, 5 => other, 1 => long];
    (octets, prop::bool::weighted(0.1)).prop_map(|(octets, is_sensitive)| {
        let mut value = HeaderValue::from_bytes(&octets).unwrap();
        value.set_sensitive(is_sensitive);
        value
    })
}

fn any_fields() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((any_name(), any_value()), 0..20).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    })
}

fn any_exchange() -> impl Strategy<Value = Exchange> {
    let methods = [Method::GET, Method::POST, Method::PUT, Method::from_bytes(b"REPORT").unwrap()];
    let status = (200_u16..=999).prop_map(|code| StatusCode::from_u16(code).unwrap());
    let path = prop_oneof![Just("/".to_owned()), "/[a-zA-Z0-9/._~-]{0,60}(\\?[a-z=&]{0,20})?"];
    (prop::sample::select(methods.to_vec()), path, any_fields(), status, any_fields()).prop_map(
        |(method, path, request, status, response)| Exchange {
            method,
            path,
            request,
            status,
            response,
        },
    )
}

fn any_table_size() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0, 100, 256, 4095, 4096, 65_536])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_client_of_h2_is_understood_and_understands(
        exchanges in prop::collection::vec(any_exchange(), 1..30),
        table_size in any_table_size(),
    ) {
        within_a_deadline(with_client(&exchanges, table_size));
    }

    #[test]
    fn a_server_of_h2_is_understood_and_understands(
        exchanges in prop::collection::vec(any_exchange(), 1..30),
        table_size in any_table_size(),
    ) {
        within_a_deadline(with_server(&exchanges, table_size));
    }
}
