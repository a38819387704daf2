//! The two requests of a watch: a part of a list, and what has changed since. Neither waits for ever, nor
//! takes more memory than it may. What is asked when is in `follow.rs`.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use futures_util::{Stream, StreamExt};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{DynamicObject, Request, Resource, Status};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::source::kubernetes::kept::{self, Change, Page};
use crate::source::kubernetes::kind::Kind;
use crate::source::kubernetes::known::Nameless;

/// Whom a watch asks, and for what.
#[derive(Clone)]
pub struct Requests {
    /// The API server.
    pub client: Client,
    /// What is asked for.
    pub kind: &'static Kind,
    /// Its group and version.
    pub api_version: &'static str,
    /// How many parts of lists may be read at once, of all kinds.
    pub pages: Arc<Semaphore>,
}

/// Why the API server did not tell.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It refuses, or cannot be reached.
    #[error("the API server does not answer as it should")]
    Client(#[from] kube::Error),
    /// It ended a watch with this.
    #[error("the API server ended the watch: {} ({})", .0.message, .0.code)]
    Ended(Box<Status>),
    /// It takes too long.
    #[error("the API server does not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    /// The answer broke off.
    #[error("the answer of the API server broke off")]
    Read(#[source] io::Error),
    /// It sent something else.
    #[error("the answer of the API server cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// It sent something else.
    #[error("the answer of the API server cannot be read")]
    Nameless(#[from] Nameless),
    /// So that a list could not be followed.
    #[error("the API server does not say which version a list is of")]
    NoVersion,
    /// A part of a list has too many bytes.
    #[error("{objects} objects have more than {PAGE_LIMIT_BYTES} bytes")]
    TooLarge {
        /// How many were asked for.
        objects: u32,
    },
    /// Watches that end as soon as they begin.
    #[error("the API server ended the watch at once")]
    Short,
}

impl WatchError {
    /// What the API server said, if it did.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Client(kube::Error::Api(status)) | Self::Ended(status) => Some(status),
            Self::Client(_)
            | Self::TimedOut
            | Self::Read(_)
            | Self::Unreadable(_)
            | Self::Nameless(_)
            | Self::NoVersion
            | Self::TooLarge { .. }
            | Self::Short => None,
        }
    }
}

impl Requests {
    /// No more than so many objects of a list, from where another part ended. What is listed must be asked
    /// for again in smaller parts if it is [`WatchError::TooLarge`].
    pub async fn page(&self, from: Option<&str>, objects: u32) -> Result<Page, WatchError> {
        let parameters = ListParams {
            limit: Some(objects),
            continue_token: from.map(str::to_owned),
            label_selector: self.labels(),
            ..ListParams::default()
        };
        let request = self.request().list(&parameters).map_err(kube::Error::BuildRequest)?;
        // Never closed; and without it there would still be an answer.
        let _permit = self.pages.acquire().await.ok();
        let reading = async {
            let answer = self.client.request_stream(request).await?;
            let mut text = Vec::new();
            let mut limited = pin!(answer.take(PAGE_LIMIT_BYTES.saturating_add(1)));
            limited.read_to_end(&mut text).await.map_err(WatchError::Read)?;
            Ok::<_, WatchError>(text)
        };
        let text = timeout(ANSWER_TIMEOUT, reading).await.map_err(|_| WatchError::TimedOut)??;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > PAGE_LIMIT_BYTES {
            return Err(WatchError::TooLarge { objects });
        }
        let page = kept::page(&text, self.kind.keep).map_err(WatchError::Unreadable)?;
        match page.version.is_empty() && page.next.is_empty() {
            true => Err(WatchError::NoVersion),
            false => Ok(page),
        }
    }

    /// What has changed since a version, and goes on to. It ends when the API server has had enough, or has been
    /// silent for too long.
    pub async fn watch(
        &self,
        since: &str,
    ) -> Result<impl Stream<Item = Result<Change, WatchError>> + use<>, WatchError> {
        let parameters = WatchParams {
            label_selector: self.labels(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request =
            self.request().watch(&parameters, since).map_err(kube::Error::BuildRequest)?;
        let asking = self.client.request_stream(request);
        let answer = timeout(ANSWER_TIMEOUT, asking).await.map_err(|_| WatchError::TimedOut)??;
        Ok(changes(answer, self.kind))
    }

    fn labels(&self) -> Option<String> {
        Some(self.kind.labels.to_owned()).filter(|labels| !labels.is_empty())
    }

    fn request(&self) -> Request {
        let resource = self.kind.resource(self.api_version);
        Request::new(DynamicObject::url_path(&resource, None))
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").field("kind", &self.kind.kind).finish_non_exhaustive()
    }
}

/// Lines are as long as objects, which etcd bounds.
fn changes(
    answer: impl AsyncBufRead,
    kind: &'static Kind,
) -> impl Stream<Item = Result<Change, WatchError>> {
    let lines = Box::pin(answer).lines();
    futures_util::stream::unfold(lines, async move |mut lines| {
        // Of a connection that died without a word nothing comes any more.
        let line = timeout(SILENCE_LIMIT, lines.next()).await.ok().flatten()?;
        let change = line
            .map_err(WatchError::Read)
            .and_then(|line| kept::change(&line, kind.keep).map_err(WatchError::Unreadable));
        Some((change, lines))
    })
}

/// How long one watch lasts before the next begins where it ended: a connection that died without a word
/// is noticed within this and a few seconds.
const WATCH_SECONDS: u32 = 60;
/// The API server ends a watch sooner.
const SILENCE_LIMIT: Duration = Duration::from_secs(65);
/// How long the API server may take to answer: what a busy one puts into a queue comes within a minute or is
/// refused.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What a part of a list may have before anything of it is dropped.
pub const PAGE_LIMIT_BYTES: u64 = 16 << 20;
