//! One proxy that the harness starts itself.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use heddle_local::mesh::Mesh;
use tokio::task::JoinSet;

/// A proxy beside a pod's application. It ends when it is dropped.
pub struct Sidecar {
    /// The pod.
    pub pod: String,
    argv: Vec<String>,
    pid_file: PathBuf,
    /// At most one, whose result are the last words of the process.
    running: JoinSet<String>,
}

impl Sidecar {
    /// One that does not run yet.
    pub fn new(pod: String, argv: Vec<String>, pid_file: PathBuf) -> Self {
        Self { pod, argv, pid_file, running: JoinSet::new() }
    }

    /// Starts it.
    pub fn start(&mut self, mesh: Arc<Mesh>) {
        let pod = self.pod.clone();
        let pid_file = self.pid_file.to_string_lossy().into_owned();
        let mut words = vec!["sh".to_owned(), "-c".to_owned(), SCRIPT.to_owned(), pid_file];
        words.extend(self.argv.iter().cloned());
        self.running.spawn(async move {
            match mesh.run_privileged(&pod, &words, Vec::new()).await {
                Ok(output) => format!(
                    "it ended with {}: {}{}",
                    output.code,
                    output.stdout_text(),
                    output.stderr_text()
                ),
                Err(error) => format!("it was not started: {error}"),
            }
        });
    }

    /// Kills it.
    pub async fn stop(&mut self) {
        self.running.shutdown().await;
        // Nobody is to take the old number for the new one's.
        let _ = std::fs::remove_file(&self.pid_file);
    }

    /// Its process id inside of the world.
    pub fn pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(&self.pid_file)
            .with_context(|| format!("the proxy of {} has not begun", self.pod))?;
        Ok(text.trim().parse()?)
    }

    /// What it said at its end; empty while it runs.
    pub fn last_words(&mut self) -> String {
        self.running.try_join_next().and_then(Result::ok).unwrap_or_default()
    }
}

/// Becomes the program, and says as which process.
const SCRIPT: &str =
    r#"ulimit -n 16384 2>/dev/null || ulimit -n "$(ulimit -H -n)"; echo $$ >"$0"; exec "$@""#;
