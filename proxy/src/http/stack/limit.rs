//! Limits the time of a whole request, retries and waits included.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::balancer::Balancer;
use crate::http::respond::ProxyError;
use crate::http::send::{Answer, Failure};

/// The limit is for the response's body too.
pub(super) async fn within(
    limit: Duration,
    backend: Arc<Balancer>,
    answering: impl Future<Output = Result<Answer, Failure>>,
) -> Result<Answer, Failure> {
    let deadline = Instant::now() + limit;
    match tokio::time::timeout_at(deadline, answering).await {
        Ok(answered) => answered.map(|answer| Answer {
            response: answer.response.map(|body| body.until(deadline)),
            ..answer
        }),
        Err(_elapsed) => {
            let error = ProxyError::RequestTimeout { limit };
            Err(Failure { backend: Some(backend), ..error.into() })
        }
    }
}
