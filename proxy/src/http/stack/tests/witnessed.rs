//! What those are told who want to know of single requests.

use heddle_model::route::{HttpRule, Retry};
use http::HeaderMap;
use parking_lot::Mutex;

use super::breaking::{silent_server, until};
use super::recorder::{Recorder, backend, rule};
use super::*;
use crate::http::call_record::{CallRecord, Notes, TraceIds};
use crate::http::witness::{Asking, Interest, Witness};

/// Keeps what it is told, of the paths that it wants to know of.
#[derive(Debug)]
struct Listener {
    interest: Interest,
    prefix: &'static str,
    told: Mutex<Vec<Told>>,
}

#[derive(Clone, Debug)]
struct Told {
    path: String,
    authority: String,
    status: u16,
    error: &'static str,
    backend: String,
    attempts: u32,
    is_answered: bool,
    bytes: (u64, u64),
    is_whole: bool,
    headers: (Option<HeaderMap>, Option<HeaderMap>),
    trace: Option<TraceIds>,
    has_endpoint: bool,
}

const TRACE: TraceIds = TraceIds { trace: [1; 16], span: [2; 8], parent: None, is_sampled: true };

impl Listener {
    fn new(interest: Interest, prefix: &'static str) -> Arc<Self> {
        Arc::new(Self { interest, prefix, told: Mutex::default() })
    }

    async fn told(&self, count: usize) -> Vec<Told> {
        until("all is told", || self.told.lock().len() >= count).await;
        self.told.lock().clone()
    }
}

impl Witness for Listener {
    fn wants(&self, request: &mut Request<Body>, asked: &Asking<'_>) -> Interest {
        assert_eq!((asked.direction, asked.service), (Direction::Outbound, "default/api:80"));
        if !request.uri().path().starts_with(self.prefix) {
            return Interest::Nothing;
        }
        request.extensions_mut().insert(TRACE);
        self.interest
    }

    fn tell(&self, record: &CallRecord<'_>) {
        assert!(record.took >= record.took_to_head);
        assert!(record.answered_in.is_none_or(|answered| answered <= record.took_to_head));
        self.told.lock().push(Told {
            path: record.head.path.to_string(),
            authority: record.head.authority.to_string(),
            status: record.end.status,
            error: record.end.error,
            backend: record.end.backend.to_string(),
            attempts: record.attempts,
            is_answered: record.answered_in.is_some(),
            bytes: (record.request_bytes, record.response_bytes),
            is_whole: record.is_whole,
            headers: (record.head.headers.clone(), record.response_headers.cloned()),
            trace: record.head.trace,
            has_endpoint: record.end.endpoint.is_some(),
        });
    }
}

fn proxy(witnesses: &[Arc<Listener>], endpoints: Vec<heddle_model::endpoint::Endpoint>) -> Proxy {
    let retry = Some(Retry { codes: vec![503], attempts: 2, backoff: Duration::ZERO });
    let rule = rule(Vec::new(), vec![backend("api-v1", 1, Vec::new())]);
    let proxy = Proxy::routing(vec![HttpRule { retry, ..rule }], vec![("api-v1", endpoints)]);
    let all = witnesses.iter().map(|each| Arc::clone(each) as Arc<dyn Witness>).collect();
    let mut dialer = Arc::into_inner(proxy.dialer).unwrap();
    dialer.witnesses = Witnesses::new(all);
    Proxy { dialer: Arc::new(dialer), ..proxy }
}

#[tokio::test]
async fn whoever_wants_to_know_is_told_once_of_each_request_with_all_its_attempts() {
    let server = Recorder::new("server", &[503, 503, 200]).await;
    let (all, some) = (Listener::new(Interest::Call, "/"), Listener::new(Interest::Call, "/b"));
    let proxy = proxy(&[Arc::clone(&all), Arc::clone(&some)], server.endpoints());
    let answer = proxy.upload(Request::post("/a?secret"), "four").await;
    assert_eq!(answer.status, 200);
    proxy.ask(Request::get("/b/c")).await;
    let told = all.told(2).await;
    assert_eq!(told.len(), 2);
    let told = &told[0];
    assert_eq!((told.path.as_str(), told.authority.as_str()), ("/a", "api"), "no query");
    assert_eq!((told.status, told.error, told.attempts), (200, "", 3));
    assert_eq!((told.bytes, told.is_whole, told.is_answered), ((4, 6), true, true));
    assert_eq!((told.backend.as_str(), told.has_endpoint), ("default/api-v1:80", true));
    assert_eq!(told.trace, Some(TRACE));
    assert!(matches!(told.headers, (None, None)), "nobody wanted headers");
    let some = some.told(1).await;
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].path, "/b/c");
}

#[tokio::test]
async fn headers_are_kept_for_those_who_want_them() {
    let server = Recorder::new("server", &[200]).await;
    let all = Listener::new(Interest::Headers, "/");
    let proxy = proxy(&[Arc::clone(&all)], server.endpoints());
    let answer = proxy.ask(Request::get("/").header("x-a", "1")).await;
    let told = all.told(1).await.remove(0);
    assert_eq!(told.headers.0.unwrap()["x-a"], "1");
    assert_eq!(told.headers.1.unwrap(), answer.headers);
}

#[tokio::test]
async fn a_failure_an_answer_that_breaks_off_and_a_client_that_goes_are_told_as_such() {
    let all = Listener::new(Interest::Call, "/");
    let nobody = proxy(&[Arc::clone(&all)], Vec::new());
    assert_eq!(nobody.ask(Request::get("/nobody")).await.status, 503);
    let told = all.told(1).await.remove(0);
    assert_eq!((told.status, told.error, told.attempts), (503, "no_endpoint", 0));
    assert_eq!((told.is_answered, told.has_endpoint), (false, false));

    let all = Listener::new(Interest::Call, "/");
    let short = raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").await;
    let breaking = proxy(&[Arc::clone(&all)], vec![plain(short)]);
    let mut client = breaking.client().await;
    client.get("/short").await.map(|answer| answer.status).unwrap_err();
    let told = all.told(1).await.remove(0);
    assert_eq!((told.status, told.is_whole, told.bytes), (200, false, (0, 5)));

    let all = Listener::new(Interest::Call, "/");
    let silent = proxy(&[Arc::clone(&all)], vec![plain(silent_server().await)]);
    let mut stream = silent.connection(HttpVersion::Http1).await;
    stream.write_all(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let active = crate::metrics::ActiveLabels {
        direction: Direction::Outbound,
        service: "default/api:80".into(),
    };
    let gauge = silent.dialer.metrics.active.lease(&active);
    let is_active = || gauge.metric().get() > 0;
    until("it is under way", is_active).await;
    drop(stream);
    let told = all.told(1).await.remove(0);
    assert_eq!((told.status, told.error, told.is_whole), (499, "client_cancelled", false));
}

#[tokio::test]
async fn of_what_nobody_wants_nothing_is_kept() {
    let server = Recorder::new("server", &[200]).await;
    let none = Listener::new(Interest::Nothing, "/");
    let proxy = proxy(&[Arc::clone(&none)], server.endpoints());
    proxy.ask(Request::get("/")).await;
    assert!(none.told.lock().is_empty());
    let mut request = Request::new(Body::empty());
    let source =
        CallSource::new(watched(&proxy.dialer), Direction::Outbound, "default/api:80".into(), None);
    let _account = crate::http::account::Account::begin(&Arc::new(source), &mut request);
    assert!(request.extensions().get::<Notes>().is_none());
}
