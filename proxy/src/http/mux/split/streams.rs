//! The lane's streams of one client: begun and passed on. How they are lost, and sent again, is in lost.rs.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use heddle_model::endpoint::ExpectedPeer;
use http::{Method, Request};
use tokio::time::Instant;

use crate::balance::endpoint::BalancedEndpoint;
use crate::balance::set::{PickContext, Purpose};
use crate::connect::Dialer;
use crate::http::account::Account;
use crate::http::attempt::is_idempotent;
use crate::http::client::open_upstream;
use crate::http::gate::fields;
use crate::http::hpack::encoder;
use crate::http::hpack::fields::Fields;
use crate::http::mux::frame::code;
use crate::http::mux::numbers::IdHasher;
use crate::http::mux::outbox::Outbox;
use crate::http::mux::request::{self, Simple};
use crate::http::mux::response::is_regular;
use crate::http::mux::upstream::{Exchange, Upstream};
use crate::http::pool::upstreams::Wait;
use crate::http::server::open::{Open, Openings};
use crate::http::stack::express::{Chosen, Express};

pub(super) struct Streams {
    pub(super) express: Express,
    openings: Openings,
    /// When to take no new request.
    until: Option<Instant>,
    is_off: bool,
    outbox: Arc<Outbox>,
    pub(super) streams: HashMap<u32, Stream, BuildHasherDefault<IdHasher>>,
}

/// A request that is under way.
pub(super) struct Stream {
    pub(super) link: Link,
    pub(super) account: Arc<Account>,
    /// What of its body is to come, if it said.
    left: Option<u64>,
    pub(super) has_all: bool,
    pub(super) is_idempotent: bool,
    /// When it was lost and sent again, for which no connection was used that had been open before.
    pub(super) lost_at: Option<Instant>,
    /// It may have been processed then.
    pub(super) is_repeated: bool,
    /// To send it elsewhere, while that is possible.
    pub(super) copy: Option<Copy>,
    _open: Open,
}

/// How far a request has come.
pub(super) enum Link {
    /// It waits for a connection to its endpoint.
    Waiting(Box<Exchange>),
    /// To the endpoint, as this stream.
    Sent(Arc<Upstream>, u32),
    /// It is over.
    Gone,
}

/// What there is of a request that may have to be sent elsewhere.
pub(super) struct Copy {
    pub(super) block: Vec<u8>,
    pub(super) data: Vec<u8>,
    /// For how much of it room was given back before: it was sent once.
    pub(super) given: usize,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Link::Sent(upstream, number) = &self.link {
            // Does nothing to one that has been answered.
            upstream.cancel(*number);
        }
    }
}

impl Streams {
    pub(super) fn new(
        (express, openings): (Express, Openings),
        until: Option<Instant>,
        outbox: &Arc<Outbox>,
    ) -> Self {
        let (outbox, streams) = (Arc::clone(outbox), HashMap::default());
        Self { express, openings, until, is_off: false, outbox, streams }
    }

    /// All that begin from here on go the general way.
    pub(super) fn switch_off(&mut self) {
        self.is_off = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn has(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    /// It is over: if there was no answer, nobody waits for one any more.
    pub(super) fn remove(&mut self, stream: u32) {
        let Some(one) = self.streams.remove(&stream) else { return };
        if let (Link::Waiting(_), Some(copy)) = (&one.link, &one.copy) {
            // Nobody else gives back what was not sent.
            self.outbox.give_back(stream, copy.data.len() - copy.given);
        }
    }

    /// Takes a request on, if it is simple and can be sent at once.
    pub(super) fn begin(&mut self, stream: u32, fields: &Fields, has_ended: bool) -> bool {
        match self.send(stream, fields, has_ended) {
            Some(begun) => {
                self.streams.insert(stream, begun);
                true
            }
            None => false,
        }
    }

    fn send(&self, stream: u32, fields: &Fields, has_ended: bool) -> Option<Stream> {
        let simple = request::simple(fields, has_ended)?;
        // A client may ignore that it was told to go away: it is refused on the general path.
        if self.is_off || self.until.is_some_and(|until| Instant::now() > until) {
            return None;
        }
        let method = Method::from_bytes(simple.method).ok()?;
        let dialer = self.express.dialer();
        let chosen = self.express.choose()?;
        let context =
            PickContext { metrics: Some(&dialer.metrics), ..PickContext::first(Purpose::Request) };
        let in_flight =
            chosen.backend.try_admit(&context, dialer.settings.requests_per_endpoint)?;
        let endpoint = Arc::clone(in_flight.endpoint());
        if is_own(dialer, &endpoint) {
            return None;
        }
        let upstream = endpoint.pool.take_upstream(Instant::now(), None);
        if upstream.is_none() && !self.wait(stream, &chosen, &endpoint) {
            return None;
        }
        let mut seen = None;
        if self.express.has_to_be_seen() {
            seen = Some(request::seen(fields, &simple, &method)?);
        }
        let place = self.express.admit().ok()?;
        let now = Instant::now();
        self.express.count(&chosen, now);
        let account = self.express.begin(&method, seen.as_mut(), now);
        if let Some(notes) = account.notes() {
            notes.count_attempt();
        }
        let block = self.head(fields, &simple, seen.as_ref());
        let exchange = Exchange {
            client: Arc::clone(&self.outbox),
            stream,
            account: Arc::clone(&account),
            under: Some(self.express.observe_http2(&account, simple.is_grpc)),
            in_flight: in_flight.with_place(place),
            chosen,
            is_head: method == Method::HEAD,
            is_grpc: simple.is_grpc,
            sent_at: Instant::now(),
            is_new: false,
            status: 0,
            left: None,
        };
        self.outbox.accept(stream, has_ended, true);
        let link = match upstream {
            None => Link::Waiting(Box::new(exchange)),
            Some(upstream) => match upstream.ask(exchange, &block, has_ended) {
                Ok(number) => Link::Sent(upstream, number),
                Err(exchange) => {
                    exchange.forget();
                    self.outbox.hand_over(stream, 0);
                    return None;
                }
            },
        };
        Some(Stream {
            link,
            account,
            left: simple.length,
            has_all: has_ended,
            is_idempotent: is_idempotent(&method),
            lost_at: None,
            is_repeated: false,
            copy: Some(Copy { block, data: Vec::new(), given: 0 }),
            _open: self.openings.begin(),
        })
    }

    /// Has a request wait for a connection; false if there are as many as may be.
    pub(super) fn wait(&self, stream: u32, to: &Chosen, endpoint: &Arc<BalancedEndpoint>) -> bool {
        match endpoint.pool.wait_for_upstream(&self.outbox, stream) {
            Wait::None => false,
            Wait::Waits => true,
            Wait::Opens => {
                open_upstream(self.express.dialer(), &to.backend, endpoint);
                true
            }
        }
    }

    fn head(
        &self,
        fields: &Fields,
        simple: &Simple<'_>,
        seen: Option<&Request<crate::http::body::Body>>,
    ) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let caller = self.express.caller();
        match seen {
            None => request::write(fields, simple, caller, &mut block),
            Some(seen) => request::write_seen(seen.headers(), simple, caller, &mut block),
        }
        block
    }

    /// A piece of a request's body has come, filled up with so many octets. Fails with the code that the stream is reset
    /// with.
    pub(super) fn data(
        &mut self,
        stream: u32,
        (data, has_ended): (&[u8], bool),
        padding: usize,
    ) -> Result<(), u32> {
        let one = self.streams.get_mut(&stream).ok_or(code::STREAM_CLOSED)?;
        if one.has_all {
            return Err(code::STREAM_CLOSED);
        }
        if let Some(left) = &mut one.left {
            let octets = u64::try_from(data.len()).unwrap_or(u64::MAX);
            *left = left.checked_sub(octets).ok_or(code::PROTOCOL_ERROR)?;
            if has_ended && *left > 0 {
                return Err(code::PROTOCOL_ERROR);
            }
        }
        one.has_all = has_ended;
        one.account.add_request_bytes(data.len());
        // Few clients send any, and there is no end to how many.
        if data.is_empty() && !has_ended {
            self.outbox.give_back(stream, padding);
            return Ok(());
        }
        let is_sent = matches!(one.link, Link::Sent(..));
        if let Some(copy) = &mut one.copy {
            // What waits is bounded by the window, of which nothing is given back meanwhile.
            if !is_sent || copy.data.len() + data.len() <= COPY_LIMIT_BYTES {
                copy.data.extend_from_slice(data);
            } else {
                one.copy = None;
                self.outbox.release(stream);
            }
        }
        let mut left = 0;
        if let Link::Sent(upstream, number) = &one.link {
            let source = Some((&self.outbox, stream));
            left = upstream.outbox().data(*number, (data, has_ended), source);
        }
        self.outbox.give_back(stream, left + padding);
        Ok(())
    }

    /// What comes after a request's body; false if it is malformed.
    pub(super) fn end(&mut self, stream: u32, trailers: &Fields) -> bool {
        let Some(one) = self.streams.get_mut(&stream) else { return true };
        if one.has_all || one.left.is_some_and(|left| left > 0) {
            return false;
        }
        let mut block = Vec::new();
        // h2 leaves out what only a head may say, and so does this.
        for field in trailers.iter().filter(|field| field.name.first() != Some(&b':')) {
            if !is_regular(field.name, field.value) {
                return false;
            }
            if fields::may_trail(field.name) {
                encoder::field(
                    field.name,
                    field.value,
                    field.static_name,
                    field.is_sensitive,
                    &mut block,
                );
            }
        }
        one.has_all = true;
        // Trailers are not kept: who sends them is not sent elsewhere.
        one.copy = None;
        self.outbox.release(stream);
        let _nothing = self.outbox.receive(stream, 0, true);
        if let Link::Sent(upstream, number) = &one.link {
            upstream.outbox().trailers(*number, &block);
        }
        true
    }

    /// Whether it waits for a connection.
    pub(super) fn is_waiting(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(|one| matches!(one.link, Link::Waiting(_)))
    }
}

/// A workload that calls itself does so past its own inbound side, which would have told it who asks.
fn is_own(dialer: &Dialer, endpoint: &BalancedEndpoint) -> bool {
    match &endpoint.endpoint.peer {
        ExpectedPeer::Mesh { pod_uid, .. } => *pod_uid == dialer.own,
        ExpectedPeer::Plaintext => false,
    }
}

/// What is kept of a request's body until it is answered, to send it elsewhere if nothing was done of it.
pub(super) const COPY_LIMIT_BYTES: usize = 16 * 1024;
/// Room for the heads of most requests.
const BLOCK_BYTES: usize = 256;
