//! Waiting for a condition with a deadline. The pause between two looks is no condition: nothing is concluded from time
//! alone.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

/// Looks until `look` finds something, and returns that; fails with its last reason when it has not within this time.
pub async fn until<T, L>(what: &str, within: Duration, mut look: L) -> Result<T>
where
    L: AsyncFnMut() -> Result<T>,
{
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(reason) if Instant::now() >= deadline => {
                return Err(reason).with_context(|| format!("not within {within:?}: {what}"));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

const PAUSE: Duration = Duration::from_millis(100);
