//! The service `heddle.peers.v1`: how far the proxies of this replica have come, for the replica that leads.
//! It asks with what is in `peers/others.rs`. What is counted is in `push/programmed.rs`.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::identity::TrustDomain;
use heddle_model::names::ObjectReference;
use heddle_proto::peers as wire;
use heddle_proto::peers::peers_server::{Peers, PeersServer};
use heddle_tls::peer::PeerIdentity;
use tonic::{Request, Response, Status};

use crate::push::programmed::{Board, Elsewhere, Gathered, OfProxy, Progress, Share, Texts};
use crate::push::proxies::Proxies;
use crate::push::publisher::Snapshots;
use crate::server::Caller;
use crate::snapshot::Snapshot;
use crate::source::Revision;
use crate::source::kubernetes::kind::{self, Definition};

pub mod others;

/// The service.
#[derive(Clone, Debug)]
pub struct PeersService {
    /// What was decided.
    pub snapshots: Snapshots,
    /// How far proxies have come.
    pub proxies: Proxies,
    /// In which the control plane has its name.
    pub trust_domain: TrustDomain,
}

impl PeersService {
    /// The service, ready to be served.
    pub fn server(self) -> PeersServer<Self> {
        PeersServer::new(self)
    }
}

#[tonic::async_trait]
impl Peers for PeersService {
    async fn get_progress(
        &self,
        request: Request<wire::GetProgressRequest>,
    ) -> Result<Response<wire::Progress>, Status> {
        let caller = request.extensions().get::<Caller>();
        let peer = caller.and_then(|caller| caller.peer.as_ref());
        let own = PeerIdentity::control_plane(&self.trust_domain).ok();
        if peer.is_none() || peer != own.as_ref() {
            return Err(Status::permission_denied("this is for the control plane alone"));
        }
        let snapshot = self.snapshots.borrow().clone();
        let progress = snapshot
            .map(|snapshot| to_wire(Gathered::of(&self.proxies, &snapshot), &revisions(&snapshot)));
        Ok(Response::new(progress.unwrap_or_default()))
    }
}

/// Which states of objects a replica knows; progress is told of these alone.
pub type Revisions = BTreeMap<ObjectReference, Revision>;

/// The states of those objects of a snapshot whose status is written.
pub fn revisions(snapshot: &Snapshot) -> Revisions {
    let is_custom = |kind: &str| {
        kind::find(kind).is_some_and(|kind| matches!(kind.definition, Definition::Custom(_)))
    };
    let objects = snapshot.contents.objects.iter();
    let pushed = objects.filter(|status| status.pushed && is_custom(&status.reference.kind));
    let known = pushed
        .filter_map(|status| Some((status.reference.clone(), status.place.revision()?.clone())));
    known.collect()
}

fn to_wire(gathered: Gathered, revisions: &Revisions) -> wire::Progress {
    let Gathered { connected, board, away } = gathered;
    let object = |reference: &ObjectReference| {
        revisions.get(reference).map(|revision| object_to_wire(reference, revision))
    };
    let objects = board.0.into_iter().filter_map(|(reference, progress)| {
        let Progress { proxies, done, refusals, elsewhere, away: _, waits } = progress;
        Some(wire::ObjectProgress {
            object: Some(object(&reference)?),
            proxies: number(proxies),
            done: number(done),
            refusals: Some(texts_to_wire(&refusals)),
            waits: Some(texts_to_wire(&waits)),
            refused_elsewhere: number(elsewhere.count()),
            refusing_namespaces: elsewhere.namespaces().iter().cloned().collect(),
        })
    });
    let away = away.into_iter().map(|share| {
        let objects = share.objects.into_iter().filter_map(|(reference, of_proxy)| {
            let OfProxy { done, refusal, wait } = of_proxy;
            Some(wire::AwayObject {
                object: Some(object(&reference)?),
                done,
                refusal: refusal.unwrap_or_default(),
                wait: wait.unwrap_or_default(),
            })
        });
        wire::AwayProxy {
            pod_uid: share.uid.to_string(),
            name: share.name,
            objects: objects.collect(),
            namespace: share.namespace.unwrap_or_default(),
        }
    });
    wire::Progress {
        connected: connected.iter().map(ToString::to_string).collect(),
        objects: objects.collect(),
        away: away.collect(),
    }
}

/// What another replica says, as far as it can be held against what this one knows: who acts on another state
/// of an object does not act on the newest.
fn from_wire(progress: wire::Progress, revisions: &Revisions) -> Gathered {
    let connected = progress.connected.iter().filter_map(|uid| uid.parse().ok());
    let connected: BTreeSet<_> = connected.collect();
    let mut board = Board::default();
    for one in progress.objects {
        let Some((reference, same)) = known(one.object, revisions) else { continue };
        let proxies = usize::try_from(one.proxies).unwrap_or(usize::MAX);
        let done = usize::try_from(one.done).unwrap_or(usize::MAX);
        let progress = match same {
            true => Progress {
                proxies,
                done,
                refusals: texts(one.refusals),
                elsewhere: Elsewhere::new(
                    usize::try_from(one.refused_elsewhere).unwrap_or(usize::MAX),
                    one.refusing_namespaces,
                ),
                waits: texts(one.waits),
                away: Texts::default(),
            },
            false => Progress { proxies, ..Progress::default() },
        };
        board.0.insert(reference, progress);
    }
    let away = progress.away.into_iter().filter_map(|share| {
        let objects = share.objects.into_iter().filter_map(|one| {
            let (reference, same) = known(one.object, revisions)?;
            let text = |text: String| Some(text).filter(|text| same && !text.is_empty());
            let (refusal, wait) = (text(one.refusal), text(one.wait));
            Some((reference, OfProxy { done: one.done && same, refusal, wait }))
        });
        Some(Share {
            uid: share.pod_uid.parse().ok()?,
            name: share.name,
            namespace: Some(share.namespace).filter(|namespace| !namespace.is_empty()),
            objects: objects.collect(),
        })
    });
    Gathered { connected, board, away: away.collect() }
}

/// An object that this replica knows, too, and whether in the same state.
fn known(object: Option<wire::Object>, revisions: &Revisions) -> Option<(ObjectReference, bool)> {
    let wire::Object { kind, namespace, name, uid, generation } = object?;
    let reference = ObjectReference { kind, namespace, name };
    let revision = revisions.get(&reference)?;
    let same = revision.uid == uid && revision.generation.unwrap_or_default() == generation;
    Some((reference, same))
}

fn object_to_wire(reference: &ObjectReference, revision: &Revision) -> wire::Object {
    wire::Object {
        kind: reference.kind.clone(),
        namespace: reference.namespace.clone(),
        name: reference.name.clone(),
        uid: revision.uid.clone(),
        generation: revision.generation.unwrap_or_default(),
    }
}

fn texts_to_wire(texts: &Texts) -> wire::Texts {
    wire::Texts { first: texts.first().to_vec(), count: number(texts.count()) }
}

fn texts(texts: Option<wire::Texts>) -> Texts {
    let wire::Texts { first, count } = texts.unwrap_or_default();
    Texts::new(first, usize::try_from(count).unwrap_or(usize::MAX))
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> ObjectReference {
        ObjectReference { kind: "HTTPRoute".into(), namespace: "shop".into(), name: "a".into() }
    }

    fn revisions(generation: i64) -> Revisions {
        let revision = Revision {
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            uid: "u".to_owned(),
            generation: Some(generation),
        };
        BTreeMap::from([(reference(), revision)])
    }

    fn gathered() -> Gathered {
        let share = |uid: &str, done: bool, refusal: Option<&str>| Share {
            uid: uid.parse().unwrap(),
            name: format!("shop/{uid}"),
            namespace: Some(if uid == "d" { "web" } else { "shop" }.to_owned()),
            objects: BTreeMap::from([(
                reference(),
                OfProxy { done, refusal: refusal.map(str::to_owned), wait: None },
            )]),
        };
        let mut found = Gathered::default();
        let refused = Some("refused it");
        for (uid, done, refusal) in
            [("a", true, None), ("b", false, refused), ("d", false, refused)]
        {
            found.connected.insert(uid.parse().unwrap());
            let link = crate::push::programmed::Link::Connected;
            found.board.add(share(uid, done, refusal), link);
        }
        found.away = vec![share("c", false, None)];
        found
    }

    #[test]
    fn what_a_replica_tells_is_what_another_reads() {
        let told = to_wire(gathered(), &revisions(2));
        assert_eq!(from_wire(told, &revisions(2)), gathered());
    }

    #[test]
    fn progress_with_another_state_of_an_object_is_none() {
        let told = to_wire(gathered(), &revisions(1));
        let read = from_wire(told.clone(), &revisions(2));
        let condition = Gathered::together(vec![read]).condition(&reference());
        assert_eq!(condition.message, "0 of 4 proxies; not connected: shop/c");
        let unknown = from_wire(told, &Revisions::new());
        assert!(unknown.board.0.is_empty());
    }
}
