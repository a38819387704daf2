//! The shop's api: answers with its version and what the store has, which it asks on every request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::signals;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::failure::Failure;
use crate::shop::listen::{self, ListenAddress};
use crate::shop::store::StoreClient;
use crate::shop::{VERSION_HEADER, serve};

/// How long the store may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Stock<'a> {
    version: &'a str,
    items: u64,
}

#[derive(Serialize)]
struct Trouble {
    error: String,
}

/// Serves until SIGTERM. `store` is `name:port`.
pub async fn run(listen: ListenAddress, version: String, store: String) -> Result<(), Failure> {
    let header = HeaderValue::from_str(&version).map_err(|error| {
        Failure::new(
            format!("\"{version}\" cannot be sent as the header {VERSION_HEADER}"),
            "give a --version of plain letters and digits, such as v1",
        )
        .because(&error)
    })?;
    let terminated = signals::terminated();
    let listener = listen::bind(listen).await?;
    let api = Arc::new(Api { version, header, store: StoreClient::new(store) });
    serve::serve_until_terminated(listener, move |_| answer(Arc::clone(&api)), terminated).await
}

struct Api {
    version: String,
    header: HeaderValue,
    store: StoreClient,
}

async fn answer(api: Arc<Api>) -> Response<Full<Bytes>> {
    let mut response = match tokio::time::timeout(STORE_TIMEOUT, api.store.count()).await {
        Ok(Ok(items)) => serve::json(StatusCode::OK, &Stock { version: &api.version, items }),
        Ok(Err(error)) => {
            let error = format!("cannot ask the store: {error}");
            serve::json(StatusCode::BAD_GATEWAY, &Trouble { error })
        }
        Err(_) => {
            let error = format!("the store did not answer within {STORE_TIMEOUT:?}");
            serve::json(StatusCode::GATEWAY_TIMEOUT, &Trouble { error })
        }
    };
    response.headers_mut().insert(VERSION_HEADER, api.header.clone());
    response
}
