//! The shapes of slow peers: what each sends, and what it never does. How they are played is in
//! connection.rs.

use clap::ValueEnum;

use crate::adversary::frames::{self, Method, frame};

/// A way to be slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Not one byte.
    Nothing,
    /// A byte that any request may begin with.
    OneByte,
    /// Half of the first message of a handshake.
    PartialHello,
    /// The first message of a handshake with this proxy, and no second.
    WholeHello,
    /// A handshake as a proxy for HTTP/1, and no request.
    MeshHttp1,
    /// A handshake as a proxy for HTTP/2, and no preface.
    MeshHttp2,
    /// Half of a request line.
    PartialRequestLine,
    /// A request's head, byte by byte, without an end.
    DrippedHead,
    /// A head that promises a body, and no body.
    NoBody,
    /// A body, byte by byte.
    DrippedBody,
    /// A large response that is not read.
    Unread,
    /// A whole request and its response, and nothing more.
    KeptAlive,
    /// HTTP/2's preface without its SETTINGS.
    Http2Preface,
    /// HTTP/2 by a client that answers nothing.
    Http2Mute,
    /// HTTP/2 by a client that answers and asks nothing.
    Http2Idle,
    /// A stream with half a body.
    Http2HalfBody,
    /// HEADERS without their end.
    Http2OpenHeaders,
    /// A response that the client makes no room for.
    Http2ZeroWindow,
    /// Bytes that are no HTTP, to a server that does not answer.
    Opaque,
    /// The same, and the client has closed its sending side.
    HalfClosed,
}

/// What one connection does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What is inside of which.
    pub cover: Cover,
    /// What is sent first.
    pub opening: Vec<u8>,
    /// What is then sent byte by byte, again and again.
    pub drip: Vec<u8>,
    /// What is done with what comes.
    pub reading: Reading,
    /// Whether the sending side is closed after the opening.
    pub closes: bool,
}

/// Whether there is TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// None.
    Plain,
    /// As a proxy, with this protocol inside.
    Mesh(&'static str),
    /// This much of its first message as a proxy.
    Hello(Share),
}

/// How much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Less than it takes.
    Half,
    /// All.
    Whole,
}

/// What is done with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is read and forgotten.
    Ignored,
    /// As [`frames::answer`] has it.
    Answered,
    /// It is not read.
    Never,
}

impl Shape {
    /// What its connections do.
    pub fn script(self) -> Script {
        let plain = |opening: &[u8]| Script {
            cover: Cover::Plain,
            opening: opening.to_vec(),
            drip: Vec::new(),
            reading: Reading::Ignored,
            closes: false,
        };
        let covered = |cover| Script { cover, ..plain(b"") };
        let http2 = |frames: &[Vec<u8>]| Script {
            reading: Reading::Answered,
            ..plain(&[frames::preface(), frames.concat()].concat())
        };
        let post = frames::request(Method::Post, "/");
        match self {
            Self::Nothing => plain(b""),
            Self::OneByte => plain(b"G"),
            Self::PartialHello => covered(Cover::Hello(Share::Half)),
            Self::WholeHello => covered(Cover::Hello(Share::Whole)),
            Self::MeshHttp1 => covered(Cover::Mesh("heddle/h1")),
            Self::MeshHttp2 => covered(Cover::Mesh("heddle/h2")),
            Self::PartialRequestLine => plain(b"GET / HTT"),
            Self::DrippedHead => Script { drip: b"x: y\r\n".to_vec(), ..plain(GET_BEGUN) },
            Self::NoBody => plain(POST),
            Self::DrippedBody => Script { drip: b"x".to_vec(), ..plain(POST) },
            Self::Unread => Script { reading: Reading::Never, ..plain(GET_MUCH) },
            Self::KeptAlive => plain(GET),
            Self::Http2Preface => plain(frames::PREFACE),
            Self::Http2Mute => plain(&frames::preface()),
            Self::Http2Idle => http2(&[]),
            Self::Http2HalfBody => http2(&[
                frame(frames::HEADERS, frames::END_HEADERS, 1, &post),
                frame(frames::DATA, 0, 1, b"half"),
            ]),
            // An answer to a PING may not come before the end of the headers.
            Self::Http2OpenHeaders => Script {
                reading: Reading::Ignored,
                ..http2(&[frame(frames::HEADERS, 0, 1, &post)])
            },
            Self::Http2ZeroWindow => Script {
                opening: [
                    frames::preface_without_window(),
                    frame(
                        frames::HEADERS,
                        frames::END_HEADERS | frames::END_STREAM,
                        1,
                        &frames::request(Method::Get, "/bytes/1000000"),
                    ),
                ]
                .concat(),
                ..http2(&[])
            },
            Self::Opaque => plain(b"\x80no request\n"),
            Self::HalfClosed => Script { closes: true, ..plain(b"\x80no request\n") },
        }
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: server\r\n\r\n";
const GET_BEGUN: &[u8] = b"GET / HTTP/1.1\r\nhost: server\r\n";
const GET_MUCH: &[u8] = b"GET /bytes/20000000 HTTP/1.1\r\nhost: server\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: server\r\ncontent-length: 1000000\r\n\r\n";
