//! One watch of one kind: lists, follows, lists again when the API server has forgotten where it was.
//!
//! What a list holds is told when the list is complete: halfway, what moved from one object to another, such as
//! an endpoint between slices, would be in neither. Only the very first list is told as it comes, because
//! nothing is published before everything was told.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::source::Event;
use crate::source::kubernetes::Unlisted;
use crate::source::kubernetes::catalog::{Catalog, Served};
use crate::source::kubernetes::kept::{Change, Item, Page};
use crate::source::kubernetes::kind::Kind;
use crate::source::kubernetes::known::{self, Known, Nameless, Seen};
use crate::source::kubernetes::requests::{Requests, WatchError};
use crate::source::kubernetes::trouble::Trouble;

/// A watch of one kind.
pub struct Watch {
    /// The API server.
    pub client: Client,
    /// What is watched.
    pub kind: &'static Kind,
    /// Where it is served.
    pub served: watch::Receiver<Catalog>,
    /// Where events go.
    pub events: mpsc::Sender<Vec<Event>>,
    /// To say that the kind may be gone.
    pub look_again: Arc<Notify>,
    /// How many parts of lists may be read at once, of all kinds.
    pub pages: Arc<Semaphore>,
    /// Whether it fails.
    pub failing: Gauge,
}

/// What a watch knows.
struct State {
    known: Known,
    /// Taken when the kind was listed for the first time.
    unlisted: Option<Unlisted>,
    /// What is to be told next.
    untold: Vec<Event>,
    /// From where to follow; `None`: a list comes first.
    position: Option<String>,
    trouble: Trouble,
}

/// Why a watch does not go on.
enum Stop {
    /// Nobody listens.
    Unheard,
    /// The API server does not tell.
    Failed(WatchError),
}

impl From<WatchError> for Stop {
    fn from(error: WatchError) -> Self {
        Self::Failed(error)
    }
}

impl From<Nameless> for Stop {
    fn from(error: Nameless) -> Self {
        Self::Failed(error.into())
    }
}

impl Watch {
    /// Watches until nobody listens, or there is no catalog any more.
    pub async fn run(mut self, unlisted: Unlisted) {
        let mut state = State {
            known: Known::default(),
            unlisted: Some(unlisted),
            untold: Vec::new(),
            position: None,
            trouble: Trouble::new(self.kind, self.failing.clone()),
        };
        loop {
            let Some(served) = self.decided().await else { return };
            match served {
                Served::At(version) => {
                    let mut moved = pin!(self.moved(served));
                    tokio::select! {
                        going_on = &mut moved => if !going_on { return },
                        // Nobody listens.
                        () = Box::pin(self.follow(version, &mut state)) => return,
                    }
                }
                Served::Absent => {
                    state.trouble.over();
                    state.untold.extend(state.known.clear());
                    if self.tell_list(&mut state).await.is_err() || !self.moved(served).await {
                        return;
                    }
                }
            }
        }
    }

    /// Where the kind is served, as soon as that is known; `None` if it will not be.
    async fn decided(&mut self) -> Option<Served> {
        let kind = self.kind;
        let known = self.served.wait_for(|catalog| catalog.of(kind).is_some()).await;
        known.ok().and_then(|catalog| catalog.of(kind))
    }

    /// Waits until the kind is served elsewhere; false if that will not be told any more.
    ///
    /// Cancel safe: yes.
    async fn moved(&self, from: Served) -> bool {
        let mut served = self.served.clone();
        served
            .wait_for(|catalog| catalog.of(self.kind).is_some_and(|now| now != from))
            .await
            .is_ok()
    }

    /// Lists and follows until nobody listens.
    ///
    /// Cancel safe: yes; what is known and was not told yet is told later.
    async fn follow(&self, api_version: &'static str, state: &mut State) {
        let requests = Requests {
            client: self.client.clone(),
            kind: self.kind,
            api_version,
            pages: Arc::clone(&self.pages),
        };
        state.position = None;
        loop {
            let step = match state.position.clone() {
                None => self.list(&requests, state).await,
                Some(position) => self.watch(&requests, &position, state).await,
            };
            match step {
                Ok(()) => {}
                Err(Stop::Unheard) => return,
                Err(Stop::Failed(error)) => {
                    let pause = self.consider(&error, state);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// How long to wait after a failure, and where to go on.
    fn consider(&self, error: &WatchError, state: &mut State) -> Duration {
        let code = error.status().map(|status| status.code);
        if code == Some(NOT_FOUND) {
            self.look_again.notify_one();
        }
        if code == Some(GONE) {
            state.position = None;
            return state.trouble.forgotten(error, Instant::now());
        }
        state.trouble.failed(error, Instant::now())
    }

    async fn list(&self, requests: &Requests, state: &mut State) -> Result<(), Stop> {
        state.known.begin();
        let mut from = String::new();
        let mut objects = PAGE_OBJECTS;
        loop {
            let token = Some(from.as_str()).filter(|token| !token.is_empty());
            let Page { items, next, version } = match requests.page(token, objects).await {
                Err(WatchError::TooLarge { .. }) if objects > 1 => {
                    objects = (objects / PAGE_SHRINK).max(1);
                    debug!(kind = self.kind.kind, objects, "objects are large; asking for fewer");
                    continue;
                }
                answered => answered?,
            };
            for item in items {
                self.take(item, requests.api_version, state)?;
            }
            if state.unlisted.is_some() {
                self.tell(state).await?;
            }
            if next.is_empty() {
                state.untold.extend(state.known.end());
                self.tell_list(state).await?;
                state.position = Some(version);
                return Ok(());
            }
            from = next;
            // A few large ones do not make the rest slow.
            objects = objects.saturating_mul(2).min(PAGE_OBJECTS);
        }
    }

    /// Follows one watch until it ends.
    async fn watch(&self, requests: &Requests, since: &str, state: &mut State) -> Result<(), Stop> {
        let mut changes = pin!(requests.watch(since).await?);
        // The API server may refuse what it just took.
        let mut next = match timeout(SHORTEST_WATCH, changes.next()).await {
            Ok(None) => return Err(WatchError::Short.into()),
            Ok(Some(Err(error))) => return Err(error.into()),
            Ok(Some(Ok(Change::Refused(status)))) => return Err(WatchError::Ended(status).into()),
            Ok(Some(Ok(change))) => Some(Ok(change)),
            Err(_) => None,
        };
        state.trouble.over();
        loop {
            if next.is_none() {
                next = changes.next().await;
            }
            let mut ended = next.is_none();
            let mut refused = None;
            let mut count = 0;
            while let Some(change) = next.take() {
                match change {
                    Ok(Change::Applied(item)) => {
                        state.advance(&item.version);
                        self.take(item, requests.api_version, state)?;
                    }
                    Ok(Change::Deleted(item)) => {
                        state.advance(&item.version);
                        let gone = known::reference(self.kind, &item.metadata).ok_or(Nameless)?;
                        state.untold.extend(state.known.remove(&gone));
                    }
                    Ok(Change::Bookmark(version)) => state.advance(&version),
                    Ok(Change::Refused(status)) => refused = Some(WatchError::Ended(status)),
                    // The next watch goes on from here; if there is none, that is told.
                    Err(error) => {
                        debug!(%error, kind = self.kind.kind, "watch broke off");
                        ended = true;
                    }
                }
                count += 1;
                if count < BATCH_LIMIT && refused.is_none() && !ended {
                    next = changes.next().now_or_never().flatten();
                }
            }
            self.tell(state).await?;
            match refused {
                Some(error) => return Err(error.into()),
                None if ended => return Ok(()),
                None => {}
            }
        }
    }

    fn take(&self, item: Item, api_version: &str, state: &mut State) -> Result<(), Nameless> {
        let seen = Seen::new(self.kind, api_version, item)?;
        state.untold.extend(state.known.take(seen));
        Ok(())
    }

    /// Tells what was not told yet.
    ///
    /// Cancel safe: yes.
    async fn tell(&self, state: &mut State) -> Result<(), Stop> {
        if state.untold.is_empty() {
            return Ok(());
        }
        let room = self.events.reserve().await.map_err(|_| Stop::Unheard)?;
        let events = std::mem::take(&mut state.untold);
        for event in &events {
            if let Event::Failed { failures, .. } = event {
                for failure in failures {
                    warn!(error = %failure, "object cannot be read; its last good state stays");
                }
            }
        }
        room.send(events);
        Ok(())
    }

    /// Tells what a list held, and if it was the last of the first ones, that everything was told.
    async fn tell_list(&self, state: &mut State) -> Result<(), Stop> {
        self.tell(state).await?;
        if let Some(unlisted) = state.unlisted.take() {
            debug!(kind = self.kind.kind, "kind listed");
            state.untold.extend(unlisted.one_less());
        }
        self.tell(state).await
    }
}

impl State {
    /// Where the next watch begins.
    fn advance(&mut self, version: &str) {
        if !version.is_empty() {
            self.position = Some(version.to_owned());
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("kind", &self.kind.kind).finish_non_exhaustive()
    }
}

/// How many objects of a list are asked for at once.
pub const PAGE_OBJECTS: u32 = 50;
/// What is divided by if they are too large together.
const PAGE_SHRINK: u32 = 4;
/// A watch that ends sooner is a failure: watches last for a minute.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);
/// Events that are told at once.
const BATCH_LIMIT: usize = 1000;
/// "Too old resource version."
const GONE: u16 = 410;
/// The kind is not served.
const NOT_FOUND: u16 = 404;
