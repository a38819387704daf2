//! A connection of HTTP/2 to an endpoint, which the streams of many clients share. Whoever has a request writes it to the
//! connection's outbox; the connection's task (driver.rs) reads the answers, and writes them to the clients' outboxes.

pub mod driver;
mod exchange;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::balance::ejection::Sign;
use crate::balance::endpoint::InFlight;
use crate::http::account::Account;
use crate::http::gate::response::Fault;
use crate::http::grpc::{Code, GrpcStatus};
use crate::http::hpack::encoder;
use crate::http::hpack::fields::Fields;
use crate::http::mux::frame::{self, TABLE_BYTES, code};
use crate::http::mux::numbers::IdHasher;
use crate::http::mux::outbox::{Outbox, Role};
use crate::http::mux::response::{self, NoAnswer, Said};
use crate::http::pool::STREAM_LIMIT;
use crate::http::respond::Cause;
use crate::http::stack::express::{Chosen, Under};
use crate::listen::HTTP2_CONNECTION_WINDOW_BYTES;
use crate::metrics::Metrics;

/// See the module.
#[derive(Debug)]
pub struct Upstream {
    outbox: Arc<Outbox>,
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
    /// The pod whose proxy answers; `None`: anybody does.
    mesh: Option<Arc<str>>,
}

#[derive(Debug)]
struct Table {
    exchanges: HashMap<u32, Exchange, BuildHasherDefault<IdHasher>>,
    next: u32,
    /// What the peer takes at once.
    limit: usize,
    life: Life,
    /// The next head has to say that it uses no table (RFC 7541, section 4.2).
    has_to_say_no_table: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// It takes no new request.
    Ending,
    Closed,
}

/// A request that was sent, and what its answer needs.
#[derive(Debug)]
pub struct Exchange {
    /// Where the answer goes.
    pub client: Arc<Outbox>,
    /// To which stream.
    pub stream: u32,
    /// What is measured.
    pub account: Arc<Account>,
    /// Who counts how it ends; `None`: it is counted.
    pub under: Option<Under>,
    /// The endpoint's load.
    pub in_flight: InFlight,
    /// What it was chosen from.
    pub chosen: Chosen,
    /// It is HEAD: no body follows.
    pub is_head: bool,
    /// It is a call of gRPC.
    pub is_grpc: bool,
    /// When it was sent, or began to wait for a connection.
    pub sent_at: Instant,
    /// It went over a connection that was opened for it.
    pub is_new: bool,
    /// The answer's; zero: it is not there.
    pub status: u16,
    /// What of the answer's body is to come, if it said.
    pub left: Option<u64>,
}

/// A request without an answer.
#[derive(Debug)]
pub struct Lost {
    /// The request.
    pub exchange: Exchange,
    /// How far it had come.
    pub how: How,
    /// Until one of the requests that were lost together has told of it.
    pub news: Arc<AtomicBool>,
}

impl Lost {
    /// A stream by itself is lost.
    pub fn of_stream(exchange: Exchange, how: How) -> Self {
        Self { exchange, how, news: Arc::new(AtomicBool::new(true)) }
    }
}

/// How far a request had come that was lost.
#[derive(Debug)]
pub enum How {
    /// The other side has done nothing of it.
    Unsent(Cause),
    /// It may have been processed. The flag: the whole connection is lost.
    Perhaps(Cause, bool),
    /// It was answered, in a way that could be read in two.
    Ambiguous(Fault),
}

impl Upstream {
    /// Of a connection that was just opened.
    pub fn new(metrics: Arc<Metrics>, mesh: Option<Arc<str>>) -> Self {
        let outbox = Outbox::new(Role::Client, HTTP2_CONNECTION_WINDOW_BYTES);
        // Before anybody can send a request.
        outbox.write(driver::begin);
        Self {
            outbox: Arc::new(outbox),
            table: Mutex::new(Table {
                exchanges: HashMap::default(),
                next: 1,
                limit: STREAM_LIMIT,
                life: Life::Open,
                has_to_say_no_table: false,
            }),
            metrics,
            mesh,
        }
    }

    /// What is sent to it.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// How many requests it has; `None`: it takes no more.
    pub fn load(&self) -> Option<usize> {
        let table = self.table.lock();
        let load = table.exchanges.len();
        let is_free = table.life == Life::Open && load < table.limit && self.takes_more();
        is_free.then_some(load)
    }

    /// Whether what was sent before has left: requests that are given up before that cost nobody anything but this.
    fn takes_more(&self) -> bool {
        self.outbox.ready() < UNSENT_LIMIT_BYTES
    }

    /// Whether it takes requests, now or when others have ended.
    pub fn is_open(&self) -> bool {
        self.table.lock().life == Life::Open
    }

    /// Whether it has no request.
    pub fn is_idle(&self) -> bool {
        self.table.lock().exchanges.is_empty()
    }

    /// It takes no new request, and ends after those that it has.
    pub fn retire(&self) {
        {
            let mut table = self.table.lock();
            if table.life == Life::Open {
                table.life = Life::Ending;
            }
        }
        self.outbox.wake();
    }

    /// Sends a request with this head; the number of its stream, or the request if it is not taken. `has_ended`: it has
    /// no body.
    pub fn ask(
        &self,
        exchange: Exchange,
        block: &[u8],
        has_ended: bool,
    ) -> Result<u32, Box<Exchange>> {
        let mut table = self.table.lock();
        let is_free = table.exchanges.len() < table.limit && self.takes_more();
        let is_taken = table.life == Life::Open && is_free;
        if !is_taken {
            return Err(Box::new(exchange));
        }
        let stream = table.next;
        table.next += 2;
        if table.next > LAST_STREAM {
            table.life = Life::Ending;
        }
        table.exchanges.insert(stream, exchange);
        // Under the lock: streams begin in the order of their numbers.
        if std::mem::take(&mut table.has_to_say_no_table) {
            let mut said = Vec::new();
            encoder::no_table(&mut said);
            said.extend_from_slice(block);
            self.outbox.ask(stream, &said, has_ended);
        } else {
            self.outbox.ask(stream, block, has_ended);
        }
        Ok(stream)
    }

    /// The client gives a request up.
    pub fn cancel(&self, stream: u32) {
        let given_up = self.table.lock().exchanges.remove(&stream);
        if let Some(exchange) = given_up {
            exchange.given_up();
            self.outbox.forget(stream, Some(code::CANCEL));
            self.outbox.wake();
        }
    }

    /// The head of an answer, or what comes after its body.
    fn on_fields(&self, stream: u32, fields: &Fields, has_ended: bool) {
        let mut table = self.table.lock();
        let Some(exchange) = table.exchanges.get_mut(&stream) else { return };
        if exchange.status != 0 {
            let taken = if has_ended { table.exchanges.remove(&stream) } else { None };
            drop(table);
            match taken {
                Some(exchange) => self.on_trailers(stream, exchange, fields),
                None => self.fail(stream, code::PROTOCOL_ERROR),
            }
            return;
        }
        let said = match Said::of(fields) {
            Ok(said) if said.is_interim() && !has_ended => return,
            Ok(said) if said.is_interim() || has_ended && exchange.lacks_body(&said) => {
                Err(NoAnswer::Malformed)
            }
            said => said,
        };
        let said = match said {
            Ok(said) => said,
            Err(no_answer) => {
                let lost = table.exchanges.remove(&stream);
                drop(table);
                self.outbox.forget(stream, Some(code::PROTOCOL_ERROR));
                if let Some(exchange) = lost {
                    exchange.lost(no_answer.into(), None);
                }
                return;
            }
        };
        exchange.answered(&said, self);
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        response::write(fields, &said, self.mesh.as_deref(), &mut block);
        if exchange.account.wants_headers() {
            exchange.account.answers(&response::map(&block));
        }
        if has_ended {
            let ended = table.exchanges.remove(&stream);
            drop(table);
            if let Some(exchange) = ended {
                self.end(stream, exchange, None, |client, of| client.answer(of, &block, true));
            }
        } else {
            exchange.client.answer(exchange.stream, &block, false);
        }
    }

    fn on_trailers(&self, stream: u32, exchange: Exchange, fields: &Fields) {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let grpc_status = response::trailers(fields, &mut block);
        let grpc_status = grpc_status.filter(|_| exchange.left.is_none_or(|left| left == 0));
        let Some(grpc_status) = grpc_status else {
            self.break_off(stream, exchange, code::PROTOCOL_ERROR);
            return;
        };
        if let Some(status) = &grpc_status {
            let sign = crate::http::outcome::of_grpc_status(status);
            exchange.in_flight.endpoint().observe(sign, &self.metrics);
        }
        let code = grpc_status.as_deref().map(Code::parse);
        self.end(stream, exchange, code, |client, of| client.trailers(of, &block));
    }

    /// A piece of an answer's body. `length` is what it took of the connection's room.
    fn on_data(&self, stream: u32, data: &[u8], length: usize, has_ended: bool) {
        let mut table = self.table.lock();
        let Some(exchange) = table.exchanges.get_mut(&stream) else {
            drop(table);
            // Of a stream that was given up.
            self.outbox.give_back(stream, length);
            return;
        };
        let octets = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let is_fit = match &mut exchange.left {
            None => true,
            Some(left) => match left.checked_sub(octets) {
                Some(less) => {
                    *left = less;
                    !has_ended || less == 0
                }
                None => false,
            },
        };
        if exchange.status == 0 || !is_fit {
            drop(table);
            self.outbox.give_back(stream, length);
            self.fail(stream, code::PROTOCOL_ERROR);
            return;
        }
        if data.is_empty() && !has_ended {
            drop(table);
            // A client counts such pieces.
            self.outbox.give_back(stream, length);
            return;
        }
        exchange.account.add_response_bytes(data.len());
        let source = (&self.outbox, stream);
        let mut left = 0;
        if has_ended {
            let ended = table.exchanges.remove(&stream);
            drop(table);
            if let Some(exchange) = ended {
                self.end(stream, exchange, None, |client, of| {
                    left = client.data(of, (data, true), Some(source));
                });
            }
        } else {
            left = exchange.client.data(exchange.stream, (data, false), Some(source));
            drop(table);
        }
        // What it was filled up with is used up, too.
        self.outbox.give_back(stream, left + (length - data.len()));
    }

    /// An answer has ended as it should: `write` is the last of it.
    fn end(
        &self,
        stream: u32,
        mut exchange: Exchange,
        code: Option<Code>,
        write: impl FnOnce(&Arc<Outbox>, u32),
    ) {
        exchange.in_flight.endpoint().observe(Sign::GoodConnection, &self.metrics);
        exchange.account.left(true);
        exchange.count(GrpcStatus::Ended(code.unwrap_or(Code::Unknown)));
        let Exchange { client, stream: of, in_flight, account, .. } = exchange;
        // Before the client can know: what is within another's time has ended when that ends.
        drop(account);
        write(&client, of);
        client.hold(of, in_flight);
        self.outbox.finish(stream);
    }

    /// What came is no answer, or not the rest of one.
    fn fail(&self, stream: u32, reason: u32) {
        let failed = self.table.lock().exchanges.remove(&stream);
        let Some(exchange) = failed else { return };
        if exchange.status == 0 {
            self.outbox.forget(stream, Some(reason));
            exchange.lost(How::Perhaps("its answer is malformed".into(), false), None);
        } else {
            self.break_off(stream, exchange, reason);
        }
    }

    fn break_off(&self, stream: u32, exchange: Exchange, reason: u32) {
        self.outbox.forget(stream, Some(reason));
        exchange.broken(reason, true, &self.metrics);
    }

    /// The peer gives a stream up.
    fn on_reset(&self, stream: u32, reason: u32) {
        let reset = self.table.lock().exchanges.remove(&stream);
        self.outbox.forget(stream, None);
        let Some(exchange) = reset else { return };
        let cause: Cause = format!("the stream was reset ({reason})").into();
        match (exchange.status, reason) {
            (0, code::REFUSED_STREAM) => exchange.lost(How::Unsent(cause), None),
            (0, _) => exchange.lost(How::Perhaps(cause, false), None),
            // Clients take these for an end in order, which it is not.
            (_, code::NO_ERROR | code::CANCEL) => {
                exchange.broken(code::INTERNAL_ERROR, true, &self.metrics);
            }
            (_, reason) => exchange.broken(reason, true, &self.metrics),
        }
    }

    /// The peer takes no new streams, and has looked at none beyond `last`.
    fn on_go_away(&self, last: u32) {
        let unseen = {
            let mut table = self.table.lock();
            if table.life == Life::Open {
                table.life = Life::Ending;
            }
            let streams: Vec<u32> =
                table.exchanges.keys().copied().filter(|stream| *stream > last).collect();
            let take = |stream: u32| Some((stream, table.exchanges.remove(&stream)?));
            streams.into_iter().filter_map(take).collect::<Vec<_>>()
        };
        for (stream, exchange) in unseen {
            self.outbox.forget(stream, None);
            if exchange.status != 0 {
                exchange.broken(code::INTERNAL_ERROR, false, &self.metrics);
                continue;
            }
            exchange.lost(How::Unsent("the connection takes no new streams".into()), None);
        }
    }

    /// What the peer takes.
    fn on_settings(&self, settings: &frame::Settings) {
        if let Some(limit) = settings.stream_limit {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            self.table.lock().limit = limit.min(STREAM_LIMIT);
        }
        if settings.table_limit.is_some_and(|limit| limit < TABLE_BYTES) {
            self.table.lock().has_to_say_no_table = true;
        }
        crate::http::mux::writer::give_back(self.outbox.set(settings));
    }

    /// The connection is over.
    fn close(&self, cause: &str) {
        let exchanges = {
            let mut table = self.table.lock();
            table.life = Life::Closed;
            std::mem::take(&mut table.exchanges)
        };
        self.outbox.close();
        let news = Arc::new(AtomicBool::new(true));
        for exchange in exchanges.into_values() {
            if exchange.status == 0 {
                exchange.lost(How::Perhaps(cause.to_owned().into(), true), Some(&news));
            } else {
                let is_news = news.swap(false, Ordering::Relaxed);
                exchange.broken(code::INTERNAL_ERROR, is_news, &self.metrics);
            }
        }
    }

    /// Whether the connection has nothing more to do.
    fn is_over(&self) -> bool {
        let table = self.table.lock();
        table.life != Life::Open && table.exchanges.is_empty()
    }
}

impl From<NoAnswer> for How {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Malformed => Self::Perhaps("its answer is malformed".into(), false),
            NoAnswer::Ambiguous(fault) => Self::Ambiguous(fault),
        }
    }
}

/// What has not left before no request is added: a backend that reads nothing may be given up on again and again.
const UNSENT_LIMIT_BYTES: usize = 512 * 1024;
/// Half of what there are (RFC 9113, section 5.1.1), so that no number is near the end.
const LAST_STREAM: u32 = 1 << 30;
/// Room for the heads of most answers.
const BLOCK_BYTES: usize = 256;
