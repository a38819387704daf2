//! Asks every control plane for its routes, and makes one answer of theirs: each knows all routes, and how far its own
//! proxies have come with them.

use futures_util::FutureExt as _;
use heddle_proto::admin::admin_client::AdminClient;
use heddle_proto::admin::{self, GetRoutesRequest, HeldShares, Route, Routes};
use heddle_report::merge as status;
use tonic::transport::Channel;

use crate::failure::Failure;
use crate::target::{self, Target};

/// What is known together.
pub async fn routes(target: &Target, namespace: Option<&str>) -> Result<Routes, Failure> {
    let request = GetRoutesRequest { namespace: namespace.unwrap_or_default().to_owned() };
    let asked = target.ask_all(move |mut client: AdminClient<Channel>| {
        let request = request.clone();
        async move { Ok(client.get_routes(request).await?.into_inner()) }.boxed()
    });
    let heard = target::heard(asked.await?);
    let merged = merge(heard.into_iter().map(|(_, routes)| routes).collect());
    merged.ok_or_else(|| {
        Failure::new("no control plane answers", "see what is wrong with them: `meshctl check`")
    })
}

fn merge(all: Vec<Routes>) -> Option<Routes> {
    let conditions = status::merge(all.iter().map(objects)).objects;
    let mut all = all;
    // The newest configuration is what counts; the others have not heard of it yet.
    let newest = all.iter().enumerate().max_by_key(|(_, routes)| routes.version);
    let newest = newest.map(|(index, _)| index)?;
    let mut merged = all.swap_remove(newest);
    for route in &mut merged.routes {
        let others = all.iter().flat_map(|routes| &routes.routes);
        let alike: Vec<&Route> = others.filter(|other| key(other) == key(route)).collect();
        for other in alike {
            add(route, other);
        }
        let object = conditions
            .iter()
            .find(|object| (&object.kind, &object.namespace, &object.name) == key(route));
        if let Some(object) = object {
            route.conditions.clone_from(&object.conditions);
        }
    }
    Some(merged)
}

fn add(route: &mut Route, other: &Route) {
    route.proxies += other.proxies;
    route.acknowledged += other.acknowledged;
    route.refused += other.refused;
    for rule in &mut route.rules {
        let others = other.rules.iter().filter(|other| other.field == rule.field);
        for held in others.flat_map(|other| &other.held) {
            let alike = |known: &&mut HeldShares| {
                known.shares == held.shares && known.missing_weight == held.missing_weight
            };
            match rule.held.iter_mut().find(alike) {
                Some(known) => known.proxies += held.proxies,
                None => rule.held.push(held.clone()),
            }
        }
    }
}

fn key(route: &Route) -> (&String, &String, &String) {
    (&route.kind, &route.namespace, &route.name)
}

fn objects(routes: &Routes) -> admin::Status {
    let objects = routes.routes.iter().map(|route| admin::Object {
        kind: route.kind.clone(),
        namespace: route.namespace.clone(),
        name: route.name.clone(),
        file: route.file.clone(),
        conditions: route.conditions.clone(),
    });
    admin::Status {
        version: routes.version,
        objects: objects.collect(),
        ..admin::Status::default()
    }
}

#[cfg(test)]
mod tests {
    use heddle_proto::admin::RouteRule;

    use super::*;

    fn told(version: u64, (proxies, acknowledged): (u32, u32), missing_weight: u32) -> Routes {
        let held = HeldShares { missing_weight, proxies, ..HeldShares::default() };
        let rule = RouteRule { held: vec![held], ..RouteRule::default() };
        let route = Route {
            name: "api".to_owned(),
            proxies,
            acknowledged,
            rules: vec![rule],
            ..Route::default()
        };
        Routes { version, routes: vec![route] }
    }

    #[test]
    fn the_proxies_of_all_control_planes_are_added_up() {
        let merged =
            merge(vec![told(7, (2, 1), 0), told(8, (3, 3), 0), told(8, (1, 0), 5)]).unwrap();
        let route = &merged.routes[0];
        assert_eq!((merged.version, route.proxies, route.acknowledged), (8, 6, 4));
        let held: Vec<u32> = route.rules[0].held.iter().map(|held| held.proxies).collect();
        assert_eq!(held.iter().sum::<u32>(), 6);
        assert_eq!(held.len(), 2);
        assert_eq!(merge(Vec::new()), None);
    }
}
