//! The one writer of the index: applies events, gives the contents a version, publishes them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_model::resource::{ResourceKey, Version};
use heddle_runtime::clock;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::index::Index;
use crate::push::interests::Interests;
use crate::snapshot::{Contents, Snapshot};
use crate::source::Event;

/// What readers have: `None` until the source has told everything that existed at the start.
pub type Snapshots = watch::Receiver<Option<Snapshot>>;

/// Asks that versions exceed one that a proxy has.
pub type RaiseVersion = mpsc::Sender<Version>;

/// The writer.
#[derive(Debug)]
pub struct Publisher {
    index: Index,
    last: Version,
    contents: Arc<Contents>,
    snapshots: watch::Sender<Option<Snapshot>>,
    interests: Interests,
    raise: mpsc::Receiver<Version>,
    raising: Option<Raising>,
    /// When the last change was.
    published: Option<Instant>,
}

/// A version that is to be exceeded, and when at the latest.
#[derive(Clone, Copy, Debug)]
struct Raising {
    known: Version,
    at: Instant,
}

impl Publisher {
    /// Makes the writer and what readers need.
    pub fn new(index: Index) -> (Self, Snapshots, RaiseVersion) {
        let (snapshots, reader) = watch::channel(None);
        let (asker, raise) = mpsc::channel(RAISES_QUEUED);
        let contents = Arc::new(Contents::default());
        let last = Version::default();
        let (raising, interests) = (None, Interests::default());
        let publisher =
            Self { index, last, contents, snapshots, interests, raise, raising, published: None };
        (publisher, reader, asker)
    }

    /// Where those who want to be woken by what concerns them alone say so.
    pub fn interests(&self) -> Interests {
        self.interests.clone()
    }

    /// Publishes until the drain, or until the source ends.
    pub async fn run(mut self, mut events: mpsc::Receiver<Vec<Event>>, drain: CancellationToken) {
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                batch = events.recv() => {
                    let Some(batch) = batch else { return };
                    self.apply(batch);
                    self.apply_more(&mut events).await;
                    if self.index.is_synced() && self.index.has_news() {
                        self.contents = Arc::new(self.index.contents(&self.contents));
                        let changed = self.index.what_changed();
                        self.publish(changed.clone());
                        self.interests.wake(changed.as_deref());
                        self.published = Some(Instant::now());
                    }
                }
                Some(known) = self.raise.recv() => self.plan_to_exceed(known),
                () = due(self.raising) => self.raise(),
            }
        }
    }

    /// What a source found at one look is never published in part.
    fn apply(&mut self, batch: Vec<Event>) {
        for event in batch {
            self.index.apply(event);
        }
    }

    /// What comes together is published together: the first change for a while waits for no more than what is on its way
    /// already, so that one that is alone is not late, and a storm of them is not one publication each.
    async fn apply_more(&mut self, events: &mut mpsc::Receiver<Vec<Event>>) {
        let now = Instant::now();
        let latest = now + DEBOUNCE_LIMIT;
        let is_storm = self.published.is_some_and(|at| now.duration_since(at) < STORM);
        let pause = if is_storm || !self.index.is_synced() { DEBOUNCE } else { DEBOUNCE_FIRST };
        loop {
            let quiet = (Instant::now() + pause).min(latest);
            match timeout_at(quiet, events.recv()).await {
                Ok(Some(batch)) => {
                    // A source that has not told everything has no reason to be hurried.
                    self.apply(batch);
                    if self.index.is_synced() && Instant::now() >= latest {
                        return;
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Another replica may have told the proxy of a change that is still on its way to this one. To go on
    /// above it at once would take the change back for a moment.
    fn plan_to_exceed(&mut self, known: Version) {
        let now = version_at(clock::now());
        let age = Duration::from_micros(now.0.saturating_sub(known.0));
        let at = Instant::now() + REPLICA_LAG.saturating_sub(age);
        let former = self.raising.map_or(Version::default(), |raising| raising.known);
        if known > former {
            self.raising = Some(Raising { known, at });
        }
    }

    fn raise(&mut self) {
        let Some(Raising { known, .. }) = self.raising.take() else { return };
        // Every reader that is behind asks; the first one's answer is everybody's.
        if known < self.last || !self.index.is_synced() {
            return;
        }
        info!(
            config_version = self.last.0,
            known_version = known.0,
            "a proxy has a newer version than this control plane; going on above it"
        );
        self.last = known;
        self.publish(Some(Vec::new()));
        // Nothing is different, but for those who waited for a version.
        self.interests.wake(None);
    }

    /// `changed` is what is different from what was published last; `None`: anything.
    fn publish(&mut self, changed: Option<Vec<ResourceKey>>) {
        let first = self.last == Version::default();
        self.last = next_version(self.last, clock::now());
        let contents = Arc::clone(&self.contents);
        let snapshot = match &*self.snapshots.borrow() {
            Some(former) => former.next(self.last, contents, changed),
            None => Snapshot::first(self.last, contents),
        };
        if first {
            info!(config_version = self.last.0, "first configuration published");
        } else {
            debug!(config_version = self.last.0, "configuration published");
        }
        self.snapshots.send_replace(Some(snapshot));
    }
}

/// Cancel safe: yes.
async fn due(raising: Option<Raising>) {
    match raising {
        Some(Raising { at, .. }) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Microseconds since 1970, so that versions grow across restarts; always more than the last one, even
/// if the clock was set back.
fn next_version(last: Version, now: SystemTime) -> Version {
    version_at(now).max(Version(last.0.saturating_add(1)))
}

/// The version that the clock gives: microseconds since 1970.
pub fn version_at(now: SystemTime) -> Version {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Version(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// How long the source may be quiet before what it told is published,
const DEBOUNCE: Duration = Duration::from_millis(5);
/// and the first time after a pause: what several watches of one cause tell is as far apart as they are.
const DEBOUNCE_FIRST: Duration = Duration::from_millis(1);
/// A change within this time after one that was published is not alone.
const STORM: Duration = Duration::from_millis(100);
/// How long a change waits at most for others.
const DEBOUNCE_LIMIT: Duration = Duration::from_millis(50);
/// How far one replica may be behind another: events of the API server take a few milliseconds.
const REPLICA_LAG: Duration = Duration::from_secs(1);
/// More sessions than this that ask at once ask for the same.
const RAISES_QUEUED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Unit;

    #[test]
    fn versions_grow_when_the_clock_is_set_back() {
        let at = |micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        let first = next_version(Version::default(), at(1000));
        assert_eq!(first, Version(1000));
        assert_eq!(next_version(first, at(500)), Version(1001));
        assert_eq!(next_version(first, at(2000)), Version(2000));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_published_before_the_source_has_told_everything() {
        let index = Index::new("cluster.local".parse().unwrap());
        let (publisher, mut snapshots, _raise) = Publisher::new(index);
        let (events, receiver) = mpsc::channel(8);
        let tasks = heddle_runtime::tasks::Tasks::new();
        tasks.spawn("push.publisher", publisher.run(receiver, tasks.drain().clone()));
        let failed = Event::Failed { unit: Unit::File("a".into()), failures: Vec::new() };
        events.send(vec![failed.clone()]).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(1), snapshots.changed()).await.is_err());
        events.send(vec![Event::Synced]).await.unwrap();
        snapshots.changed().await.unwrap();
        let first = snapshots.borrow_and_update().as_ref().unwrap().version;
        events.send(vec![failed]).await.unwrap();
        snapshots.changed().await.unwrap();
        assert!(snapshots.borrow().as_ref().unwrap().version > first);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_after_a_pause_is_published_at_once_and_a_storm_is_not() {
        let index = Index::new("cluster.local".parse().unwrap());
        let (publisher, mut snapshots, _raise) = Publisher::new(index);
        let (events, receiver) = mpsc::channel(8);
        let tasks = heddle_runtime::tasks::Tasks::new();
        tasks.spawn("push.publisher", publisher.run(receiver, tasks.drain().clone()));
        events.send(vec![Event::Synced]).await.unwrap();
        snapshots.changed().await.unwrap();
        let failed = |name: &str| {
            vec![Event::Failed { unit: Unit::File(name.into()), failures: Vec::new() }]
        };
        tokio::time::sleep(STORM * 2).await;
        let began = Instant::now();
        events.send(failed("a")).await.unwrap();
        snapshots.changed().await.unwrap();
        assert!(began.elapsed() <= DEBOUNCE_FIRST * 3, "{:?}", began.elapsed());
        let (began, mut published) = (Instant::now(), 0);
        while began.elapsed() < DEBOUNCE_LIMIT * 4 {
            events.send(failed("a")).await.unwrap();
            tokio::time::sleep(DEBOUNCE / 2).await;
            published += u32::from(snapshots.has_changed().unwrap());
            snapshots.mark_unchanged();
        }
        assert!((2..=5).contains(&published), "{published}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_version_is_woken_though_nothing_is_different() {
        let index = Index::new("cluster.local".parse().unwrap());
        let (publisher, mut snapshots, raise) = Publisher::new(index);
        let mut interest = publisher.interests().open();
        let (events, receiver) = mpsc::channel(8);
        let tasks = heddle_runtime::tasks::Tasks::new();
        tasks.spawn("push.publisher", publisher.run(receiver, tasks.drain().clone()));
        events.send(vec![Event::Synced]).await.unwrap();
        interest.changed().await;
        let first = snapshots.borrow_and_update().as_ref().unwrap().version;
        interest.only(std::iter::empty());
        raise.send(Version(first.0 + (1 << 50))).await.unwrap();
        interest.changed().await;
        assert!(snapshots.borrow().as_ref().unwrap().version.0 > first.0 + (1 << 50));
    }

    #[tokio::test(start_paused = true)]
    async fn versions_go_on_above_what_a_proxy_has() {
        let index = Index::new("cluster.local".parse().unwrap());
        let (publisher, mut snapshots, raise) = Publisher::new(index);
        let (events, receiver) = mpsc::channel(8);
        let tasks = heddle_runtime::tasks::Tasks::new();
        tasks.spawn("push.publisher", publisher.run(receiver, tasks.drain().clone()));
        events.send(vec![Event::Synced]).await.unwrap();
        snapshots.changed().await.unwrap();
        let ahead = Version(snapshots.borrow_and_update().as_ref().unwrap().version.0 + (1 << 50));
        raise.send(ahead).await.unwrap();
        snapshots.changed().await.unwrap();
        assert!(snapshots.borrow_and_update().as_ref().unwrap().version > ahead);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_another_replica_told_is_waited_for() {
        let index = Index::new("cluster.local".parse().unwrap());
        let (publisher, mut snapshots, raise) = Publisher::new(index);
        let (events, receiver) = mpsc::channel(8);
        let tasks = heddle_runtime::tasks::Tasks::new();
        tasks.spawn("push.publisher", publisher.run(receiver, tasks.drain().clone()));
        events.send(vec![Event::Synced]).await.unwrap();
        snapshots.changed().await.unwrap();
        let first = snapshots.borrow_and_update().as_ref().unwrap().version;
        let fresh = version_at(clock::now()).max(Version(first.0 + 1));
        raise.send(fresh).await.unwrap();
        let soon = REPLICA_LAG / 2;
        assert!(tokio::time::timeout(soon, snapshots.changed()).await.is_err(), "it waits");
        snapshots.changed().await.unwrap();
        let raised = snapshots.borrow_and_update().as_ref().unwrap().version;
        assert!(raised > fresh);
        let old = Version(raised.0 + 1);
        raise.send(old).await.unwrap();
        // The change arrives meanwhile: nothing has to be raised.
        std::thread::sleep(Duration::from_millis(1));
        let failed = Event::Failed { unit: Unit::File("a".into()), failures: Vec::new() };
        events.send(vec![failed]).await.unwrap();
        snapshots.changed().await.unwrap();
        assert!(snapshots.borrow_and_update().as_ref().unwrap().version > old);
        assert!(tokio::time::timeout(REPLICA_LAG * 2, snapshots.changed()).await.is_err());
    }
}
