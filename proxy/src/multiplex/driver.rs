//! The connection itself: what comes over it goes to its channels, and what they send leaves together.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;

use crate::http::gate::io::READ_BYTES;
use crate::http::lane::buffers;
use crate::multiplex::channel::Channel;
use crate::multiplex::state::ANSWER_LIMIT_BYTES;
use crate::multiplex::{Role, Session};

/// Runs a connection until it breaks, or is over. `begin` gets what the other side opens; nothing does where this side opens
/// channels. `vigilance`: for how long nothing may come before the other side is asked whether it is there, and how long it
/// has to answer; without, that is left to the kernel.
pub async fn drive<I>(
    mut io: I,
    session: &Arc<Session>,
    vigilance: Option<(Duration, Duration)>,
    begin: impl FnMut(Channel) + Send,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    // Whoever waits for a channel learns of the end, also if this is dropped.
    let closing = Closing(session);
    let mut driver = Driver {
        session,
        begin,
        input: BytesMut::new(),
        output: Vec::new(),
        written: 0,
        is_unflushed: false,
        begun: Vec::new(),
        wakers: Vec::new(),
        vigil: vigilance.map(Vigil::new),
    };
    let ended = poll_fn(|context| driver.poll(Pin::new(&mut io), context)).await;
    if ended.is_err() && session.state.lock().role == Role::Client {
        session.retire();
        // The runtime reads only what it was told of, and it is told between two turns.
        tokio::task::yield_now().await;
        poll_fn(|context| {
            driver.hear_out(Pin::new(&mut io), context);
            Poll::Ready(())
        })
        .await;
    }
    drop(closing);
    if ended.is_ok() {
        // The other side is told of an end in order, as far as that takes no wait.
        poll_fn(|context| {
            let _ = Pin::new(&mut io).poll_shutdown(context);
            Poll::Ready(())
        })
        .await;
    }
    ended
}

struct Closing<'a>(&'a Session);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Driver<'a, B> {
    session: &'a Arc<Session>,
    begin: B,
    /// What came and is no whole frame.
    input: BytesMut,
    /// What is being written, of which so much was.
    output: Vec<u8>,
    written: usize,
    /// Something was written and may be kept back beneath.
    is_unflushed: bool,
    /// Kept to be used again.
    begun: Vec<u32>,
    wakers: Vec<Waker>,
    vigil: Option<Vigil>,
}

/// Finds a peer that has vanished without a word: all that are sent to it share its fate.
struct Vigil {
    interval: Duration,
    limit: Duration,
    alarm: Pin<Box<Sleep>>,
    has_heard: bool,
    is_asked: bool,
}

impl Vigil {
    fn new((interval, limit): (Duration, Duration)) -> Self {
        let alarm = Box::pin(sleep(interval));
        Self { interval, limit, alarm, has_heard: false, is_asked: false }
    }

    /// Fails if there was no sign of life for too long.
    fn poll(&mut self, session: &Session, context: &mut Context<'_>) -> io::Result<()> {
        while self.alarm.as_mut().poll(context).is_ready() {
            let was_heard = std::mem::take(&mut self.has_heard);
            if self.is_asked && !was_heard {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.is_asked = !was_heard && session.state.lock().ping();
            let wait = if self.is_asked { self.limit } else { self.interval };
            self.alarm.as_mut().reset(Instant::now() + wait);
        }
        Ok(())
    }
}

impl<B: FnMut(Channel)> Driver<'_, B> {
    fn poll<I: AsyncRead + AsyncWrite>(
        &mut self,
        mut io: Pin<&mut I>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.session.state.lock().begin_turn();
        let is_blocked = self.write(io.as_mut(), context)?.is_pending();
        let has_more = match self.read(io.as_mut(), context) {
            // Whoever has nothing under way may end.
            Err(error) if is_end(&error) && self.session.state.lock().open == 0 => {
                return Poll::Ready(Ok(()));
            }
            read => read?,
        };
        // What was there is heard first: the own process may have been the one that stood still.
        if let Some(vigil) = &mut self.vigil {
            vigil.poll(self.session, context)?;
        }
        let is_blocked = is_blocked || self.write(io, context)?.is_pending();
        let mut state = self.session.state.lock();
        if state.is_over() && state.ready() == 0 && !is_blocked {
            return Poll::Ready(Ok(()));
        }
        // What came has woken others, who have their turn first: their answers leave together.
        if state.end_turn(context.waker()) && !is_blocked || has_more {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reads what came before the other side was gone: answers that somebody waits for.
    fn hear_out<I: AsyncRead>(&mut self, mut io: Pin<&mut I>, context: &mut Context<'_>) {
        for _turn in 0..LAST_TURNS {
            if !matches!(self.read(io.as_mut(), context), Ok(true)) {
                break;
            }
        }
    }

    fn write<I: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut I>,
        context: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        match self.poll_write(io.as_mut(), context) {
            Poll::Ready(written) => written.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_write<I: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut I>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
                match ready!(io.as_mut().poll_write(context, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    length => self.written += length,
                }
                self.session.count_move();
                self.is_unflushed = true;
            }
            self.written = 0;
            buffers::written(std::mem::take(&mut self.output));
            self.session.state.lock().take_output(&mut self.output, &mut self.wakers);
            self.wake();
            if self.output.is_empty() {
                break;
            }
        }
        if self.is_unflushed {
            ready!(io.poll_flush(context))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there, and no more than others can wait for; whether there may be more.
    fn read<I: AsyncRead>(
        &mut self,
        mut io: Pin<&mut I>,
        context: &mut Context<'_>,
    ) -> io::Result<bool> {
        for _read in 0..READ_LIMIT {
            {
                let mut state = self.session.state.lock();
                // Whoever asks and does not listen is not heard either.
                if state.pauses() || state.ready() >= ANSWER_LIMIT_BYTES {
                    return Ok(false);
                }
            }
            if self.input.capacity() == 0 {
                self.input = buffers::for_reading();
            }
            self.input.reserve(READ_BYTES);
            match poll_read_buf(io.as_mut(), context, &mut self.input)? {
                Poll::Ready(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(_length) => {
                    if let Some(vigil) = &mut self.vigil {
                        vigil.has_heard = true;
                    }
                    self.session.count_move();
                    self.look()?;
                }
                Poll::Pending => {
                    if self.input.is_empty() {
                        buffers::read(std::mem::take(&mut self.input));
                    }
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn look(&mut self) -> io::Result<()> {
        let mut rest: &[u8] = &self.input;
        let heard = {
            let mut state = self.session.state.lock();
            loop {
                match state.hear(&mut rest, &mut self.begun, &mut self.wakers) {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(fault) => break Err(fault),
                }
            }
        };
        let used = self.input.len() - rest.len();
        self.input.advance(used);
        for id in self.begun.drain(..) {
            (self.begin)(Channel::new(Arc::clone(self.session), id));
        }
        self.wake();
        heard.map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// How often is read before others have their turn.
const READ_LIMIT: usize = 4;
/// How often that is done of a connection that is lost: nobody sends to it for ever.
const LAST_TURNS: usize = 64;
