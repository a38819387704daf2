//! One watch of one kind: lists, follows, lists again when the API server has forgotten where it was.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use heddle_runtime::backoff::Backoff;
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, info, warn};

use crate::source::Event;
use crate::source::kubernetes::Unlisted;
use crate::source::kubernetes::catalog::{Catalog, Served};
use crate::source::kubernetes::kind::Kind;
use crate::source::kubernetes::known::{self, Known, Seen};

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
}

/// What a watch knows.
struct State {
    known: Known,
    /// Taken when the kind was listed for the first time.
    unlisted: Option<Unlisted>,
}

/// Why a stream of a watch ended.
enum Ended {
    /// The kind is served elsewhere, or not at all.
    Moved,
    /// The API server has forgotten where the stream was; a new one begins with a list.
    Forgotten,
    /// Nobody listens.
    Unheard,
}

impl Watch {
    /// Watches until nobody listens, or there is no catalog any more.
    pub async fn run(mut self, unlisted: Unlisted) {
        let mut state = State { known: Known::default(), unlisted: Some(unlisted) };
        loop {
            let Some(served) = self.decided().await else { return };
            let going_on = match served {
                Served::At(version) => match self.follow(version, &mut state).await {
                    Ended::Moved | Ended::Forgotten => true,
                    Ended::Unheard => false,
                },
                Served::Absent => {
                    let events = state.known.clear();
                    self.tell(events, &mut state, Listing::Complete).await
                        && self.moved(served).await
                }
            };
            if !going_on {
                return;
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

    async fn follow(&self, version: &'static str, state: &mut State) -> Ended {
        let api = Api::all_with(self.client.clone(), &self.kind.resource(version));
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let config = match self.kind.labels {
            "" => config,
            labels => config.labels(labels),
        };
        let mut stream = pin!(watcher(api, config));
        let mut moved = pin!(self.moved(Served::At(version)));
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut failing = false;
        loop {
            let next = tokio::select! {
                going_on = &mut moved => {
                    return if going_on { Ended::Moved } else { Ended::Unheard };
                }
                next = stream.next() => next,
            };
            match next {
                Some(Ok(first)) => {
                    if std::mem::take(&mut failing) {
                        info!(kind = self.kind.kind, "watch goes on");
                    }
                    backoff.reset();
                    if !self.take(version, first, (stream.as_mut(), state)).await {
                        return Ended::Unheard;
                    }
                }
                Some(Err(error)) => {
                    self.complain(&error, std::mem::replace(&mut failing, true));
                    if let ControlFlow::Break(ended) = self.consider(&error) {
                        return ended;
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                // The stream has no end.
                None => return Ended::Forgotten,
            }
        }
    }

    /// Takes an event in, with those that have come already; false if nobody listens. An error that comes
    /// after them will come again, when the stream is asked next.
    async fn take<S>(
        &self,
        version: &str,
        first: watcher::Event<DynamicObject>,
        (mut stream, state): (std::pin::Pin<&mut S>, &mut State),
    ) -> bool
    where
        S: Stream<Item = watcher::Result<watcher::Event<DynamicObject>>>,
    {
        let mut events = Vec::new();
        let mut listing = Listing::UnderWay;
        let mut next = Some(first);
        let mut count = 0;
        while let Some(event) = next.take() {
            if matches!(event, watcher::Event::InitDone) {
                listing = Listing::Complete;
            }
            events.extend(self.events_of(version, event, &mut state.known));
            count += 1;
            if count < BATCH_LIMIT && matches!(listing, Listing::UnderWay) {
                match stream.next().now_or_never().flatten() {
                    Some(Ok(event)) => next = Some(event),
                    Some(Err(error)) => debug!(%error, kind = self.kind.kind, "watch failed"),
                    None => {}
                }
            }
        }
        self.tell(events, state, listing).await
    }

    fn events_of(
        &self,
        version: &str,
        event: watcher::Event<DynamicObject>,
        known: &mut Known,
    ) -> Vec<Event> {
        match event {
            watcher::Event::Init => {
                known.begin();
                Vec::new()
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                known.take(Seen::new(self.kind, version, object))
            }
            watcher::Event::InitDone => known.end(),
            watcher::Event::Delete(object) => {
                known.remove(&known::reference(self.kind, &object.metadata))
            }
        }
    }

    /// False if nobody listens.
    async fn tell(&self, mut events: Vec<Event>, state: &mut State, listing: Listing) -> bool {
        for event in &events {
            if let Event::Failed { failures, .. } = event {
                for failure in failures {
                    warn!(error = %failure, "object cannot be read; its last good state stays");
                }
            }
        }
        if matches!(listing, Listing::Complete)
            && let Some(unlisted) = state.unlisted.take()
        {
            // What was listed is told before that everything was.
            if !events.is_empty() && self.events.send(std::mem::take(&mut events)).await.is_err() {
                return false;
            }
            debug!(kind = self.kind.kind, "kind listed");
            events.extend(unlisted.one_less());
        }
        events.is_empty() || self.events.send(events).await.is_ok()
    }

    fn complain(&self, error: &watcher::Error, again: bool) {
        let kind = self.kind.kind;
        if again {
            debug!(%error, kind, "watch failed again");
        } else {
            warn!(%error, kind, "watch failed; what is known stays, and it is tried again");
        }
    }

    fn consider(&self, error: &watcher::Error) -> ControlFlow<Ended> {
        let (watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause)) = error
        else {
            return ControlFlow::Continue(());
        };
        let kube::Error::Api(status) = cause else { return ControlFlow::Continue(()) };
        if status.code == GONE {
            return ControlFlow::Break(Ended::Forgotten);
        }
        if status.is_not_found() {
            self.look_again.notify_one();
        }
        ControlFlow::Continue(())
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("kind", &self.kind.kind).finish_non_exhaustive()
    }
}

/// How far a list has come.
#[derive(Clone, Copy)]
enum Listing {
    UnderWay,
    Complete,
}

/// How long one watch lasts before the next begins where it ended: a connection that died without a word
/// is noticed within this and a few seconds.
const WATCH_SECONDS: u32 = 60;
/// After a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// An API server that comes back is found within this.
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Events that are told at once.
const BATCH_LIMIT: usize = 1000;
/// "Too old resource version."
const GONE: u16 = 410;
