//! The service `heddle.telemetry.v1`: answers questions about the traffic, for people from all replicas together, and
//! for another replica from what this one was told.

use std::sync::Arc;

use heddle_model::identity::TrustDomain;
use heddle_proto::telemetry as wire;
use heddle_proto::telemetry::share_server::Share;
use heddle_proto::telemetry::telemetry_server::Telemetry;
use heddle_runtime::clock;
use heddle_tls::peer::PeerIdentity;
use tonic::{Request, Response, Status};

use crate::push::publisher::Snapshots;
use crate::server::Caller;
use crate::telemetry::answer;
use crate::telemetry::memory::Memory;
use crate::telemetry::population::{Pods, Population};
use crate::telemetry::query::{self, Counted, Key};
use crate::telemetry::replicas::Replicas;
use crate::telemetry::timeline::{self, Question};

/// Answers for all replicas. Clones share what is kept.
#[derive(Clone, Debug)]
pub struct TelemetryService {
    /// What this one was told.
    pub memory: Memory,
    /// Who there is to be asked.
    pub snapshots: Snapshots,
    /// The others; `None`: this one is alone.
    pub replicas: Option<Arc<Replicas>>,
}

#[tonic::async_trait]
impl Telemetry for TelemetryService {
    async fn query(
        &self,
        request: Request<wire::QueryRequest>,
    ) -> Result<Response<wire::QueryResponse>, Status> {
        let request = request.into_inner();
        let query = answer::query(&request).map_err(Status::invalid_argument)?;
        let snapshot = self.snapshots.borrow().clone();
        let mut counted = query::count(&self.memory, &query, clock::now()).await;
        let mut silent = Vec::new();
        if let Some((replicas, snapshot)) = self.replicas.as_ref().zip(snapshot.as_ref()) {
            let heard = replicas.ask(&request, snapshot).await;
            for share in heard.shares {
                counted.add(answer::from_wire(share));
            }
            silent = heard.silent;
        }
        let contents = snapshot.as_ref().map(|snapshot| snapshot.contents.as_ref());
        let mut response = match contents {
            Some(contents) => {
                let pods = Pods::of(contents);
                pods.add_silent(&mut counted.groups, contents, &query);
                populated(counted, |key| pods.of_group(key, contents, query.grouping))
            }
            None => answer::to_wire(counted),
        };
        response.silent_replicas = silent;
        Ok(Response::new(response))
    }

    async fn timeline(
        &self,
        request: Request<wire::TimelineRequest>,
    ) -> Result<Response<wire::TimelineResponse>, Status> {
        let request = request.into_inner();
        let question = Question::read(&request).map_err(Status::invalid_argument)?;
        let snapshot = self.snapshots.borrow().clone();
        let mut counted = timeline::count(&self.memory, &question, clock::now()).await;
        let mut silent = Vec::new();
        if let Some((replicas, snapshot)) = self.replicas.as_ref().zip(snapshot.as_ref()) {
            let heard = replicas.ask_timeline(&request, snapshot).await;
            heard.shares.into_iter().for_each(|share| counted.add(share));
            silent = heard.silent;
        }
        let mut response = counted.into_wire();
        response.silent_replicas = silent;
        Ok(Response::new(response))
    }
}

fn populated(
    counted: Counted,
    population: impl Fn(&Key) -> Option<Population>,
) -> wire::QueryResponse {
    let populations: Vec<_> = counted.groups.keys().map(population).collect();
    let mut response = answer::to_wire(counted);
    for (group, population) in response.groups.iter_mut().zip(populations) {
        group.population = population.as_ref().map(Population::to_wire);
    }
    response
}

/// Answers another replica.
#[derive(Clone, Debug)]
pub struct ShareService {
    /// What this one was told.
    pub memory: Memory,
    /// In which the control plane has its name.
    pub trust_domain: TrustDomain,
}

#[tonic::async_trait]
impl Share for ShareService {
    async fn query_share(
        &self,
        request: Request<wire::QueryRequest>,
    ) -> Result<Response<wire::QueryResponse>, Status> {
        self.admit(&request)?;
        let query = answer::query(request.get_ref()).map_err(Status::invalid_argument)?;
        let counted = query::count(&self.memory, &query, clock::now()).await;
        Ok(Response::new(answer::to_wire(counted)))
    }

    async fn timeline_share(
        &self,
        request: Request<wire::TimelineRequest>,
    ) -> Result<Response<wire::TimelineResponse>, Status> {
        self.admit(&request)?;
        let question = Question::read(request.get_ref()).map_err(Status::invalid_argument)?;
        let counted = timeline::count(&self.memory, &question, clock::now()).await;
        Ok(Response::new(counted.into_wire()))
    }
}

impl ShareService {
    /// Whoever is not the control plane itself is refused.
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let caller = request.extensions().get::<Caller>();
        let peer = caller.and_then(|caller| caller.peer.as_ref());
        let own = PeerIdentity::control_plane(&self.trust_domain).ok();
        if peer.is_none() || peer != own.as_ref() {
            return Err(Status::permission_denied("this is for the control plane alone"));
        }
        Ok(())
    }
}
