//! The service `heddle.admin.v1`: what the control plane knows, for its owner, on a Unix socket.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use heddle_model::identity::PodUid;
use heddle_proto::admin as wire;
use heddle_proto::admin::admin_server::{Admin, AdminServer};
use heddle_runtime::logging::Chain;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::identity::keeper::Authorities;
use crate::metrics::Metrics;
use crate::push::held::Answer;
use crate::push::programmed::{self, Board};
use crate::push::proxies::{Proxies, Record};
use crate::push::publisher::Snapshots;
use crate::snapshot::Snapshot;
use crate::status::{Condition, ObjectStatus};

/// The service.
#[derive(Clone, Debug)]
pub struct AdminService {
    /// What was read.
    pub snapshots: Snapshots,
    /// Who is connected.
    pub proxies: Proxies,
    /// Who signs.
    pub authorities: Authorities,
    /// Of the certificates it issues.
    pub leaf_lifetime: Duration,
    /// What was counted.
    pub metrics: Metrics,
}

impl AdminService {
    /// Everything, as of now.
    pub fn status(&self) -> wire::Status {
        let snapshot = self.snapshots.borrow().clone();
        let Some(snapshot) = snapshot else {
            return wire::Status { authority: Some(self.authority()), ..wire::Status::default() };
        };
        let board = Board::of(&self.proxies, &snapshot);
        let all = self.proxies.all();
        let all =
            all.iter().filter(|(uid, record)| programmed::name(uid, record, &snapshot).is_some());
        let proxies = all.map(|(uid, record)| proxy(uid, record, &snapshot)).collect();
        let objects = snapshot.contents.objects.iter();
        let failures = snapshot.contents.source_errors.iter();
        wire::Status {
            version: snapshot.version.0,
            objects: objects.map(|status| object(status, &board)).collect(),
            proxies,
            authority: Some(self.authority()),
            source_errors: failures
                .map(|failure| wire::SourceError {
                    file: failure.place.file().to_owned(),
                    message: failure.to_string(),
                })
                .collect(),
        }
    }

    fn authority(&self) -> wire::Authority {
        let authority = self.authorities.current();
        wire::Authority {
            trust_domain: authority.trust_domain().to_string(),
            certificates_issued: self.metrics.certificates_issued.get(),
            certificates_refused: self.metrics.certificates_refused.get(),
            anchor_not_after: authority
                .bundle()
                .anchors_der()
                .filter_map(|der| X509Certificate::from_der(der).ok())
                .map(|(_, certificate)| certificate.validity().not_after.timestamp())
                .min()
                .unwrap_or_default(),
            issuer_not_after: seconds(authority.issuer_not_after()),
            leaf_lifetime_seconds: self.leaf_lifetime.as_secs(),
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn get_status(
        &self,
        _request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::Status>, Status> {
        Ok(Response::new(self.status()))
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn proxy(uid: &PodUid, record: &Record, snapshot: &Snapshot) -> wire::Proxy {
    let ledger = record.ledger.lock();
    let counts = ledger.counts();
    let reference = snapshot.contents.pods.get(uid).map(|pod| &pod.reference);
    let refusals = ledger.held().filter_map(|(key, held)| match &held.answer {
        Answer::Refused(refusal) => Some(wire::Refusal {
            version: refusal.version.0,
            resource: key.to_string(),
            reason: refusal.reason.clone(),
            object: refusal.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            field: refusal.field.clone(),
        }),
        Answer::Pending | Answer::Acknowledged => None,
    });
    wire::Proxy {
        pod_uid: uid.to_string(),
        namespace: reference.map(|reference| reference.namespace.clone()).unwrap_or_default(),
        name: reference.map(|reference| reference.name.clone()).unwrap_or_default(),
        proxy_version: record.proxy_version.clone(),
        connected: record.connected,
        resources: u32::try_from(ledger.held().count()).unwrap_or(u32::MAX),
        acknowledged_updates: counts.acknowledged,
        refused_updates: counts.refused,
        acknowledged_version: counts.acknowledged_version.0,
        refusals: refusals.collect(),
    }
}

fn object(status: &ObjectStatus, board: &Board) -> wire::Object {
    let mut conditions: Vec<wire::Condition> = status.conditions.iter().map(condition).collect();
    conditions.extend(programmed::of_object(status, board).as_ref().map(condition));
    wire::Object {
        kind: status.reference.kind.clone(),
        namespace: status.reference.namespace.clone(),
        name: status.reference.name.clone(),
        file: status.place.file().to_owned(),
        conditions,
    }
}

fn condition(condition: &Condition) -> wire::Condition {
    wire::Condition {
        r#type: condition.kind.to_string(),
        status: condition.state.to_string(),
        reason: condition.reason.to_owned(),
        message: condition.message.clone(),
    }
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

/// Serves until the drain.
pub async fn serve(service: AdminService, listener: UnixListener, drain: CancellationToken) {
    let served = tonic::transport::Server::builder()
        .add_service(AdminServer::new(service))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), drain.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(error = %Chain(&error), "the admin socket is not served any more");
    }
}
