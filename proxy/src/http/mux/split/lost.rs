//! What becomes of a request that waits for a connection, or whose connection is lost: by the same rules as in http/send.rs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Response;
use tokio::time::Instant;

use crate::balance::endpoint::BalancedEndpoint;
use crate::http::attempt::{Lost as Unheard, Unanswered};
use crate::http::body::Body;
use crate::http::mux::frame::code;
use crate::http::mux::outbox::News;
use crate::http::mux::response;
use crate::http::mux::split::Lane;
use crate::http::mux::split::streams::{COPY_LIMIT_BYTES, Link};
use crate::http::mux::upstream::{Exchange, How, Lost};
use crate::http::send::{Failure, History};

impl Lane {
    /// What happened to streams on their other side.
    pub(super) fn take_news(&mut self) {
        for news in self.outbox.take_news() {
            match news {
                News::Ended(stream) => self.streams.remove(stream),
                News::Overdue(stream) => self.reset(stream, code::CANCEL),
                News::Lost(stream, lost) => self.lose(stream, *lost),
                News::Opened(stream) => self.go_on(stream),
            }
        }
    }

    /// The connection that a request waits for is open, or will not be: then it goes the general way.
    fn go_on(&mut self, stream: u32) {
        let Some(one) = self.streams.streams.get_mut(&stream) else { return };
        let link = match std::mem::replace(&mut one.link, Link::Gone) {
            Link::Waiting(exchange) => exchange,
            link @ (Link::Sent(..) | Link::Gone) => {
                one.link = link;
                return;
            }
        };
        let pool = &link.in_flight.endpoint().pool;
        let upstream = pool.take_upstream(Instant::now(), one.lost_at);
        let (Some(upstream), Some(copy)) = (upstream, &one.copy) else {
            return self.hand_over(stream, *link);
        };
        let has_ended = one.has_all && copy.data.is_empty();
        let sent = Exchange { sent_at: Instant::now(), is_new: true, ..*link };
        match upstream.ask(sent, &copy.block, has_ended) {
            Err(exchange) => self.hand_over(stream, *exchange),
            Ok(number) => {
                let (again, fresh) = copy.data.split_at_checked(copy.given).unwrap_or_default();
                if !again.is_empty() {
                    let ends = one.has_all && fresh.is_empty();
                    upstream.outbox().data(number, (again, ends), None);
                }
                if !fresh.is_empty() {
                    let source = Some((&self.outbox, stream));
                    let left = upstream.outbox().data(number, (fresh, one.has_all), source);
                    self.outbox.give_back(stream, left);
                }
                if let (Some(_again), Some(notes)) = (one.lost_at, one.account.notes()) {
                    notes.count_attempt();
                }
                if copy.data.len() > COPY_LIMIT_BYTES {
                    one.copy = None;
                    self.outbox.release(stream);
                }
                one.link = Link::Sent(upstream, number);
            }
        }
    }

    /// A request of which nothing was done goes the general way, with all that came of it.
    pub(super) fn hand_over(&mut self, stream: u32, exchange: Exchange) {
        let Some(mut one) = self.streams.streams.remove(&stream) else { return };
        if one.is_repeated {
            // Once is as often as that may be.
            let how = How::Perhaps("the connection ended twice".into(), true);
            return self.tell(stream, Lost::of_stream(exchange, how));
        }
        if self.general.is_gone() || self.general.is_over() {
            // h2 looks at no more streams. The client may ask again: nothing was done of it.
            let how = How::Unsent("the client's connection ends".into());
            self.count_failure(Lost::of_stream(exchange, how));
            if let Some(copy) = &one.copy {
                self.outbox.give_back(stream, copy.data.len() - copy.given);
            }
            return self.outbox.forget(stream, Some(code::REFUSED_STREAM));
        }
        exchange.forget();
        self.outbox.hand_over(stream, one.copy.as_ref().map_or(0, |copy| copy.data.len()));
        if let Some(copy) = one.copy.take() {
            let sent = (copy.block.as_slice(), copy.data.as_slice());
            self.general.begin_again(stream, sent, one.has_all);
        }
    }

    /// The same of one that waits.
    pub(super) fn hand_over_waiting(&mut self, stream: u32) {
        let Some(one) = self.streams.streams.get_mut(&stream) else { return };
        match std::mem::replace(&mut one.link, Link::Gone) {
            Link::Waiting(exchange) => self.hand_over(stream, *exchange),
            link @ (Link::Sent(..) | Link::Gone) => one.link = link,
        }
    }

    /// A request got no answer: it goes the general way, if it may be sent again, or else the client is told.
    fn lose(&mut self, stream: u32, lost: Lost) {
        let Some(one) = self.streams.streams.get_mut(&stream) else { return };
        one.link = Link::Gone;
        let is_first = one.lost_at.is_none();
        let is_new = lost.exchange.is_new;
        let may_go_again = match &lost.how {
            How::Unsent(_) => true,
            How::Perhaps(_error, is_closed) => {
                let is_bare = one.copy.as_ref().is_some_and(|copy| copy.data.is_empty());
                is_first && !is_new && *is_closed && one.has_all && is_bare && one.is_idempotent
            }
            How::Ambiguous(_) => false,
        };
        if !may_go_again || one.copy.is_none() {
            self.streams.remove(stream);
            self.tell(stream, lost);
        } else if is_first {
            one.lost_at = Some(Instant::now());
            if let Some(copy) = &mut one.copy {
                copy.given = copy.data.len();
            }
            one.is_repeated = matches!(lost.how, How::Perhaps(..));
            self.send_again(stream, lost.exchange);
        } else {
            self.hand_over(stream, lost.exchange);
        }
    }

    /// Sends a request to its endpoint over another connection.
    fn send_again(&mut self, stream: u32, exchange: Exchange) {
        let Some(one) = self.streams.streams.get_mut(&stream) else { return };
        let pool = &exchange.in_flight.endpoint().pool;
        let is_open = pool.take_upstream(Instant::now(), one.lost_at).is_some();
        let endpoint = Arc::clone(exchange.in_flight.endpoint());
        let will_be = is_open || self.streams.wait(stream, &exchange.chosen, &endpoint);
        let Some(one) = self.streams.streams.get_mut(&stream) else { return };
        one.link = Link::Waiting(Box::new(exchange));
        if is_open {
            self.go_on(stream);
        } else if !will_be {
            self.hand_over_waiting(stream);
        }
    }

    fn tell(&self, stream: u32, lost: Lost) {
        let is_head = lost.exchange.is_head;
        let Some(response) = self.count_failure(lost) else {
            return self.outbox.forget(stream, Some(code::INTERNAL_ERROR));
        };
        let mut block = Vec::new();
        let text = response::own(response, &mut block).filter(|text| !is_head && !text.is_empty());
        self.outbox.answer(stream, &block, text.is_none());
        if let Some(text) = text {
            self.outbox.data(stream, (&text, true), None);
        }
    }

    /// What a client is told of a failure.
    fn count_failure(&self, lost: Lost) -> Option<Response<Body>> {
        let Lost { mut exchange, how, news } = lost;
        let under = exchange.under.take()?;
        let endpoint = Arc::clone(exchange.in_flight.endpoint());
        let unanswered = match how {
            How::Unsent(error) => Unanswered::NotSent { request: (), error },
            How::Perhaps(error, is_closed) => {
                let (again, is_new) = (None, exchange.is_new);
                let is_news = news.swap(false, Ordering::Relaxed);
                Unanswered::Lost(Unheard { error, again, is_closed, is_new, is_news })
            }
            How::Ambiguous(fault) => Unanswered::Ambiguous { fault },
        };
        unanswered.tell_of(&endpoint, &self.streams.express.dialer().metrics);
        let failure = failure(unanswered, &exchange, endpoint);
        Some(under.fail(failure, exchange.chosen.route.clone()))
    }
}

fn failure(
    unanswered: Unanswered<()>,
    exchange: &Exchange,
    endpoint: Arc<BalancedEndpoint>,
) -> Failure {
    let backend = &exchange.chosen.backend;
    let mut history = History::new(Vec::new());
    match history.learn(unanswered, backend, endpoint) {
        Err(failure) => failure,
        Ok(()) => history.into_failure(None, backend),
    }
}
