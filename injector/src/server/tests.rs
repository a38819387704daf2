//! The webhook over real TLS, with the API server's part for namespaces played by a function.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use heddle_tls::https::identity::HttpsIdentity;
use heddle_tls::https::{self, HttpsWriter};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Body;
use hyper::client::conn::http1;
use k8s_openapi::api::core::v1::Namespace;
use kube::client::Body as ApiBody;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::*;
use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::server::body::BODY_LIMIT_BYTES;
use crate::settings::{self, MeshSettings};

const NAME: &str = "heddle-injector.heddle-system.svc";
const LIMIT: Duration = Duration::from_secs(5);

struct World {
    address: SocketAddr,
    identity: HttpsIdentity,
    tasks: Tasks,
    stop: CancellationToken,
    metrics: Metrics,
    _writer: HttpsWriter,
    _settings: watch::Sender<Arc<MeshSettings>>,
}

/// An API server that knows these namespaces, each with its word on injection.
fn api(namespaces: &[(&str, &str)]) -> Client {
    let known: HashMap<String, String> =
        namespaces.iter().map(|(name, wish)| ((*name).to_owned(), (*wish).to_owned())).collect();
    let service = tower::service_fn(move |request: Request<ApiBody>| {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let (status, object) = match known.get(&name) {
            Some(wish) => (
                200,
                json!({
                    "apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": name, "labels": {"heddle.dev/inject": wish}},
                }),
            ),
            None => (
                404,
                json!({
                    "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "not found",
                    "reason": "NotFound", "code": 404,
                }),
            ),
        };
        let body = Full::new(Bytes::from(object.to_string()));
        async move { Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap()) }
    });
    Client::new(service, "default")
}

async fn world() -> World {
    let identity = HttpsIdentity::create(&[NAME], Duration::from_secs(3600), now()).unwrap();
    let (writer, acceptor) = https::channel();
    writer.set(&identity).unwrap();
    let client = api(&[("shop", "enabled"), ("plain", "disabled")]);
    let (namespaces, _watch) = Namespaces::new(Api::<Namespace>::all(client));
    let (sender, receiver) = watch::channel(Arc::new(settings::tests::mesh()));
    let metrics = Metrics::default();
    let webhook = Webhook::new(receiver, namespaces, metrics.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, stop) = (Tasks::new(), CancellationToken::new());
    let serving = serve(listener, acceptor, webhook, tasks.clone(), stop.clone());
    tasks.spawn("webhook.server", serving);
    World { address, identity, tasks, stop, metrics, _writer: writer, _settings: sender }
}

fn now() -> SystemTime {
    heddle_runtime::clock::now()
}

impl World {
    async fn connect(&self) -> heddle_tls::stream::TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        https::connect(stream, self.identity.authority_pem(), NAME, LIMIT).await.unwrap()
    }

    /// A connection for several requests, and what ends with it.
    async fn open(&self) -> (Sender, tokio::task::JoinSet<hyper::Result<()>>) {
        let stream = TokioIo::new(self.connect().await);
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        (sender, tokio::task::JoinSet::from_iter([connection]))
    }

    async fn send<B>(&self, request: Request<B>) -> (StatusCode, String)
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let stream = TokioIo::new(self.connect().await);
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        self.tasks.spawn("test.connection", async move {
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn post(&self, body: &str) -> (StatusCode, String) {
        self.send(request("POST", "/inject", Full::new(Bytes::from(body.to_owned())))).await
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;

async fn ask(sender: &mut Sender, body: &str) -> StatusCode {
    let body = Full::new(Bytes::from(body.to_owned()));
    let response = sender.send_request(request("POST", "/inject", body)).await.unwrap();
    let status = response.status();
    response.into_body().collect().await.unwrap();
    status
}

fn request<B>(method: &str, path: &str, body: B) -> Request<B> {
    let builder = Request::builder().method(method).uri(path).header("host", NAME);
    builder.header("content-type", "application/json").body(body).unwrap()
}

fn review(namespace: &str, annotations: Value) -> String {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {},
            "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "annotations": annotations},
                "spec": {"containers": [{"name": "app"}]},
            },
        },
    })
    .to_string()
}

#[tokio::test]
async fn a_pod_is_injected_by_its_namespaces_word() {
    let world = world().await;
    for (namespace, patched) in [("shop", true), ("plain", false)] {
        let (status, body) = world.post(&review(namespace, json!({}))).await;
        assert_eq!(status, StatusCode::OK, "case: {namespace}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["response"]["allowed"], true, "case: {namespace}: {body}");
        assert_eq!(answer["response"]["patch"].is_string(), patched, "case: {namespace}: {body}");
    }
}

#[tokio::test]
async fn a_bad_annotation_refuses_the_pod_with_a_sentence() {
    let world = world().await;
    let review = review("shop", json!({"heddle.dev/skip-inbound-ports": "80,x"}));
    let (_, body) = world.post(&review).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("heddle.dev/skip-inbound-ports: \"80,x\" will not do"), "{message}");
}

#[tokio::test]
async fn a_namespace_that_cannot_be_read_leaves_it_to_the_failure_policy() {
    let world = world().await;
    let (status, body) = world.post(&review("nowhere", json!({}))).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("nowhere"), "{body}");
    // A pod that says it itself needs no namespace.
    let (status, _) = world.post(&review("nowhere", json!({"heddle.dev/inject": "enabled"}))).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_no_review_is_told_so() {
    let world = world().await;
    let empty = || Empty::<Bytes>::new();
    for (case, request, expected) in [
        ("another path", request("POST", "/mutate", empty()), StatusCode::NOT_FOUND),
        ("another method", request("GET", "/inject", empty()), StatusCode::METHOD_NOT_ALLOWED),
        ("nothing", request("POST", "/inject", empty()), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(world.send(request).await.0, expected, "case: {case}");
    }
    let (status, body) = world.post("{\"kind\": \"Pod\"}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("want an AdmissionReview of admission.k8s.io/v1"), "{body}");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_not_read() {
    let world = world().await;
    let told = vec![b' '; BODY_LIMIT_BYTES + 1];
    let (status, _) = world.send(request("POST", "/inject", Full::new(Bytes::from(told)))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    // One that does not say how long it is.
    let chunks = (0..80)
        .map(|_| Ok::<_, Infallible>(hyper::body::Frame::data(Bytes::from(vec![b' '; 1 << 16]))));
    let body = StreamBody::new(futures_util::stream::iter(chunks));
    let (status, _) = world.send(request("POST", "/inject", body)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_drain_ends_connections() {
    let world = world().await;
    let (mut sender, ended) = world.open().await;
    let review = review("shop", json!({}));
    assert_eq!(ask(&mut sender, &review).await, StatusCode::OK);
    assert_eq!(ask(&mut sender, &review).await, StatusCode::OK, "the connection is kept");
    world.stop.cancel();
    world.tasks.begin_drain();
    let ended = tokio::time::timeout(LIMIT, ended.join_all()).await;
    assert!(ended.is_ok(), "the connection does not end");
    assert!(TcpStream::connect(world.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_pod_of_too_much_is_refused_with_a_sentence_and_not_parsed() {
    let world = world().await;
    let lists = format!("[{}[]]", "[],".repeat(30_000));
    let review =
        review("shop", json!({})).replacen("\"spec\":{", &format!("\"spec\":{{\"x\":{lists},"), 1);
    let (status, body) = world.post(&review).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("want at most 50000"), "{message}");
}

#[tokio::test]
async fn whoever_gets_no_review_is_not_kept() {
    let world = world().await;
    let (mut sender, ended) = world.open().await;
    assert_eq!(ask(&mut sender, "{}").await, StatusCode::BAD_REQUEST);
    assert!(tokio::time::timeout(LIMIT, ended.join_all()).await.is_ok(), "it is still open");
}

/// The address that the flood comes from; reviews come from 127.0.0.1.
const FLOODER: [u8; 4] = [127, 0, 0, 7];

/// A connection from another address than ours.
async fn from_elsewhere(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((FLOODER, 0)))?;
    socket.connect(to).await
}

#[tokio::test]
async fn silent_and_slow_connections_of_one_address_keep_no_review_of_another_waiting() {
    let world = world().await;
    let mut held = Vec::new();
    for number in 0..120 {
        let Ok(stream) = from_elsewhere(world.address).await else { continue };
        if number % 3 == 0 {
            held.push(Held::Silent { _stream: stream });
            continue;
        }
        // Those that are beyond the address's share are turned away.
        let authority = world.identity.authority_pem();
        let Ok(mut stream) = https::connect(stream, authority, NAME, LIMIT).await else { continue };
        if number % 3 == 1 {
            let length = BODY_LIMIT_BYTES;
            let head =
                format!("POST /inject HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{{");
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await;
        }
        held.push(Held::Shaken { _stream: Box::new(stream) });
    }
    assert!(held.len() >= 40, "only {} are held", held.len());
    let begun = tokio::time::Instant::now();
    for _review in 0..20 {
        let (status, body) = world.post(&review("shop", json!({}))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    // Until then the flood was there; a machine that is slower shows nothing, and that is no fault.
    if begun.elapsed() >= FIRST_REQUEST_TIMEOUT {
        eprintln!("the reviews took {:?}: the flood was over before", begun.elapsed());
    }
    assert!(world.metrics.overloaded.get() > 0, "nobody was turned away");
    drop(held);
}

/// What the flood consists of.
enum Held {
    /// Without a handshake.
    Silent { _stream: TcpStream },
    /// With one, and nothing, or part of a request, after it.
    Shaken { _stream: Box<heddle_tls::stream::TlsStream<TcpStream>> },
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let world = world().await;
    for (case, begins) in [("nothing", ""), ("half a head", "POST /inject HTTP/1.1\r\nhos")] {
        let mut stream = world.connect().await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, begins.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
        let closed = tokio::time::timeout(4 * FIRST_REQUEST_TIMEOUT, reading).await;
        assert!(closed.is_ok(), "case: {case}: it is still open");
    }
    assert_eq!(world.metrics.connections_overdue.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_moves_with_what_comes() {
    let (deadline, mut due) = watch::channel(Instant::now() + Duration::from_secs(5));
    let begun = Instant::now();
    let moving = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        deadline.send_replace(Instant::now() + Duration::from_secs(10));
    };
    tokio::join!(overdue(&mut due), moving);
    assert_eq!(begun.elapsed(), Duration::from_secs(14));
}
