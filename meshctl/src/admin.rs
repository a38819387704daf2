//! Asks the control plane on its admin socket.

use std::path::Path;
use std::time::Duration;

use heddle_proto::admin::admin_client::AdminClient;
use heddle_proto::admin::{GetStatusRequest, Status};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::failure::Failure;

/// How long the control plane may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A large mesh's status, of tens of thousands of objects.
const STATUS_LIMIT_BYTES: usize = 64 << 20;

/// The status, as the control plane tells it.
pub async fn status(socket: &Path) -> Result<Status, Failure> {
    let unreachable = || {
        Failure::new(
            format!("cannot ask the control plane at {}", socket.display()),
            "check that it runs (`meshctl local status`) and that you are the user who started it",
        )
    };
    let channel = connect(socket).await.map_err(|error| unreachable().because(&error))?;
    let mut client = AdminClient::new(channel).max_decoding_message_size(STATUS_LIMIT_BYTES);
    let asked = client.get_status(GetStatusRequest {}).await;
    let answer = asked.map_err(|error| unreachable().because_of(error.message()))?;
    Ok(answer.into_inner())
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
