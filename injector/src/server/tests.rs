//! The webhook over real TLS, with the API server's part for namespaces played by a function.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use heddle_tls::https::identity::HttpsIdentity;
use heddle_tls::https::{self, HttpsWriter};
use http_body_util::{Empty, StreamBody};
use hyper::client::conn::{http1, http2};
use k8s_openapi::api::core::v1::Namespace;
use kube::client::Body as ApiBody;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::*;
use crate::settings;

const NAME: &str = "heddle-injector.heddle-system.svc";
const LIMIT: Duration = Duration::from_secs(5);

struct World {
    address: SocketAddr,
    identity: HttpsIdentity,
    tasks: Tasks,
    stop: CancellationToken,
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
    let webhook = Webhook::new(receiver, namespaces, Metrics::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, stop) = (Tasks::new(), CancellationToken::new());
    let serving = serve(listener, acceptor, webhook, tasks.clone(), stop.clone());
    tasks.spawn("webhook.server", serving);
    World { address, identity, tasks, stop, _writer: writer, _settings: sender }
}

fn now() -> SystemTime {
    heddle_runtime::clock::now()
}

impl World {
    async fn connect(&self) -> heddle_tls::stream::TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        https::connect(stream, self.identity.authority_pem(), NAME, LIMIT).await.unwrap()
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
    let told = vec![b' '; usize::try_from(BODY_LIMIT_BYTES).unwrap() + 1];
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
async fn http2_is_spoken_too_and_a_drain_ends_connections() {
    let world = world().await;
    let stream = TokioIo::new(world.connect().await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let ended = tokio::task::JoinSet::from_iter([connection]);
    let body = Full::new(Bytes::from(review("shop", json!({}))));
    let uri = format!("https://{NAME}/inject");
    let request = Request::builder().method("POST").uri(uri).body(body).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    world.stop.cancel();
    world.tasks.begin_drain();
    let ended = tokio::time::timeout(LIMIT, ended.join_all()).await;
    assert!(ended.is_ok(), "the connection does not end");
    assert!(TcpStream::connect(world.address).await.is_err(), "nobody listens any more");
}
