//! How the API server is asked: every request has a deadline, and every watch begins anew after a while, so
//! that a connection that died without a word is noticed.

use std::time::Duration;

use heddle_runtime::backoff::Backoff;
use kube::runtime::watcher;
use kube::{Client, Config};
use tokio::time::timeout;
use tracing::warn;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It takes too long.
    #[error("the API server does not answer within {} seconds", ANSWER_TIMEOUT.as_secs())]
    Late,
    /// It refuses, or cannot be reached.
    #[error(transparent)]
    Failed(Box<kube::Error>),
}

impl ApiError {
    /// The status that it answered with, if it did.
    pub(crate) fn code(&self) -> Option<u16> {
        let Self::Failed(error) = self else { return None };
        let kube::Error::Api(status) = error.as_ref() else { return None };
        Some(status.code)
    }

    /// Whether somebody else was faster: a conflict, or a JSON patch whose test did not hold.
    pub(crate) fn is_race(&self) -> bool {
        matches!(self.code(), Some(404 | 409 | 422))
    }
}

/// Waits for one answer, but not for long.
///
/// Cancel safe: yes; whether the request has its effect is then unknown.
pub(crate) async fn ask<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match timeout(ANSWER_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| ApiError::Failed(Box::new(error))),
        Err(_) => Err(ApiError::Late),
    }
}

/// Finds the API server: in a pod by its service account, else by KUBECONFIG. What takes too long, such as
/// a program that KUBECONFIG names for credentials, is tried again; what is wrong is not.
///
/// Cancel safe: yes.
pub(crate) async fn client() -> Result<Client, kube::Error> {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    loop {
        let made = async {
            let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
            config.connect_timeout = Some(CONNECT_TIMEOUT);
            Client::try_from(config)
        };
        match timeout(ANSWER_TIMEOUT, made).await {
            Ok(made) => return made,
            Err(_) => warn!("it takes too long to find the API server; it is tried again"),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// What every watch begins with.
pub(crate) fn watched() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_SIZE)
}

/// How long after a failure one waits at first, and at most.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(1);
/// See [`RETRY_FIRST`]. An API server that comes back is found within this.
pub(crate) const RETRY_LONGEST: Duration = Duration::from_secs(15);
/// An API server that works answers within a fraction of this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one watch lasts before the next begins where it ended.
const WATCH_SECONDS: u32 = 60;
/// How many objects come in one answer of the API server: whole, before what is not needed is dropped.
const PAGE_SIZE: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_says_nothing_is_not_waited_for() {
        let begun = tokio::time::Instant::now();
        let answer = ask(std::future::pending::<Result<(), kube::Error>>()).await;
        assert!(matches!(answer, Err(ApiError::Late)));
        assert_eq!(begun.elapsed(), ANSWER_TIMEOUT);
        assert!(matches!(ask(async { Ok(7) }).await, Ok(7)));
    }
}
