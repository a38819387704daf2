//! How far the proxies that are connected here have come with every object, and by which shares they send requests.
//! Pure, but for the ledgers, each of which is looked at for a moment.

use std::collections::BTreeMap;

use heddle_model::destination::{Destination, ServiceDestination};
use heddle_model::names::ObjectReference;
use heddle_model::resource::ResourceKey;
use heddle_model::route::{ConnectionRule, RuleOrigin, WeightedBackend};
use heddle_proto::admin as wire;

use crate::push::ledger::Ledger;
use crate::push::programmed;
use crate::push::proxies::Proxies;
use crate::snapshot::{Content, Snapshot};

/// What proxies made of objects.
#[derive(Debug, Default)]
pub(in crate::admin) struct Progress {
    counts: BTreeMap<ObjectReference, Counts>,
    shares: BTreeMap<Place, Vec<(Shares, u32)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    proxies: u32,
    acknowledged: u32,
    refused: u32,
}

/// An object, and the field of a rule in it.
type Place = (ObjectReference, String);

/// The shares of backends, and of those that do not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shares {
    backends: Vec<WeightedBackend>,
    missing_weight: u32,
}

impl Progress {
    /// Of the proxies that are connected to this control plane: each is to one, so that several may be added up.
    pub(in crate::admin) fn of_connected(proxies: &Proxies, snapshot: &Snapshot) -> Self {
        let mut found = Self::default();
        for (uid, record) in proxies.all() {
            if record.connected {
                let ledger = record.ledger.lock();
                let share = programmed::share((&uid, ""), &ledger, snapshot);
                for (object, of_proxy) in share.objects {
                    let counts = found.counts.entry(object).or_default();
                    counts.proxies += 1;
                    counts.acknowledged += u32::from(of_proxy.done);
                    counts.refused += u32::from(of_proxy.refusal.is_some());
                }
                found.add_shares(acted_on(&ledger));
            }
        }
        found
    }

    fn add_shares(&mut self, of_one: BTreeMap<Place, Shares>) {
        for (place, shares) in of_one {
            let known = self.shares.entry(place).or_default();
            match known.iter_mut().find(|(alike, _)| *alike == shares) {
                Some((_, proxies)) => *proxies += 1,
                None => known.push((shares, 1)),
            }
        }
    }

    /// How many hold something of an object; how many of them act on its newest state; how many refuse that.
    pub(super) fn of(&self, object: &ObjectReference) -> (u32, u32, u32) {
        let Counts { proxies, acknowledged, refused } =
            self.counts.get(object).copied().unwrap_or_default();
        (proxies, acknowledged, refused)
    }

    /// By which shares a rule is acted on, and by how many.
    pub(super) fn shares(&self, object: &ObjectReference, field: &str) -> Vec<wire::HeldShares> {
        let known = self.shares.get(&(object.clone(), field.to_owned()));
        let told = known.into_iter().flatten().map(|(shares, proxies)| wire::HeldShares {
            shares: shares.backends.iter().map(Into::into).collect(),
            missing_weight: shares.missing_weight,
            proxies: *proxies,
        });
        told.collect()
    }
}

/// What one proxy took for certain. Where it took several ports of one service at different times, the first is told.
fn acted_on(ledger: &Ledger) -> BTreeMap<Place, Shares> {
    let mut found = BTreeMap::new();
    for (key, _) in ledger.held() {
        let (ResourceKey::Destination(_), Some((_, resource))) = (key, ledger.taken(key)) else {
            continue;
        };
        if let Content::Destination(Destination::Service(service)) = &resource.content {
            add(service, &mut found);
        }
    }
    found
}

fn add(service: &ServiceDestination, found: &mut BTreeMap<Place, Shares>) {
    for rule in &service.http_rules {
        let backends = rule.backends.iter().map(|backend| WeightedBackend {
            backend: backend.backend.clone(),
            weight: backend.weight,
        });
        let shares = Shares { backends: backends.collect(), missing_weight: rule.missing_weight };
        put(&rule.origin, shares, found);
    }
    let connections = service.tls_rules.iter().map(|rule| &rule.connections);
    for rule in connections.chain([&service.connections]) {
        let ConnectionRule { backends, missing_weight, origin } = rule;
        let shares = Shares { backends: backends.clone(), missing_weight: *missing_weight };
        put(origin, shares, found);
    }
}

fn put(origin: &RuleOrigin, shares: Shares, found: &mut BTreeMap<Place, Shares>) {
    if let RuleOrigin::Object { object, field } = origin {
        let place = (object.clone(), of_rule(field).to_owned());
        found.entry(place).or_insert(shares);
    }
}

/// The field of a rule, whose matches have fields of their own.
pub(super) fn of_rule(field: &str) -> &str {
    field.split_once(".matches[").map_or(field, |(rule, _)| rule)
}
