//! What another proxy sends over a connection that channels share.

use std::io;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use heddle_proxy::multiplex::channel::Channel;
use heddle_proxy::multiplex::driver::drive;
use heddle_proxy::multiplex::{Role, Session};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// However the bytes are cut, the same is heard on the same channels, no more than came; and once the connection is over nobody
/// waits on one of them.
pub(crate) fn check(data: &[u8]) {
    let data = data.get(..LIMIT_BYTES).unwrap_or(data);
    for role in [Role::Client, Role::Server] {
        let whole = hear(role, data, usize::MAX);
        for size in [1, 3, 8, 1000] {
            assert_eq!(hear(role, data, size), whole, "{role:?} in pieces of {size}");
        }
        let payload: usize = whole.channels.iter().map(|(heard, _)| heard.len()).sum();
        assert!(payload <= data.len(), "{whole:?}");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// What was heard on each, and whether it ended in order.
    channels: Vec<(Vec<u8>, bool)>,
    is_in_order: bool,
}

fn hear(role: Role, data: &[u8], size: usize) -> Told {
    let session = Session::new(role);
    let opened: Vec<Channel> = match role {
        Role::Client => (0..3).filter_map(|_time| session.open()).collect(),
        Role::Server => Vec::new(),
    };
    let (begin, begun) = mpsc::channel();
    let ended = {
        let begin = move |channel| drop(begin.send(channel));
        let mut driving = pin!(drive(Wire { data, size }, &session, None, begin));
        let mut context = Context::from_waker(Waker::noop());
        (0..data.len() + 10).find_map(|_turn| match driving.as_mut().poll(&mut context) {
            Poll::Ready(ended) => Some(ended),
            Poll::Pending => None,
        })
    };
    let Some(ended) = ended else { panic!("it goes on after all was read") };
    let channels = opened.into_iter().chain(begun).map(read_out).collect();
    Told { channels, is_in_order: ended.is_ok() }
}

fn read_out(mut channel: Channel) -> (Vec<u8>, bool) {
    let mut heard = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let mut room = [0; 64];
        let mut buffer = ReadBuf::new(&mut room);
        match Pin::new(&mut channel).poll_read(&mut context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return (heard, true),
            Poll::Ready(Ok(())) => heard.extend_from_slice(buffer.filled()),
            Poll::Ready(Err(_error)) => return (heard, false),
            Poll::Pending => panic!("a channel waits though its connection is over"),
        }
    }
}

/// Brings these bytes, so many at a time, and takes whatever is written.
struct Wire<'a> {
    data: &'a [u8],
    size: usize,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.data.len().min(self.size).min(buffer.remaining());
        let (piece, rest) = self.data.split_at_checked(length).unwrap_or_default();
        buffer.put_slice(piece);
        self.data = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Less than what lets so many channels begin and break off that no more is read until they are given back.
const LIMIT_BYTES: usize = 4096;
