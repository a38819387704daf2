//! Where the admin service and the dashboard are served: a Unix socket of its owner's, a loopback address, or both.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;

use heddle_proto::admin::admin_server::AdminServer;
use heddle_proto::tap::tap_server::TapServer;
use heddle_proto::telemetry::telemetry_server::TelemetryServer;
use heddle_runtime::logging::Chain;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::admin::AdminService;
use crate::dashboard::Dashboard;
use crate::tap::service::TapService;
use crate::telemetry::service::TelemetryService;

/// What is answered there.
#[derive(Clone, Debug)]
pub struct Services {
    /// What the control plane knows.
    pub admin: AdminService,
    /// What it remembers of the traffic.
    pub telemetry: TelemetryService,
    /// Single requests, for whoever may see them there.
    pub tap: TapService,
}

/// Makes the socket, for its owner alone. A socket that nobody serves any more is replaced.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
        }
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // In a directory that only we may enter until nobody else may open the socket.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let private = parent.unwrap_or(Path::new(".")).join(format!(".heddle-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&private)?;
    let made = (|| {
        let inside = private.join("s");
        let listener = UnixListener::bind(&inside)?;
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    })();
    let removed = fs::remove_dir(&private);
    made.and_then(|listener| removed.map(|()| listener))
}

/// Serves on a Unix socket until the drain.
pub async fn serve(services: Services, listener: UnixListener, drain: CancellationToken) {
    let served = tonic::transport::Server::builder()
        .accept_http1(true)
        .layer(Dashboard { services: services.clone() })
        .add_service(AdminServer::new(services.admin))
        .add_service(TelemetryServer::new(services.telemetry))
        .add_service(TapServer::new(services.tap))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), drain.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(error = %Chain(&error), "the admin socket is not served any more");
    }
}

/// Serves on a loopback address until the drain. On Kubernetes it is reached by a port-forward, and so by
/// whoever the API server allows one to this pod.
pub async fn serve_tcp(services: Services, listener: TcpListener, drain: CancellationToken) {
    let served = tonic::transport::Server::builder()
        .concurrency_limit_per_connection(REQUESTS_LIMIT)
        .accept_http1(true)
        .layer(Dashboard { services: services.clone() })
        .add_service(AdminServer::new(services.admin))
        .add_service(TelemetryServer::new(services.telemetry))
        .add_service(TapServer::new(services.tap))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), drain.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(error = %Chain(&error), "the admin address is not served any more");
    }
}

/// People ask one question at a time.
const REQUESTS_LIMIT: usize = 8;
