//! The layer that limits the time of a whole request, retries and waits included.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};

use crate::balance::balancer::Balancer;
use crate::http::respond::ProxyError;
use crate::http::send::{Answer, Failure};
use crate::http::stack::routing::Routed;

pub(super) fn limit_time<S>(
    inner: S,
) -> impl Service<Routed, Response = Answer, Error = Failure, Future: Send> + Clone + Send + Sync
where
    S: Service<Routed, Response = Answer, Error = Failure, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    service_fn(move |routed: Routed| {
        let inner = inner.clone();
        let limit = routed.limit;
        let backend = Arc::clone(&routed.outgoing.backend);
        async move {
            match limit {
                None => inner.oneshot(routed).await,
                Some(limit) => within(limit, backend, inner.oneshot(routed)).await,
            }
        }
    })
}

/// The limit is for the response's body too.
async fn within(
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
