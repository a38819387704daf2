//! The endpoints of one backend at one moment, and which of them is picked. Randomness is passed in;
//! nothing waits, nothing is allocated.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_model::policy::{BackendPolicy, Balance, SessionPersistence};
use rand::Rng;
use tokio::time::Instant;

use crate::balance::endpoint::{BalancedEndpoint, Standing};
use crate::balance::hash::Ring;
use crate::balance::locality::{self, Place, suffices};
use crate::balance::p2c;
use crate::balance::round_robin::RoundRobin;
use crate::metrics::Metrics;

/// What is known of who needs an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct PickContext<'a> {
    /// Addresses that were tried: they are not picked.
    pub tried: &'a [SocketAddr],
    /// Addresses that others are preferred to.
    pub avoid: &'a [SocketAddr],
    /// What it is for.
    pub purpose: Purpose,
    /// What is hashed, if the policy says so.
    pub key: Option<u64>,
    /// The number of the endpoint that its session is with.
    pub session: Option<u64>,
    /// Where it is recorded how long it has waited for its turn.
    pub metrics: Option<&'a Metrics>,
}

/// What an endpoint is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request.
    Request,
    /// A connection that is carried as bytes. How fast answers come is not known of it.
    Connection,
}

impl<'a> PickContext<'a> {
    /// Its waits are recorded.
    pub fn measured(self, metrics: &'a Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }
}

impl PickContext<'static> {
    /// The first try, with nothing that ties it to one endpoint.
    pub fn first(purpose: Purpose) -> Self {
        Self { tried: &[], avoid: &[], purpose, key: None, session: None, metrics: None }
    }
}

/// The endpoints and how they are used.
#[derive(Debug)]
pub struct Set {
    /// All of them.
    pub endpoints: Vec<Arc<BalancedEndpoint>>,
    policy: Arc<BackendPolicy>,
    /// The closest first; the last holds all. Empty if there is none.
    tiers: Vec<Tier>,
    session: Option<Arc<SessionPersistence>>,
}

/// How one is picked.
struct Way<'a> {
    policy: &'a BackendPolicy,
    context: &'a PickContext<'a>,
    turns: &'a RoundRobin,
    now: Instant,
}

#[derive(Debug)]
struct Tier {
    members: Vec<Arc<BalancedEndpoint>>,
    /// Empty unless the policy needs it.
    ring: Ring,
}

impl Set {
    /// Seen from `own`.
    pub fn new(
        endpoints: Vec<Arc<BalancedEndpoint>>,
        policy: Arc<BackendPolicy>,
        own: &Place,
    ) -> Self {
        let shared = endpoints.iter().map(|balanced| &balanced.endpoint);
        let places: Vec<Place<&str>> =
            shared.map(|one| Place { zone: one.zone.as_str(), node: one.node.as_str() }).collect();
        let tiers = locality::tiers(&places, own, policy.locality.preference)
            .into_iter()
            .map(|indices| Tier::new(&endpoints, &indices, &policy.balance))
            .collect();
        let session = policy.session.clone().map(Arc::new);
        Self { endpoints, policy, tiers, session }
    }

    /// How requests of one client stay with one endpoint, where their route does not say.
    pub fn session(&self) -> Option<&Arc<SessionPersistence>> {
        self.session.as_ref()
    }

    /// How they are used.
    pub fn policy(&self) -> &Arc<BackendPolicy> {
        &self.policy
    }

    /// An endpoint other than those that were tried: the session's own; else a good one, close if
    /// there are enough; else one that others are preferred to. One that is ejected is better than
    /// none: refusing all would turn one failure into many.
    pub fn pick(
        &self,
        context: &PickContext<'_>,
        turns: &RoundRobin,
        random: &mut impl Rng,
    ) -> Option<&Arc<BalancedEndpoint>> {
        let now = Instant::now();
        let may_be = |endpoint: &BalancedEndpoint, worst: Standing| {
            let address = &endpoint.endpoint.address;
            endpoint.standing(now) <= worst
                && !context.tried.contains(address)
                && (worst > Standing::Good || !context.avoid.contains(address))
        };
        if let Some(number) = context.session {
            let is_it = |endpoint: &&Arc<BalancedEndpoint>| {
                endpoint.number() == number && may_be(endpoint, Standing::Avoided)
            };
            if let Some(found) = self.endpoints.iter().find(is_it) {
                return Some(found);
            }
        }
        let way = Way { policy: &self.policy, context, turns, now };
        let tiers = self.tiers.get(self.first_tier(now)..)?;
        [Standing::Good, Standing::Avoided, Standing::Ejected].into_iter().find_map(|worst| {
            tiers.iter().find_map(|tier| {
                let may_be = |index: usize| {
                    tier.members.get(index).is_some_and(|endpoint| may_be(endpoint, worst))
                };
                let index = tier.pick(&way, may_be, random)?;
                tier.members.get(index)
            })
        })
    }

    /// The closest with enough healthy endpoints. Usually all are, and need not be counted.
    fn first_tier(&self, now: Instant) -> usize {
        let is_troubled =
            self.endpoints.first().is_some_and(|endpoint| endpoint.backend().is_troubled(now));
        if !is_troubled {
            return 0;
        }
        let minimum = self.policy.locality.minimum_healthy_percent;
        let last = self.tiers.len().saturating_sub(1);
        self.tiers.iter().position(|tier| tier.suffices(now, minimum)).unwrap_or(last)
    }
}

impl Tier {
    fn new(endpoints: &[Arc<BalancedEndpoint>], indices: &[usize], balance: &Balance) -> Self {
        let members: Vec<Arc<BalancedEndpoint>> =
            indices.iter().filter_map(|index| endpoints.get(*index)).cloned().collect();
        let ring = match balance {
            Balance::ConsistentHash(_) => {
                Ring::new(&members.iter().map(|member| member.number()).collect::<Vec<u64>>())
            }
            Balance::PeakEwma { .. } | Balance::RoundRobin | Balance::Random => Ring::default(),
        };
        Self { members, ring }
    }

    fn suffices(&self, now: Instant, minimum_percent: u8) -> bool {
        let is_healthy = |member: &&Arc<BalancedEndpoint>| member.standing(now) == Standing::Good;
        let healthy = self.members.iter().filter(is_healthy).count();
        suffices(healthy, self.members.len(), minimum_percent)
    }

    fn pick(
        &self,
        way: &Way<'_>,
        may_be: impl Fn(usize) -> bool,
        random: &mut impl Rng,
    ) -> Option<usize> {
        let Way { policy, context, turns, now } = *way;
        let count = self.members.len();
        let weight = |index: usize| {
            self.members.get(index).map_or(1.0, |member| member.weight(now, policy.slow_start))
        };
        match (&policy.balance, context.key) {
            (Balance::PeakEwma { decay }, _) => {
                let cost = |index: usize| {
                    let member = self.members.get(index).filter(|_member| may_be(index))?;
                    Some(match context.purpose {
                        Purpose::Request => member.latency_cost(now, *decay),
                        Purpose::Connection => member.load_cost(),
                    })
                };
                p2c::pick(count, cost, weight, random)
            }
            (Balance::RoundRobin, _) => turns.pick(count, may_be, weight, random),
            (Balance::ConsistentHash(_), Some(key)) => self.ring.pick(key, may_be),
            (Balance::Random | Balance::ConsistentHash(_), _) => {
                p2c::pick_any(count, may_be, weight, random)
            }
        }
    }
}
