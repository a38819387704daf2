//! Asks the control plane on its admin socket.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use heddle_proto::admin::admin_client::AdminClient;
use heddle_proto::admin::{GetStatusRequest, Status};
use heddle_proto::tap::tap_client::TapClient;
use heddle_proto::telemetry::telemetry_client::TelemetryClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::failure::Failure;
use crate::kubernetes::control_plane;

/// How long the control plane may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A large mesh's status, of tens of thousands of objects.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;

/// One exchange of a tap, with all its headers.
const EVENT_LIMIT_BYTES: usize = 1 << 20;

/// A service of the control plane's admin port.
pub trait AdminService: Clone + Send + 'static {
    /// Its client, which takes long answers.
    fn over(channel: Channel) -> Self;
}

impl AdminService for AdminClient<Channel> {
    fn over(channel: Channel) -> Self {
        Self::new(channel).max_decoding_message_size(ANSWER_LIMIT_BYTES)
    }
}

impl AdminService for TelemetryClient<Channel> {
    fn over(channel: Channel) -> Self {
        Self::new(channel).max_decoding_message_size(ANSWER_LIMIT_BYTES)
    }
}

impl AdminService for TapClient<Channel> {
    fn over(channel: Channel) -> Self {
        Self::new(channel).max_decoding_message_size(EVENT_LIMIT_BYTES)
    }
}

/// The status, as the control plane tells it.
pub async fn status(socket: &Path) -> Result<Status, Failure> {
    ask(socket, get_status).await
}

/// The question that [`Status`] answers.
pub fn get_status(
    mut client: AdminClient<Channel>,
) -> BoxFuture<'static, Result<Status, tonic::Status>> {
    async move { Ok(client.get_status(GetStatusRequest {}).await?.into_inner()) }.boxed()
}

/// Asks the control plane at this socket.
pub async fn ask<C, T, F>(socket: &Path, ask: F) -> Result<T, Failure>
where
    C: AdminService,
    F: Fn(C) -> BoxFuture<'static, Result<T, tonic::Status>>,
{
    let channel = connect(socket).await.map_err(|error| because(unreachable(socket), &error))?;
    let asked = ask(C::over(channel)).await;
    asked.map_err(|status| control_plane::refused(unreachable(socket), &status))
}

/// Nobody answers at a socket.
pub fn unreachable(socket: &Path) -> Failure {
    Failure::new(
        format!("cannot ask the control plane at {}", socket.display()),
        "check that it runs (`meshctl local status`) and that you are the user who started it",
    )
}

/// `tonic` says "transport error" first, which tells nobody anything; what follows does.
fn because(failure: Failure, error: &tonic::transport::Error) -> Failure {
    let cause: &(dyn Error + 'static) = error.source().unwrap_or(error);
    let causes = std::iter::successors(Some(cause), |&error| error.source());
    let nobody = causes.filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    });
    if nobody { failure.because_of("nothing listens there") } else { failure.because(cause) }
}

async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The name goes into a header only: the socket is the address.
    Endpoint::from_static("http://control-plane")
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT)
        .connect_with_connector(connector)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_control_plane_that_is_not_there_is_told_in_plain_words() {
        let place = tempfile::tempdir().unwrap();
        let absent = status(&place.path().join("admin.sock")).await.unwrap_err().to_string();
        assert!(absent.contains("\n  because  nothing listens there\n  try"), "{absent}");
        let left = place.path().join("left.sock");
        drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
        let left = status(&left).await.unwrap_err().to_string();
        assert!(left.contains("\n  because  nothing listens there\n  try"), "{left}");
        // Longer than the path of a Unix socket can be.
        let long = status(&place.path().join("x".repeat(200))).await.unwrap_err().to_string();
        assert!(long.contains("because  ") && !long.contains("transport error"), "{long}");
    }
}
