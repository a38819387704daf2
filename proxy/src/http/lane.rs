//! The lane: a path of its own for simple requests of HTTP/1, beside hyper. A request is simple if all of it is
//! there, and nothing is done to it but to pick an endpoint and to send it on: it goes there in one write, and its
//! answer comes back in another, without a task, a channel or a map of headers in between.
//!
//! What passes is judged by the same gate, and counted, limited and told of by the same hands, as on the general
//! path. What is not simple is handed over, with its connection: nothing of it was used up, and hyper reads it from
//! its first octet. The reasons are in `docs/adr/0014-a-lane-for-simple-requests.md`.

mod answer;
pub(crate) mod buffers;
mod client;
pub mod connection;
mod framing;
mod reply;
mod request;
mod send;

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use heddle_runtime::seldom::Seldom;
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::balance::ejection::Sign;
use crate::connect::Dialer;
use crate::http::account::Account;
use crate::http::body::Body;
use crate::http::breaker::Reset;
use crate::http::gate::framing::understand;
use crate::http::gate::timers::Limits;
use crate::http::grpc::GrpcStatus;
use crate::http::lane::client::{Client, Gone, Next};
use crate::http::lane::request::NotSimple;
use crate::http::lane::send::{Answered, Sending, send};
use crate::http::pool::lane::put_back;
use crate::http::server::{Serving, called_off};
use crate::http::stack::express::{Chosen, Express};
use crate::rewind::Rewind;

/// What became of a connection.
pub enum Left<I> {
    /// It has ended.
    Ended,
    /// The next request is not simple: the general path goes on with it.
    General(Rewind<I>),
}

/// Serves a connection until it ends, or until a request comes that is not simple.
pub async fn serve<I>(
    io: I,
    express: &Express,
    serving: &Serving,
    dialer: &Dialer,
) -> io::Result<Left<I>>
where
    I: AsyncRead + AsyncWrite + Reset + Unpin + Send,
{
    let limits = Limits {
        idle: serving.idle,
        head: dialer.settings.request_head_timeout,
        body: dialer.settings.body_idle,
        answer: dialer.settings.body_idle,
    };
    let client = Client::new(io, limits, Seldom::new(called_off(serving, dialer)));
    let mut lane = Lane {
        client,
        express,
        serving,
        dialer,
        octets: Vec::new(),
        reply: Vec::new(),
        answer: BytesMut::new(),
    };
    loop {
        let length = match lane.client.next().await {
            Next::Head(length) => length,
            Next::General => return Ok(Left::General(lane.client.into_rewind())),
            Next::Ended => {
                lane.shut_down().await;
                return Ok(Left::Ended);
            }
            Next::Idle => {
                dialer.metrics.count_limit(serving.direction, "http1_idle");
                lane.shut_down().await;
                return Ok(Left::Ended);
            }
            Next::Broken(error) => return Err(error),
        };
        let asked = loop {
            match lane.understand(length) {
                Ok(asked) => break asked,
                Err(NotSimple::Short) if lane.client.has_more().await => {}
                Err(NotSimple::Short | NotSimple::Other) => {
                    return Ok(Left::General(lane.client.into_rewind()));
                }
            }
        };
        let exchanged = lane.exchange(asked).await;
        lane.give_room_back();
        match exchanged {
            Ok(()) if lane.client.is_last() => {
                lane.shut_down().await;
                return Ok(Left::Ended);
            }
            Ok(()) => {}
            Err(Gone) => return Ok(Left::Ended),
        }
    }
}

struct Lane<'a, I, F> {
    client: Client<I, F>,
    express: &'a Express,
    serving: &'a Serving,
    dialer: &'a Dialer,
    /// The request, as it is sent.
    octets: Vec<u8>,
    /// The response, as far as the client has not got it.
    reply: Vec<u8>,
    /// What came of the response and was not looked at.
    answer: BytesMut,
}

/// A request that is simple; how it is sent is in the lane's `octets`.
struct Asked {
    method: Method,
    body_length: usize,
    chosen: Chosen,
    account: Arc<Account>,
}

impl<I, F> Lane<'_, I, F>
where
    I: AsyncRead + AsyncWrite + Reset + Unpin + Send,
    F: Future<Output = ()> + Unpin + Send,
{
    /// For the next request, perhaps of another connection.
    fn give_room_back(&mut self) {
        buffers::read(std::mem::take(&mut self.answer));
        buffers::written(std::mem::take(&mut self.octets));
        buffers::written(std::mem::take(&mut self.reply));
    }

    /// The request whose head has this length, or why it is none for the lane: nothing of it was used up then.
    fn understand(&mut self, length: usize) -> Result<Asked, NotSimple> {
        let (head, following) = self.client.head(length).ok_or(NotSimple::Other)?;
        // What is refused is refused by the general path, which tells the client.
        let meaning = understand(&head).map_err(|_refusal| NotSimple::Other)?;
        let simple = request::simple(&head, &meaning, following.len())?;
        let method = Method::from_bytes(head.method()).map_err(|_| NotSimple::Other)?;
        let now = Instant::now();
        let chosen = self.express.choose().ok_or(NotSimple::Other)?;
        let mut seen = None;
        if self.express.has_to_be_seen() {
            seen = Some(request::seen(&head, &meaning, &method).ok_or(NotSimple::Other)?);
        }
        self.express.count(&chosen, now);
        let account = self.express.begin(&method, seen.as_mut(), now);
        (self.octets, self.reply) = (buffers::for_writing(), buffers::for_writing());
        let traced = seen.as_ref().map(Request::headers);
        request::write(&head, &meaning, (self.express.caller_line(), traced), &mut self.octets);
        let body = following.get(..simple.body_length).ok_or(NotSimple::Short)?;
        self.octets.extend_from_slice(body);
        self.client.used(length + simple.body_length, simple.is_last);
        Ok(Asked { method, body_length: simple.body_length, chosen, account })
    }

    /// Sends a request on, and its answer back.
    async fn exchange(&mut self, asked: Asked) -> Result<(), Gone> {
        let Asked { method, body_length, chosen: Chosen { backend, route }, account } = asked;
        let observed = self.express.observe(&account);
        let place = match self.express.admit() {
            Ok(place) => place,
            Err(error) => {
                let response = observed.fail(error.into(), route);
                drop(account);
                return self.tell(response, &method).await;
            }
        };
        let sending = Sending {
            dialer: self.dialer,
            backend: &backend,
            method: &method,
            octets: &self.octets,
            body_length,
            place,
            notes: account.notes(),
        };
        let sent = {
            let sent = pin!(send(sending, &mut self.answer, &mut self.reply));
            self.client.unless_gone(sent).await?
        };
        let answered = match sent {
            Ok(answered) => answered,
            Err(failure) => {
                if failure.error.is_after_sending() {
                    account.add_request_bytes(body_length);
                }
                let response = observed.fail(*failure, route);
                drop(account);
                return self.tell(response, &method).await;
            }
        };
        account.add_request_bytes(body_length);
        account.answered_at(answered.answered_at);
        let from = (answered.in_flight.endpoint(), &*backend);
        let outcome = (answered.status, GrpcStatus::NotGrpc);
        observed.answered(from, route.as_ref(), outcome);
        if account.wants_headers()
            && let Some(headers) = reply::headers(&self.reply)
        {
            account.answers(&headers);
        }
        let is_last = self.client.is_last() || self.serving.is_draining();
        self.client.set_last(is_last);
        reply::finish(&answered.framing, answered.has_date, is_last, &mut self.reply);
        self.pass(answered, account).await
    }

    /// The body of an answer whose head is in `reply`.
    async fn pass(&mut self, answered: Answered, account: Arc<Account>) -> Result<(), Gone> {
        let Answered { mut connection, in_flight, mut framing, is_reusable, .. } = answered;
        let Answered { is_deaf, mut unsent, answered_at, .. } = answered;
        let metrics = &self.dialer.metrics;
        account.left(false);
        // Most answers are there as a whole.
        let mut is_waited_for = false;
        loop {
            let has_ended = match framing.pass(&mut self.answer, &mut self.reply) {
                Ok(passed) => {
                    account.add_response_bytes(passed.data);
                    if let Some(sign) = passed.sign {
                        in_flight.endpoint().observe(sign, metrics);
                    }
                    passed.has_ended
                }
                Err(_refusal) => {
                    metrics.response_broken.inc();
                    if connection.is_news() {
                        in_flight.endpoint().observe(Sign::BadConnection, metrics);
                    }
                    self.client.reset();
                    return Err(Gone);
                }
            };
            if has_ended {
                in_flight.endpoint().observe(Sign::GoodConnection, metrics);
                // What follows an answer that has ended is none: its connection is not used again.
                let now = if is_waited_for { Instant::now() } else { answered_at };
                if is_reusable && self.answer.is_empty() {
                    put_back(in_flight.endpoint(), connection, now);
                }
                self.client.rests(now);
                drop(in_flight);
                account.left(true);
                // Before the client can know: what is within another's time has ended when that ends.
                drop(account);
                return self.write().await;
            }
            self.write().await?;
            is_waited_for = true;
            let read = {
                let octets = (self.octets.as_slice(), &mut unsent);
                let read = pin!(connection.read_on(octets, &mut self.answer));
                self.client.unless_gone(read).await?
            };
            let is_end = !is_deaf && matches!(read, Ok(0)) && framing.end(&mut self.reply);
            if !is_end && !matches!(read, Ok(1..)) {
                metrics.response_broken.inc();
                if connection.is_news() {
                    in_flight.endpoint().observe(Sign::BadConnection, metrics);
                }
                self.client.reset();
                return Err(Gone);
            }
        }
    }

    /// The proxy's own answer.
    async fn tell(&mut self, response: Response<Body>, method: &Method) -> Result<(), Gone> {
        let is_last = self.client.is_last() || self.serving.is_draining();
        let is_last = reply::own(&response, is_last, &mut self.reply);
        self.client.set_last(is_last);
        if *method != Method::HEAD
            && let Some(text) = response.into_body().into_text()
        {
            self.reply.extend_from_slice(&text);
        }
        self.write().await
    }

    async fn write(&mut self) -> Result<(), Gone> {
        let written = self.client.write(&self.reply).await;
        self.reply.clear();
        if let Err(Some(limit)) = written {
            // The kernel would keep what nobody takes, and try for minutes.
            self.client.reset();
            self.dialer.metrics.count_limit(self.serving.direction, limit);
        }
        written.map_err(|_limit| Gone)
    }

    async fn shut_down(&mut self) {
        if let Err(Some(limit)) = self.client.shut_down().await {
            self.client.reset();
            self.dialer.metrics.count_limit(self.serving.direction, limit);
        }
    }
}
