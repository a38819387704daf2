//! Tasks that a process cannot do without: when one ends that must not, the process is of no more use,
//! however alive it looks.

use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::tasks::Tasks;

/// Spawns tasks that must not end before the drain, be it that they return or that they panic.
#[derive(Debug)]
pub struct Vital<'a> {
    /// Where they run.
    pub tasks: &'a Tasks,
    /// Cancelled when one of them has ended.
    pub broken: &'a CancellationToken,
}

impl Vital<'_> {
    /// Runs a task, named as [`Tasks::spawn`] wants it.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.broken.clone().drop_guard();
        let drain = self.tasks.drain().clone();
        // Tasks that live as long as the process are few, and some are large.
        let task = Box::pin(task);
        self.tasks.spawn(name, async move {
            let _guard = guard;
            task.await;
            if !drain.is_cancelled() {
                error!("a task ended that must not");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_vital_task_is_noticed() {
        let tasks = Tasks::new();
        let [returned, panicked, alive] = [(); 3].map(|()| CancellationToken::new());
        Vital { tasks: &tasks, broken: &returned }.spawn("test.returns", async {});
        Vital { tasks: &tasks, broken: &panicked }.spawn("test.panics", async { panic!("a bug") });
        Vital { tasks: &tasks, broken: &alive }.spawn("test.lives", std::future::pending());
        returned.cancelled().await;
        panicked.cancelled().await;
        assert!(!alive.is_cancelled());
    }
}
