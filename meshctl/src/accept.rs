//! Accepts connections, so many at once: for the dashboard's relay and the demo's shop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Serves each connection in a task, `limit` of them at once, until the tasks drain; more wait in the kernel's queue. The
/// tasks that accept and that serve have these names.
pub fn accept<F>(
    listener: TcpListener,
    limit: usize,
    names: (&'static str, &'static str),
    tasks: &Tasks,
    serve: impl Fn(TcpStream, Tasks) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let all = tasks.clone();
    let (accepting, serving) = names;
    tasks.spawn(accepting, async move {
        let room = Arc::new(Semaphore::new(limit));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = all.drain().cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = serve(stream, all.clone());
                    all.spawn(serving, async move {
                        connection.await;
                        drop(place);
                    });
                }
                // The connection is gone already, or files have run out: others may close soon.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
}

const PAUSE: Duration = Duration::from_millis(10);
