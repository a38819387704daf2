//! Asks every control plane, and makes one answer of theirs: each knows the configuration, and only its own proxies.

use std::collections::HashMap;

use futures_util::FutureExt as _;
use heddle_proto::admin::admin_client::AdminClient;
use heddle_proto::admin::{CallFacts, ExplainRequest, PodFacts, Proxy};
use tonic::transport::Channel;

use crate::failure::Failure;
use crate::target::{self, Target};

/// What is known together.
pub async fn facts(target: &Target, request: ExplainRequest) -> Result<CallFacts, Failure> {
    let asked = target.ask_all(move |mut client: AdminClient<Channel>| {
        let request = request.clone();
        async move { Ok(client.explain(request).await?.into_inner()) }.boxed()
    });
    let heard = target::heard(asked.await?);
    merge(heard.into_iter().map(|(_, facts)| facts).collect()).ok_or_else(|| {
        Failure::new("no control plane answers", "see what is wrong with them: `meshctl check`")
    })
}

/// The newest configuration, with what those know of proxies that are connected to them.
fn merge(all: Vec<CallFacts>) -> Option<CallFacts> {
    let mut connected: HashMap<String, Proxy> = HashMap::new();
    let mut held = None;
    for facts in &all {
        for pod in pods(facts) {
            if let Some(proxy) = pod.proxy.as_ref().filter(|proxy| proxy.connected) {
                connected.insert(pod.pod_uid.clone(), proxy.clone());
            }
        }
        if let Some(known) = &facts.held {
            held = Some((facts.caller.clone(), known.clone(), facts.held_is_current));
        }
    }
    let mut newest = all.into_iter().max_by_key(|facts| facts.version)?;
    // The pod that stands for all of a kind is one whose proxy told something.
    if let Some((caller, known, is_current)) = held {
        newest.caller = caller;
        newest.held = Some(known);
        newest.held_is_current = is_current;
    }
    let fill = |pod: &mut PodFacts| {
        if let Some(proxy) = connected.get(&pod.pod_uid) {
            pod.proxy = Some(proxy.clone());
        }
    };
    newest.caller.iter_mut().chain(&mut newest.pod).for_each(fill);
    let endpoints = newest.backings.iter_mut().flat_map(|backing| &mut backing.endpoints);
    endpoints.filter_map(|endpoint| endpoint.pod.as_mut()).for_each(fill);
    Some(newest)
}

fn pods(facts: &CallFacts) -> impl Iterator<Item = &PodFacts> {
    let endpoints = facts.backings.iter().flat_map(|backing| &backing.endpoints);
    let endpoints = endpoints.filter_map(|endpoint| endpoint.pod.as_ref());
    facts.caller.iter().chain(&facts.pod).chain(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proto::admin::{BackingFacts, EndpointFacts, HeldResource};

    fn told(version: u64, connected: &[&str]) -> CallFacts {
        let pod = |uid: &str| PodFacts {
            pod_uid: uid.to_owned(),
            proxy: Some(Proxy { connected: connected.contains(&uid), ..Proxy::default() }),
            ..PodFacts::default()
        };
        let endpoint =
            |uid: &str| EndpointFacts { pod: Some(pod(uid)), ..EndpointFacts::default() };
        CallFacts {
            version,
            caller: Some(pod("client")),
            held: connected
                .contains(&"client")
                .then(|| HeldResource { version, ..Default::default() }),
            held_is_current: true,
            backings: vec![BackingFacts {
                endpoints: vec![endpoint("a"), endpoint("b")],
                ..BackingFacts::default()
            }],
            ..CallFacts::default()
        }
    }

    #[test]
    fn the_newest_configuration_counts_with_what_each_knows_of_its_own_proxies() {
        for answers in [
            vec![told(7, &["client", "a"]), told(8, &["b"])],
            vec![told(8, &["b"]), told(7, &["client", "a"])],
        ] {
            let merged = merge(answers).unwrap();
            assert_eq!(merged.version, 8);
            assert_eq!(merged.held.as_ref().map(|held| held.version), Some(7));
            let connected = pods(&merged).filter(|pod| pod.proxy.as_ref().unwrap().connected);
            assert_eq!(connected.count(), 3);
        }
        assert_eq!(merge(Vec::new()), None);
    }
}
