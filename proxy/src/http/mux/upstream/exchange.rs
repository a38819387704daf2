//! What becomes of one request that was sent.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::balance::ejection::Sign;
use crate::http::grpc::{Code, GrpcStatus};
use crate::http::mux::outbox::News;
use crate::http::mux::response::Said;
use crate::http::mux::upstream::{Exchange, How, Lost, Upstream};
use crate::metrics::Metrics;

impl Exchange {
    pub(super) fn answered(&mut self, said: &Said<'_>, upstream: &Upstream) {
        let endpoint = self.in_flight.endpoint();
        if let Some(notes) = self.account.notes() {
            notes.answered_in(self.sent_at.elapsed());
        }
        endpoint.observe_latency(self.sent_at);
        if upstream.mesh.is_some() && said.is_of_dead_application() {
            endpoint.connection_failed(&upstream.metrics);
        } else if let Some(sign) = said.sign() {
            endpoint.observe(sign, &upstream.metrics);
        }
        self.status = said.status;
        self.left = if self.has_no_body(said) { Some(0) } else { said.length };
        self.account.answered();
        self.account.left(false);
        let known = if self.is_grpc {
            said.grpc_status().map(GrpcStatus::Ended)
        } else {
            Some(GrpcStatus::NotGrpc)
        };
        if let Some(status) = known {
            self.count(status);
        }
    }

    /// RFC 9110, section 6.4.1, whatever length it says.
    pub(super) fn has_no_body(&self, said: &Said<'_>) -> bool {
        self.is_head || matches!(said.status, 204 | 304)
    }

    pub(super) fn lacks_body(&self, said: &Said<'_>) -> bool {
        said.length.is_some_and(|length| length > 0) && !self.has_no_body(said)
    }

    /// It is known how it ended, if that was not known before.
    pub(super) fn count(&mut self, grpc_status: GrpcStatus) {
        let Some(under) = self.under.take() else { return };
        let from = (self.in_flight.endpoint(), &*self.chosen.backend);
        under.answered(from, self.chosen.route.as_ref(), (self.status, grpc_status));
    }

    pub(super) fn given_up(mut self) {
        if self.status != 0 {
            self.count(GrpcStatus::Ended(Code::Cancelled));
        }
    }

    /// It is somebody else's to answer, and to count.
    pub fn forget(mut self) {
        if let Some(under) = self.under.take() {
            under.forget();
        }
    }

    /// The answer broke off.
    pub(super) fn broken(mut self, reason: u32, is_news: bool, metrics: &Metrics) {
        metrics.response_broken.inc();
        if is_news {
            self.in_flight.endpoint().observe(Sign::BadConnection, metrics);
        }
        self.count(GrpcStatus::Broken);
        let (client, stream) = (Arc::clone(&self.client), self.stream);
        drop(self);
        client.forget(stream, Some(reason));
        client.tell(News::Ended(stream));
    }

    /// It has no answer. `news`: that it shares with others; it is news of its own if there is none.
    pub(super) fn lost(self, how: How, news: Option<&Arc<AtomicBool>>) {
        let (client, stream) = (Arc::clone(&self.client), self.stream);
        let mut lost = Lost::of_stream(self, how);
        if let Some(news) = news {
            lost.news = Arc::clone(news);
        }
        client.tell(News::Lost(stream, Box::new(lost)));
    }
}
