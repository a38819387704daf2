//! Whatever happens to slices and pods, in whatever order, and whenever it is looked at.

use heddle_model::identity::PodUid;

use super::*;

/// What happens. Numbers are of names, addresses and the like, of which there are few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Slice {
        name: usize,
        service: usize,
        listed: Vec<Listed>,
        lines: usize,
    },
    NoSlice {
        name: usize,
    },
    Pod {
        name: usize,
        told: Told,
        lines: usize,
    },
    NoPod {
        name: usize,
    },
    /// Its readiness, or nothing, is what is new of a pod.
    Again {
        name: usize,
        ready: bool,
        lines: usize,
    },
    Look,
}

/// An endpoint of a slice.
#[derive(Clone, Debug)]
struct Listed {
    address: usize,
    pod: Option<usize>,
    conditions: usize,
    elsewhere: bool,
}

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    address: usize,
    year: usize,
    ready: bool,
    opaque: bool,
    plain: bool,
    finished: bool,
}

const SLICES: [&str; 4] = ["s1", "s2", "s3", "s4"];
const SERVICES: [&str; 4] = ["api", "web", "db", "none"];
const PODS: [&str; 5] = ["a", "b", "c", "d", "e"];
const ADDRESSES: usize = 4;
const CONDITIONS: [&str; 5] = [
    "",
    ", conditions: {ready: true}",
    ", conditions: {ready: false}",
    ", conditions: {ready: false, serving: true, terminating: true}",
    ", conditions: {ready: false, serving: false, terminating: true}",
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let listed =
        (0..ADDRESSES, proptest::option::weighted(0.8, 0..PODS.len()), 0..5_usize, 0..4_u8)
            .prop_map(|(address, pod, conditions, zone)| {
                // Mostly an endpoint says which pod has its address, or will.
                Listed { address, pod, conditions, elsewhere: zone == 0 }
            });
    let listed = proptest::collection::vec(listed, 0..4);
    let one_in = |number: u8| (0..number).prop_map(|drawn| drawn == 0);
    let told = (0..ADDRESSES, 0..3_usize, any::<bool>(), one_in(6), one_in(6), one_in(6)).prop_map(
        |(address, year, ready, opaque, plain, finished)| Told {
            address,
            year,
            ready,
            opaque,
            plain,
            finished,
        },
    );
    let slice = (0..SLICES.len(), 0..SERVICES.len() + 4, listed, 0..2_usize);
    let step = prop_oneof![
        8 => slice.prop_map(|(name, service, listed, lines)| {
            // Mostly a slice stays with its service.
            let service = if service < SERVICES.len() { service } else { name % 3 };
            Step::Slice { name, service, listed, lines }
        }),
        1 => (0..SLICES.len()).prop_map(|name| Step::NoSlice { name }),
        2 => (0..PODS.len(), told, 0..2_usize)
            .prop_map(|(name, told, lines)| Step::Pod { name, told, lines }),
        1 => (0..PODS.len()).prop_map(|name| Step::NoPod { name }),
        5 => (0..PODS.len(), any::<bool>(), 0..2_usize)
            .prop_map(|(name, ready, lines)| Step::Again { name, ready, lines }),
        8 => Just(Step::Look),
    ];
    proptest::collection::vec(step, 0..40)
}

/// Services of which one limits rates, one prefers its own zone by a policy, and a node.
fn around() -> String {
    SERVICES[..3]
        .iter()
        .zip(1..)
        .map(|(name, last)| {
            format!(
                "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: 10.43.0.{last}, ports: [{{name: http, port: 80}}]}}
---"
            )
        })
        .collect::<String>()
        + "
apiVersion: v1
kind: Node
metadata: {name: one, labels: {topology.kubernetes.io/zone: east}}
---
apiVersion: heddle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: limits}
spec:
  targetRefs: [{kind: Service, name: api}]
  rateLimit: [{requests: 5}]
---
"
}

fn slice_text(name: &str, service: &str, listed: &[Listed]) -> String {
    let endpoints: Vec<String> = listed
        .iter()
        .map(|Listed { address, pod, conditions, elsewhere }| {
            let target =
                pod.map(|pod| format!(", targetRef: {{kind: Pod, uid: {}-uid}}", PODS[pod]));
            format!(
                "{{addresses: [10.42.0.{}]{}{}{}}}",
                address + 1,
                target.unwrap_or_default(),
                CONDITIONS[*conditions],
                if *elsewhere { ", zone: west, nodeName: two" } else { "" },
            )
        })
        .collect();
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  labels: {{kubernetes.io/service-name: {service}, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{}]
---
",
        endpoints.join(", ")
    )
}

fn pod_text(name: &str, told: &Told) -> String {
    let Told { address, year, ready, opaque, plain, finished } = told;
    let opaque = if *opaque { OPAQUE } else { "" };
    let word = if *ready { "True" } else { "False" };
    let conditions = format!("conditions: [{{type: ContainersReady, status: \"{word}\"}}]");
    let phase = if *finished { "Succeeded" } else { "Running" };
    pod(name, u8::try_from(address + 1).unwrap(), opaque)
        .replace("uid: ", &format!("creationTimestamp: \"202{year}-01-01T00:00:00Z\", uid: "))
        .replace("\"true\"", if *plain { "\"false\"" } else { "\"true\"" })
        .replace("phase: Running", &format!("phase: {phase}, {conditions}"))
        + "\n"
}

/// An index, and what it was told that still stands, each object by itself.
struct Run {
    index: Index,
    contents: Contents,
    texts: BTreeMap<(&'static str, &'static str), String>,
    pods: BTreeMap<&'static str, Told>,
}

impl Run {
    fn apply(&mut self, kind: &'static str, name: &'static str, (text, lines): (String, usize)) {
        // So that it is in another place.
        let text = "\n".repeat(lines) + &text;
        applied(&mut self.index, &text);
        self.texts.insert((kind, name), text);
    }

    fn delete(&mut self, kind: &'static str, name: &'static str) {
        if self.texts.remove(&(kind, name)).is_some() {
            let reference = ObjectReference {
                kind: kind.into(),
                namespace: "default".into(),
                name: name.into(),
            };
            self.index.apply(Event::Deleted(reference));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Slice { name, service, listed, lines } => {
                let text = slice_text(SLICES[name], SERVICES[service], &listed);
                self.apply("EndpointSlice", SLICES[name], (text, lines));
            }
            Step::NoSlice { name } => self.delete("EndpointSlice", SLICES[name]),
            Step::Pod { name, told, lines } => {
                self.pods.insert(PODS[name], told.clone());
                self.apply("Pod", PODS[name], (pod_text(PODS[name], &told), lines));
            }
            Step::NoPod { name } => {
                self.pods.remove(PODS[name]);
                self.delete("Pod", PODS[name]);
            }
            Step::Again { name, ready, lines } => {
                if let Some(told) = self.pods.get_mut(PODS[name]) {
                    told.ready = ready;
                    let text = pod_text(PODS[name], told);
                    self.apply("Pod", PODS[name], (text, lines));
                }
            }
            Step::Look => self.look(),
        }
    }

    fn look(&mut self) {
        let has_news = self.index.has_news();
        let next = self.index.contents(&self.contents);
        let mut anew = new_index();
        applied(&mut anew, &around());
        self.texts.values().for_each(|text| applied(&mut anew, text));
        let expected = whole(&anew.contents(&Contents::default()));
        assert_eq!(whole(&next), expected);
        if !has_news {
            assert_eq!(whole(&next), whole(&self.contents));
        }
        if let Some(changed) = self.index.what_changed() {
            for key in keys() {
                let what =
                    |contents: &Contents| contents.resource(&key, &nobody()).map(|one| one.digest);
                assert!(
                    what(&self.contents) == what(&next) || changed.contains(&key),
                    "{key} is another one, and nobody is told"
                );
            }
        }
        self.contents = next;
    }
}

fn applied(index: &mut Index, text: &str) {
    for event in events(text).into_iter().filter(|event| matches!(event, Event::Applied(_))) {
        index.apply(event);
    }
}

/// Of all that there may be.
fn keys() -> Vec<ResourceKey> {
    let services = SERVICES.iter().map(|name| {
        let name = name.to_string();
        let service = heddle_model::names::ServiceName { namespace: "default".into(), name };
        let port = heddle_model::names::Port::new(80).unwrap();
        ResourceKey::Endpoints(ServicePort { service, port })
    });
    let uid = |name: &&str| -> PodUid { format!("{name}-uid").parse().unwrap() };
    let workloads = PODS.iter().map(uid).map(ResourceKey::Workload);
    let networks = ["10.42", "10.43"].into_iter();
    let addresses = networks.flat_map(|network| (1..6).map(move |last| (network, last)));
    let sockets = addresses.flat_map(|(network, last)| {
        [80, 8080].map(|port| format!("{network}.0.{last}:{port}").parse().unwrap())
    });
    services.chain(workloads).chain(sockets.map(ResourceKey::Destination)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_happens_what_is_refreshed_is_what_would_be_made_anew(steps in steps()) {
        let mut index = new_index();
        applied(&mut index, &around());
        index.apply(Event::Synced);
        let contents = index.contents(&Contents::default());
        let mut run = Run { index, contents, texts: BTreeMap::new(), pods: BTreeMap::new() };
        for step in steps.into_iter().chain([Step::Look]) {
            run.step(step);
        }
    }
}
