//! What is said on one TCP connection, step by step, from inside of a workload, and what was read.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::applications;
use crate::world::World;

/// The steps.
#[derive(Clone, Debug, Default)]
pub struct Conversation(Vec<Value>);

/// What was read.
#[derive(Clone, Debug, Deserialize)]
pub struct Heard {
    /// By each step that reads; how many bytes they were, if many.
    pub read: Vec<String>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Conversation {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a text, each character a byte.
    #[must_use]
    pub fn send(self, text: &str) -> Self {
        self.step(json!({ "send": text }))
    }

    /// Sends so many bytes.
    #[must_use]
    pub fn fill(self, bytes: usize) -> Self {
        self.step(json!({ "fill": bytes }))
    }

    /// Reads until this has come.
    #[must_use]
    pub fn until(self, text: &str) -> Self {
        self.step(json!({ "until": text }))
    }

    /// Reads so many bytes.
    #[must_use]
    pub fn read(self, bytes: usize) -> Self {
        self.step(json!({ "read": bytes }))
    }

    /// Nothing comes within so many seconds.
    #[must_use]
    pub fn quiet(self, seconds: f64) -> Self {
        self.step(json!({ "quiet": seconds }))
    }

    /// Ends its own direction.
    #[must_use]
    pub fn end(self) -> Self {
        self.step(json!({ "end": true }))
    }

    /// Reads to the end.
    #[must_use]
    pub fn rest(self) -> Self {
        self.step(json!({ "rest": true }))
    }

    /// Holds it; what was read, whatever went wrong.
    pub async fn hold(&self, world: &World, from: &str, to: (&str, u16)) -> Result<Heard> {
        let command = applications::converse(to.0, to.1);
        let steps = serde_json::to_vec(&self.0)?;
        let output = world.run_with_input(from, &command, steps).await?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
    }

    /// The same, and nothing may go wrong.
    pub async fn held(&self, world: &World, from: &str, to: (&str, u16)) -> Result<Vec<String>> {
        let heard = self.hold(world, from, to).await?;
        ensure!(heard.error.is_none(), "{heard:?}");
        Ok(heard.read)
    }

    fn step(mut self, step: Value) -> Self {
        self.0.push(step);
        self
    }
}
