//! Waits for the signals that end a process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Completes on SIGTERM or SIGINT, of which none is missed from this call on, awaited or not.
///
/// Fails when a handler cannot be installed.
pub fn terminated() -> impl Future<Output = io::Result<()>> + Send {
    let handlers = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    async move {
        let (mut terminate, mut interrupt) = handlers?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    }
}
