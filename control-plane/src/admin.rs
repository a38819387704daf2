//! The service `heddle.admin.v1`: what the control plane knows, for its owner. Where it is served is in
//! `admin/listen.rs`, what it says of certificates in `admin/identity.rs`, of one call in `admin/explain.rs`, of
//! routes in `admin/routes.rs`.

mod explain;
pub(crate) mod identity;
pub mod listen;
mod routes;

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_model::identity::PodUid;
use heddle_model::resource::ResourceKey;
use heddle_proto::admin as wire;
use heddle_proto::admin::admin_server::Admin;
use heddle_proto::discovery;
use heddle_tls::authority::description;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status};

use crate::admin::explain::Proxied;
use crate::admin::routes::progress::Progress;
use crate::identity::custodian::{self, Asked, Authorities, View};
use crate::identity::holdings::Holdings;
use crate::metrics::Metrics;
use crate::push::held::{Answer, Held};
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
    /// How its keeping and its rotation are.
    pub identity: watch::Receiver<View>,
    /// Asks for a rotation.
    pub rotations: mpsc::Sender<custodian::Request>,
    /// What proxies go by.
    pub holdings: Holdings,
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
        let proxies = all.map(|(uid, record)| self.proxy(uid, record, Some(&snapshot))).collect();
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

    fn proxy(&self, uid: &PodUid, record: &Record, snapshot: Option<&Snapshot>) -> wire::Proxy {
        let ledger = record.ledger.lock();
        let counts = ledger.counts();
        let pod = snapshot.and_then(|snapshot| snapshot.contents.pods.get(uid));
        let reference = pod.map(|pod| &pod.reference);
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
        let pending = ledger.held().filter(|(_, held)| held.answer == Answer::Pending).count();
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
            pending_updates: u32::try_from(pending).unwrap_or(u32::MAX),
            identity: identity::held(self.holdings.of(uid), &self.authorities.current()),
        }
    }

    /// What a proxy was sent; `None`: it is not connected here.
    fn proxy_config(&self, uid: &PodUid) -> Option<wire::ProxyConfig> {
        let all = self.proxies.all().into_iter();
        let (_, record) =
            all.into_iter().find(|(known, record)| known == uid && record.connected)?;
        let ledger = record.ledger.lock();
        let resources = ledger.held().map(|(key, held)| held_resource(key, held));
        Some(wire::ProxyConfig { resources: resources.collect() })
    }

    /// What was asked for is kept, or is not.
    async fn ask_custodian(&self, asked: Asked) -> Result<(), Status> {
        let (answer, answered) = oneshot::channel();
        let gone = || Status::unavailable("the control plane is about to end");
        let sent = self.rotations.send(custodian::Request { asked, answer });
        sent.await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(|error| identity::not_rotated(&error))
    }

    /// Everything that a call depends on; `None`: nothing was read so far.
    fn call_facts(&self, request: &wire::ExplainRequest) -> Option<wire::CallFacts> {
        let snapshot = self.snapshots.borrow().clone()?;
        let records = self.proxies.all().into_iter().collect();
        let known = Known { service: self, snapshot: &snapshot, records };
        let issuer = identity::issuer(&self.authorities.current());
        Some(wire::CallFacts { issuer, ..explain::facts(&snapshot, &known, request) })
    }

    /// The routes; `None`: nothing was read so far.
    fn routes(&self, namespace: &str) -> Option<wire::Routes> {
        let snapshot = self.snapshots.borrow().clone()?;
        let board = Board::of(&self.proxies, &snapshot);
        let progress = Progress::of_connected(&self.proxies, &snapshot);
        let conditions = |status: &ObjectStatus| object(status, &board).conditions;
        Some(routes::routes(&snapshot, &progress, namespace, &conditions))
    }

    fn authority(&self) -> wire::Authority {
        let authority = self.authorities.current();
        wire::Authority {
            trust_domain: authority.trust_domain().to_string(),
            certificates_issued: self.metrics.certificates_issued.get(),
            certificates_refused: self.metrics.certificates_refused(),
            anchor_not_after: authority
                .bundle()
                .anchors_der()
                .filter_map(description::describe)
                .map(|certificate| identity::seconds(certificate.not_after))
                .min()
                .unwrap_or_default(),
            issuer_not_after: identity::seconds(authority.issuer_not_after()),
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

    async fn get_identity(
        &self,
        _request: Request<wire::GetIdentityRequest>,
    ) -> Result<Response<wire::IdentityStatus>, Status> {
        Ok(Response::new(self.identity_status()))
    }

    async fn rotate_identity(
        &self,
        request: Request<wire::RotateIdentityRequest>,
    ) -> Result<Response<wire::RotateIdentityResponse>, Status> {
        let kind = identity::kind(request.get_ref().kind())?;
        self.ask_custodian(Asked::Rotate(kind)).await?;
        Ok(Response::new(wire::RotateIdentityResponse {}))
    }

    async fn leave_out(
        &self,
        request: Request<wire::LeaveOutRequest>,
    ) -> Result<Response<wire::LeaveOutResponse>, Status> {
        let pods = self.meshed_pods(&request.get_ref().pods)?;
        self.ask_custodian(Asked::LeaveOut(pods)).await?;
        Ok(Response::new(wire::LeaveOutResponse {}))
    }

    async fn get_proxy_config(
        &self,
        request: Request<wire::GetProxyConfigRequest>,
    ) -> Result<Response<wire::ProxyConfig>, Status> {
        let uid = request.get_ref().pod_uid.parse::<PodUid>();
        let uid = uid.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let config = self.proxy_config(&uid).ok_or_else(|| {
            Status::not_found(format!(
                "the proxy of pod {uid} is not connected to this control plane"
            ))
        })?;
        Ok(Response::new(config))
    }

    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::CallFacts>, Status> {
        let facts = self.call_facts(request.get_ref());
        Ok(Response::new(facts.ok_or_else(|| Status::unavailable(NOTHING_READ))?))
    }

    async fn get_routes(
        &self,
        request: Request<wire::GetRoutesRequest>,
    ) -> Result<Response<wire::Routes>, Status> {
        let routes = self.routes(&request.get_ref().namespace);
        Ok(Response::new(routes.ok_or_else(|| Status::unavailable(NOTHING_READ))?))
    }
}

/// What the service knows of proxies, at one moment.
struct Known<'a> {
    service: &'a AdminService,
    snapshot: &'a Snapshot,
    records: BTreeMap<PodUid, Record>,
}

impl Proxied for Known<'_> {
    fn proxy(&self, uid: &PodUid) -> Option<wire::Proxy> {
        let record = self.records.get(uid)?;
        Some(self.service.proxy(uid, record, Some(self.snapshot)))
    }

    fn held(&self, uid: &PodUid, key: &ResourceKey) -> Option<(wire::HeldResource, u64)> {
        let record = self.records.get(uid).filter(|record| record.connected)?;
        let ledger = record.ledger.lock();
        let (key, held) = ledger.held().find(|(known, _)| *known == key)?;
        Some((held_resource(key, held), held.digest))
    }
}

fn held_resource(key: &ResourceKey, held: &Held) -> wire::HeldResource {
    use wire::held_resource::Answer as Said;
    let (answer, reason) = match &held.answer {
        Answer::Pending => (Said::Pending, String::new()),
        Answer::Acknowledged => (Said::Acknowledged, String::new()),
        Answer::Refused(refusal) => (Said::Refused, refusal.reason.clone()),
    };
    let content = held.content();
    let origins = content.map(|resource| resource.origins.iter().map(ToString::to_string));
    wire::HeldResource {
        resource: key.to_string(),
        version: held.version.0,
        answer: answer.into(),
        reason,
        origins: origins.into_iter().flatten().collect(),
        update: content.map(|resource| discovery::Update {
            key: Some(key.into()),
            version: held.version.0,
            digest: held.digest,
            resource: Some(resource.to_wire()),
        }),
    }
}

const NOTHING_READ: &str = "the control plane has not read the configuration yet";

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
