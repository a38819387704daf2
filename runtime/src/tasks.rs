//! Named tasks and their end: drain (take no new work, finish yours), then abort (dropped).

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::seldom::Seldom;

/// All tasks of one process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    drain: CancellationToken,
    abort: CancellationToken,
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every task ended by itself.
    Finished,
    /// The grace period ran out with this many tasks left, which were dropped.
    Aborted {
        /// How many.
        tasks: usize,
    },
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task until it returns or is aborted. `name` is `area.noun`; it is the field `task` of
    /// everything the task logs.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::info_span!("task", task = name);
        self.spawn_quiet(task.instrument(span));
    }

    /// Runs one of very many tasks of a kind, such as a connection or a stream, which says what it
    /// is in each line it logs: it makes no span, which would cost more than its beginning.
    pub fn spawn_quiet<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let aborted = Seldom::new(self.abort.clone().cancelled_owned());
        #[expect(clippy::let_underscore_future, reason = "the tracker holds it")]
        let _ = self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = aborted => {}
                () = task => {}
            }
        });
    }

    /// Cancelled when draining begins.
    pub fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when the grace period is over.
    pub fn abort(&self) -> &CancellationToken {
        &self.abort
    }

    /// How many tasks run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Tells every task to take no new work.
    pub fn begin_drain(&self) {
        self.drain.cancel();
    }

    /// Drains for at most `grace`, then drops what is left.
    pub async fn shutdown(&self, grace: Duration) -> DrainOutcome {
        self.begin_drain();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_ok() {
            return DrainOutcome::Finished;
        }
        let tasks = self.tracker.len();
        self.abort.cancel();
        self.tracker.wait().await;
        DrainOutcome::Aborted { tasks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_drains_finishes_and_one_that_does_not_is_dropped() {
        let tasks = Tasks::new();
        let drain = tasks.drain().clone();
        tasks.spawn("test.polite", async move { drain.cancelled().await });
        assert_eq!(tasks.shutdown(Duration::from_secs(1)).await, DrainOutcome::Finished);

        let tasks = Tasks::new();
        tasks.spawn("test.stubborn", std::future::pending());
        let outcome = tasks.shutdown(Duration::from_secs(1)).await;
        assert_eq!(outcome, DrainOutcome::Aborted { tasks: 1 });
        assert!(tasks.is_empty());
    }
}
