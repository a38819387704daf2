//! Around everything else: counts each request, measures it, traces it, and answers errors.

use std::sync::Arc;

use http::{Request, Response};
use tracing::{debug, trace};

use crate::balance::balancer::Balancer;
use crate::balance::endpoint::BalancedEndpoint;
use crate::connect::Dialer;
use crate::http::account::{Account, CallSource, Counted, Ended};
use crate::http::body::Body;
use crate::http::grpc::{self, Code, Ending, GrpcStatus};
use crate::http::respond::{Asked, Audience, Teller, client_closed, respond};
use crate::http::send::{Answer, Failure};
use crate::http::stack::{Reply, Undelivered};
use crate::metrics::{CLIENT_CANCELLED, Direction, Protection, RequestLabels, RequestOutcome};

/// What is the same for all requests of a connection.
#[derive(Clone)]
pub(super) struct Observer {
    pub(super) dialer: Arc<Dialer>,
    pub(super) direction: Direction,
    pub(super) service: Arc<str>,
    /// How an inbound connection is protected; outbound it depends on the endpoint.
    pub(super) inbound_tls: Option<Protection>,
    pub(super) source: Arc<CallSource>,
}

/// A request that is under way. One that nobody waits for any more is counted when this is dropped.
pub(super) struct Observed {
    observer: Arc<Observer>,
    account: Arc<Account>,
    asked: Asked,
    has_ended: bool,
}

impl Observer {
    /// The request's head is there.
    pub(super) fn begin(self: &Arc<Self>, request: &mut Request<Body>) -> Observed {
        let asked = Asked::new(request);
        trace!(direction = self.direction.as_str(), method = %request.method(), "request");
        let account = Account::begin(&self.source, request);
        request.body_mut().count(Counted::Request(Arc::clone(&account)));
        self.observe(account, asked)
    }

    /// The same of one that has begun.
    pub(super) fn observe(self: &Arc<Self>, account: Arc<Account>, asked: Asked) -> Observed {
        Observed { observer: Arc::clone(self), account, asked, has_ended: false }
    }
}

impl Observed {
    /// An endpoint has answered, and it is known how the call ended.
    pub(super) fn answered(
        mut self,
        from: (&Arc<BalancedEndpoint>, &Balancer),
        route: Option<&Arc<str>>,
        outcome: (u16, GrpcStatus),
    ) {
        self.has_ended = true;
        self.account.answered();
        self.observer.end(&self.account, from, route, outcome);
    }

    /// It goes another way, and is counted there.
    pub(super) fn forget(mut self) {
        self.has_ended = true;
    }

    /// The response.
    pub(super) fn end(mut self, outcome: Result<Reply, Undelivered>) -> Response<Body> {
        self.has_ended = true;
        let (observer, account, asked) = (&self.observer, &self.account, self.asked);
        account.answered();
        let mut response = match outcome {
            Ok(Reply::Backend(answer, route)) => observer.answered(answer, route, asked, account),
            Ok(Reply::Own(response, route)) => {
                let status = response.status().as_u16();
                let code = grpc::status_at_head(status, response.headers());
                let code = code.filter(|_code| asked.is_grpc());
                observer.count_without_endpoint(None, status, code.into());
                account.end(observer.ended(status, code.into(), route.as_ref()));
                response
            }
            Err(Undelivered { failure, after, route }) => {
                let response = observer.failed(&failure, route.as_ref(), asked, account);
                match after {
                    Some(after) => after.dress(response),
                    None => response,
                }
            }
        };
        account.answers(response.headers());
        response.body_mut().count(Counted::Response(Arc::clone(account)));
        response
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if !self.has_ended {
            let observer = &self.observer;
            observer.dialer.metrics.count_cancelled();
            let grpc = self.asked.is_grpc().then_some(Code::Cancelled).into();
            let status = client_closed().as_u16();
            observer.count_without_endpoint(None, status, grpc);
            let ended = observer.ended(status, grpc, None);
            self.account.end(Ended { error: CLIENT_CANCELLED, ..ended });
        }
    }
}

impl Observer {
    fn answered(
        self: &Arc<Self>,
        answer: Answer,
        route: Option<Arc<str>>,
        asked: Asked,
        account: &Arc<Account>,
    ) -> Response<Body> {
        let Answer { response, endpoint, backend } = answer;
        let status = response.status().as_u16();
        let at_head = match asked.is_grpc() {
            false => Some(GrpcStatus::NotGrpc),
            true => grpc::status_at_head(status, response.headers()).map(GrpcStatus::Ended),
        };
        if let Some(grpc_status) = at_head {
            self.end(account, (&endpoint, &backend), route.as_ref(), (status, grpc_status));
            return response;
        }
        let (observer, account) = (Arc::clone(self), Arc::clone(account));
        let ending = Ending::new(move |grpc_status| {
            let from = (&endpoint, &*backend);
            observer.end(&account, from, route.as_ref(), (status, grpc_status));
        });
        response.map(|body| body.told_by(ending))
    }

    /// An endpoint has answered, and it is known how the call ended.
    fn end(
        &self,
        account: &Account,
        (endpoint, backend): (&Arc<BalancedEndpoint>, &Balancer),
        route: Option<&Arc<str>>,
        (status, grpc_status): (u16, GrpcStatus),
    ) {
        self.count(endpoint, status, grpc_status);
        account.end(Ended {
            tls: self.protection(&endpoint.endpoint),
            backend: Some(backend.label()),
            endpoint: Some(endpoint),
            ..self.ended(status, grpc_status, route)
        });
    }

    /// Of a request that came to no endpoint.
    fn ended<'a>(
        &self,
        status: u16,
        grpc_status: GrpcStatus,
        route: Option<&'a Arc<str>>,
    ) -> Ended<'a> {
        let tls = self.inbound_tls.unwrap_or(Protection::Plaintext);
        Ended { status, grpc_status, tls, error: "", backend: None, route, endpoint: None }
    }

    fn failed(
        &self,
        failure: &Failure,
        route: Option<&Arc<str>>,
        asked: Asked,
        account: &Account,
    ) -> Response<Body> {
        let Failure { error, backend, endpoint, .. } = failure;
        self.dialer.metrics.count_error(error);
        let teller = Teller {
            source: self.direction,
            audience: match (self.direction, self.inbound_tls) {
                (Direction::Inbound, Some(Protection::Plaintext)) => Audience::Outsider,
                (Direction::Inbound | Direction::Outbound, _) => Audience::Mesh,
            },
            pod: endpoint.as_ref().map(|endpoint| endpoint.endpoint.pod.as_str()),
        };
        let response = respond(error, asked, teller);
        let status = response.status().as_u16();
        let grpc = asked.code(error).into();
        match endpoint {
            Some(endpoint) => self.count(endpoint, status, grpc),
            None => self.count_without_endpoint(backend.as_deref(), status, grpc),
        }
        let ended = self.ended(status, grpc, route);
        account.end(Ended {
            tls: endpoint.as_ref().map_or(ended.tls, |one| self.protection(&one.endpoint)),
            error: error.reason(),
            backend: backend.as_ref().map(|backend| backend.label()),
            endpoint: endpoint.as_ref(),
            ..ended
        });
        debug!(
            direction = self.direction.as_str(),
            service = %self.service,
            reason = error.reason(),
            error = %heddle_runtime::logging::Chain(error),
            "request failed"
        );
        response
    }

    fn count(&self, endpoint: &BalancedEndpoint, status: u16, grpc_status: GrpcStatus) {
        let tls = self.protection(&endpoint.endpoint);
        let outcome = RequestOutcome { status, grpc_status, tls };
        endpoint.count_request(&self.dialer.metrics, self.direction, &self.service, outcome);
    }

    /// The series is no endpoint's, so that none takes it away; there is one for each backend.
    fn count_without_endpoint(
        &self,
        backend: Option<&Balancer>,
        status: u16,
        grpc_status: GrpcStatus,
    ) {
        let labels = RequestLabels {
            direction: self.direction,
            service: Arc::clone(&self.service),
            backend: backend.map_or_else(|| "".into(), |backend| Arc::clone(backend.label())),
            backend_pod: "".into(),
            status,
            grpc_status,
            tls: self.inbound_tls.unwrap_or(Protection::Plaintext),
        };
        self.dialer.metrics.requests.family().get_or_create(&labels).inc();
    }

    fn protection(&self, endpoint: &heddle_model::endpoint::Endpoint) -> Protection {
        self.inbound_tls.unwrap_or_else(|| self.dialer.protection(endpoint))
    }
}
