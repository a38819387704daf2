//! The shop's frontend: for every request it asks the api, by name, and passes on the api's version.

use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::signals;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;

use crate::failure::Failure;
use crate::shop::listen::{self, ListenAddress};
use crate::shop::{VERSION_HEADER, of_trace, serve};

/// How long the api may take.
const API_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer taken from the api.
const API_BODY_LIMIT_BYTES: usize = 1024 * 1024;
/// How many idle connections to the api are kept.
const IDLE_CONNECTIONS: usize = 64;

type ApiClient = Client<HttpConnector, Full<Bytes>>;

#[derive(Serialize)]
struct Page {
    shop: &'static str,
    api: serde_json::Value,
}

#[derive(Serialize)]
struct Trouble {
    error: String,
}

/// Serves until SIGTERM.
pub async fn run(listen: ListenAddress, api: Uri) -> Result<(), Failure> {
    let terminated = signals::terminated();
    let listener = listen::bind(listen).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: ApiClient = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build(connector);
    let answer = move |request| answer(client.clone(), api.clone(), request);
    serve::serve_until_terminated(listener, answer, terminated).await
}

async fn answer(client: ApiClient, api: Uri, asked: Request<Incoming>) -> Response<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = api;
    *request.headers_mut() = of_trace(asked.headers());
    match tokio::time::timeout(API_TIMEOUT, ask_api(&client, request)).await {
        Ok(Ok(page)) => page,
        Ok(Err(error)) => serve::json(StatusCode::BAD_GATEWAY, &Trouble { error }),
        Err(_) => {
            let error = format!("the api did not answer within {API_TIMEOUT:?}");
            serve::json(StatusCode::GATEWAY_TIMEOUT, &Trouble { error })
        }
    }
}

async fn ask_api(
    client: &ApiClient,
    request: Request<Full<Bytes>>,
) -> Result<Response<Full<Bytes>>, String> {
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| format!("cannot ask the api: {}", chain(&error)))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, API_BODY_LIMIT_BYTES)
        .collect()
        .await
        .map_err(|error| format!("the api's answer broke off: {error}"))?
        .to_bytes();
    if head.status != StatusCode::OK {
        return Err(format!(
            "the api answered {}: {}",
            head.status,
            String::from_utf8_lossy(&body)
        ));
    }
    let api = serde_json::from_slice(&body)
        .map_err(|error| format!("the api's answer is no JSON: {error}"))?;
    let mut page = serve::json(StatusCode::OK, &Page { shop: "heddle", api });
    if let Some(version) = head.headers.get(VERSION_HEADER) {
        page.headers_mut().insert(VERSION_HEADER, version.clone());
    }
    Ok(page)
}

fn chain(error: &dyn std::error::Error) -> String {
    heddle_runtime::logging::Chain(error).to_string()
}
