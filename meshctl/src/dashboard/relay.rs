//! Carries a browser's requests to the control plane: to its socket on this machine, or by the API server's port-forward.
//! Only what asks is carried, and of its head what the control plane goes by. To a question for single requests it adds
//! what shows who asks, which no browser is told: whoever has the key is this user.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::tasks::Tasks;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::accept::accept;
use crate::dashboard::key::{Admission, Keys};
use crate::failure::Failure;
use crate::tap::arguments::Account;
use crate::tap::source::authorization;
use crate::target::Target;

/// Where requests go, and whose.
#[derive(Clone, Debug)]
pub struct Relay {
    target: Arc<Target>,
    keys: Arc<Keys>,
    /// In a cluster, whose right to tap counts; `None`: the usual one.
    account: Option<Arc<Account>>,
    taps: Arc<Semaphore>,
}

type Body = BoxBody<Bytes, hyper::Error>;
type Upstream = SendRequest<Empty<Bytes>>;

impl Relay {
    /// To a mesh, for whoever has a key; taps are asked for as this account.
    pub fn new(target: Target, keys: Keys, account: Option<Account>) -> Self {
        Self {
            target: Arc::new(target),
            keys: Arc::new(keys),
            account: account.map(Arc::new),
            taps: Arc::new(Semaphore::new(TAPS_LIMIT)),
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        upstream: &Mutex<Option<Upstream>>,
        tasks: &Tasks,
    ) -> Response<Body> {
        let (head, _) = request.into_parts();
        match self.keys.admit(&head) {
            Admission::Passed => {}
            Admission::Entered { cookie } => return entered(&cookie),
            Admission::Unknown => return said(StatusCode::FORBIDDEN, NO_KEY),
            Admission::Changing => return said(StatusCode::METHOD_NOT_ALLOWED, ONLY_GET),
        }
        let mut forwarded = Request::new(Empty::new());
        *forwarded.method_mut() = head.method;
        // As an address of its own server: the Host stays as the browser said it.
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let Ok(target) = target.parse() else {
            return said(StatusCode::BAD_REQUEST, "the address is none");
        };
        *forwarded.uri_mut() = target;
        for name in FORWARDED {
            for value in head.headers.get_all(&name) {
                forwarded.headers_mut().append(name.clone(), value.clone());
            }
        }
        let tap = match self.tap(&mut forwarded).await {
            Ok(tap) => tap,
            Err(response) => return *response,
        };
        let mut upstream = upstream.lock().await;
        match self.ask(forwarded, &mut upstream, tasks).await {
            // Its place is held until the browser has read it, or is gone.
            Ok(response) => response.map(|body| {
                body.map_frame(move |frame| {
                    let _held = &tap;
                    frame
                })
                .boxed()
            }),
            Err(failure) => {
                *upstream = None;
                said(StatusCode::BAD_GATEWAY, &failure.headline())
            }
        }
    }

    /// What a tap needs beside the question: a place, and in a cluster what shows who asks. Without it nothing is asked.
    async fn tap(
        &self,
        request: &mut Request<Empty<Bytes>>,
    ) -> Result<Option<OwnedSemaphorePermit>, Box<Response<Body>>> {
        if request.uri().path() != TAP_PATH {
            return Ok(None);
        }
        let place = Arc::clone(&self.taps).try_acquire_owned();
        let place = place.map_err(|_| said(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_TAPS))?;
        if let Target::Cluster(cluster) = &*self.target {
            let shown = timeout(PATIENCE, authorization(cluster, self.account.as_deref())).await;
            let late = |_| said(StatusCode::SERVICE_UNAVAILABLE, "the API server does not answer");
            let refused = |failure: Failure| said(StatusCode::FORBIDDEN, &failure.sentence());
            let shown = shown.map_err(late)?.map_err(refused)?;
            request.headers_mut().insert(header::AUTHORIZATION, shown);
        }
        Ok(Some(place))
    }

    async fn ask(
        &self,
        request: Request<Empty<Bytes>>,
        upstream: &mut Option<Upstream>,
        tasks: &Tasks,
    ) -> Result<Response<Incoming>, Failure> {
        let unanswered = || Failure::new("the control plane does not answer", REMEDY);
        let late = |_| unanswered().because_of("it takes too long");
        let open = match upstream.take() {
            Some(mut open) => open.ready().await.is_ok().then_some(open),
            None => None,
        };
        let mut sender = match open {
            Some(open) => open,
            None => timeout(PATIENCE, connect(&self.target, tasks)).await.map_err(late)??,
        };
        let answered = timeout(PATIENCE, sender.send_request(request)).await.map_err(late)?;
        let response = answered.map_err(|error| unanswered().because(&error))?;
        *upstream = Some(sender);
        Ok(response)
    }
}

/// Serves until the drain.
pub fn serve(relay: Relay, listener: TcpListener, tasks: &Tasks) {
    let names = ("dashboard.accept", "dashboard.connection");
    accept(listener, CONNECTIONS_LIMIT, names, tasks, move |stream, tasks| {
        serve_connection(relay.clone(), stream, tasks)
    });
}

async fn serve_connection(relay: Relay, stream: TcpStream, tasks: Tasks) {
    let upstream = Mutex::new(None);
    let service = service_fn(|request| {
        let answered = relay.answer(request, &upstream, &tasks);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // What a browser does wrong ends its own connection only.
        _ = connection => {}
        () = tasks.drain().cancelled() => {}
    }
}

/// Whether the control plane is there and has a dashboard, before anybody is told an address.
pub async fn check(target: &Target) -> Result<(), Failure> {
    let tasks = Tasks::new();
    let upgrade = || {
        Failure::new(
            "the control plane does not serve the dashboard",
            "bring it to meshctl's own version: `meshctl upgrade`, or start the local mesh anew",
        )
    };
    let asked = async {
        let mut sender = connect(target, &tasks).await?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = http::Uri::from_static("/api/v1/about");
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
        let answered = sender.send_request(request).await;
        answered.map_err(|error| upgrade().because(&error))
    };
    let late = |_| Failure::new("the control plane does not answer", REMEDY);
    let status = timeout(PATIENCE, asked).await.map_err(late)??.status();
    tasks.shutdown(Duration::ZERO).await;
    if status.is_success() {
        Ok(())
    } else {
        Err(upgrade().because_of(format!("it says {status}")))
    }
}

async fn connect(target: &Target, tasks: &Tasks) -> Result<Upstream, Failure> {
    let stream = target.open_admin_port().await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| {
        Failure::new("cannot speak HTTP with the control plane", REMEDY).because(&error)
    })?;
    let drain = tasks.drain().clone();
    tasks.spawn("dashboard.upstream", async move {
        tokio::select! {
            // Whoever asks next is told.
            _ = connection => {}
            () = drain.cancelled() => {}
        }
    });
    Ok(sender)
}

fn entered(cookie: &str) -> Response<Body> {
    let Ok(cookie) = HeaderValue::from_str(cookie) else {
        return said(StatusCode::INTERNAL_SERVER_ERROR, "the cookie cannot be sent");
    };
    let mut response = said(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    response
}

fn said(status: StatusCode, error: &str) -> Response<Body> {
    let text = serde_json::json!({ "error": error }).to_string();
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const NO_KEY: &str = "this dashboard is another user's, or its key is of an earlier run: open the address that \
                      `meshctl dashboard` printed";
const TOO_MANY_TAPS: &str =
    "this dashboard has as many taps open as it may: end one in another window";
const ONLY_GET: &str = "nothing is changed here: use GET";
const REMEDY: &str = "check that it runs: `meshctl status`";

/// What the control plane decides by, and nothing else: no cookie.
const FORWARDED: [HeaderName; 5] = [
    header::HOST,
    header::ORIGIN,
    header::ACCEPT,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
];

/// Where single requests are asked for.
const TAP_PATH: &str = "/api/v1/tap";
/// Each takes a connection as long as it runs. A browser has six to one address, and needs some to ask.
const TAPS_LIMIT: usize = 3;
/// A browser opens six.
const CONNECTIONS_LIMIT: usize = 64;
/// For the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a connection, and for an answer: the control plane asks its replicas for three seconds at most.
const PATIENCE: Duration = Duration::from_secs(8);
