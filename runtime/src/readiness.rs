//! Whether a process may be sent work: a fixed set of named conditions, all of which must hold.

use std::sync::Arc;

use tokio::sync::watch;

/// The conditions of one process. Clones share them.
#[derive(Clone, Debug)]
pub struct Readiness {
    conditions: Arc<watch::Sender<Vec<(&'static str, bool)>>>,
}

impl Readiness {
    /// None of the conditions holds yet.
    pub fn new(conditions: &[&'static str]) -> Self {
        let unmet = conditions.iter().map(|name| (*name, false)).collect();
        Self { conditions: Arc::new(watch::Sender::new(unmet)) }
    }

    /// This condition holds from now on.
    pub fn set_ready(&self, condition: &'static str) {
        self.set(condition, true);
    }

    /// This condition does not hold any more, or a new one is not met yet.
    pub fn set_unready(&self, condition: &'static str) {
        self.set(condition, false);
    }

    /// The conditions that do not hold; empty when ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let conditions = self.conditions.borrow();
        conditions.iter().filter(|(_, met)| !met).map(|(name, _)| *name).collect()
    }

    /// Completes once every condition holds. Cancel safe.
    pub async fn wait(&self) {
        let mut changes = self.conditions.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = changes.wait_for(|conditions| conditions.iter().all(|(_, met)| *met)).await;
    }

    fn set(&self, condition: &'static str, met: bool) {
        self.conditions.send_if_modified(|conditions| {
            match conditions.iter_mut().find(|(name, _)| *name == condition) {
                Some((_, old)) if *old == met => return false,
                Some((_, old)) => *old = met,
                None => conditions.push((condition, met)),
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_ready_when_every_condition_holds() {
        let readiness = Readiness::new(&["identity", "listeners"]);
        assert_eq!(readiness.missing(), ["identity", "listeners"]);
        readiness.set_ready("identity");
        assert_eq!(readiness.missing(), ["listeners"]);
        readiness.set_ready("listeners");
        readiness.wait().await;
        readiness.set_unready("draining");
        assert_eq!(readiness.missing(), ["draining"]);
    }
}
