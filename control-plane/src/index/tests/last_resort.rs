//! Pods that Kubernetes calls not ready, and when they are used all the same.

use super::*;

/// What a slice says of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Ready,
    Ending,
    NotReady,
    NotReadyEnding,
}

/// What a pod's node told last of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is ready.
    Ready,
    /// It is not.
    NotReady,
    /// The pod is not known.
    Nothing,
}

const SERVICE: &str = "v2";

impl Listed {
    const ALL: [Self; 4] = [Self::Ready, Self::Ending, Self::NotReady, Self::NotReadyEnding];

    fn conditions(self) -> &'static str {
        match self {
            Self::Ready => "{ready: true, serving: true, terminating: false}",
            Self::Ending => "{ready: false, serving: true, terminating: true}",
            Self::NotReady => "{ready: false, serving: false, terminating: false}",
            Self::NotReadyEnding => "{ready: false, serving: false, terminating: true}",
        }
    }
}

fn address(number: usize) -> String {
    format!("10.42.9.{number}")
}

/// A pod; `ready` is what Kubernetes makes of it, which is not what the pod says.
fn known(number: usize, told: Told, ready: bool) -> String {
    let word = |yes: bool| if yes { "'True'" } else { "'False'" };
    let conditions = format!(
        "status: {{conditions: [{{type: ContainersReady, status: {}}}, {{type: Ready, status: {}}}], ",
        word(told == Told::Ready),
        word(ready),
    );
    let pod = pod(&format!("p{number}"), &format!("{{ip: {}}}", address(number)), "");
    pod.replace("status: {", &conditions)
}

/// The slice that Kubernetes makes of these, the first of which is number 1.
fn made(listed: &[Listed]) -> String {
    let endpoint = |(index, listed): (usize, &Listed)| {
        let (number, conditions) = (index + 1, listed.conditions());
        let address = address(number);
        format!(
            "{{addresses: [{address}], targetRef: {{kind: Pod, uid: p{number}-uid}}, conditions: {conditions}}}"
        )
    };
    let endpoints: Vec<String> = listed.iter().enumerate().map(endpoint).collect();
    by_kubernetes(&slice(SERVICE, "k", &endpoints.join(", ")))
}

/// A pod that is not heard of, and the slice that says so.
pub(super) fn unheard() -> String {
    known(1, Told::Ready, false) + &made(&[Listed::NotReady])
}

fn by_kubernetes(slice: &str) -> String {
    let label = "endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io";
    slice.replace("labels: {", &format!("labels: {{{label}, "))
}

/// The numbers of the pods that are used, and whether they are a last resort.
fn used(contents: &Contents) -> (Vec<usize>, bool) {
    let number = |line: &String| {
        let address = line.split(':').next().unwrap();
        address.rsplit('.').next().unwrap().parse().unwrap()
    };
    let mut numbers: Vec<usize> = endpoints(contents, SERVICE, 80).iter().map(number).collect();
    numbers.sort_unstable();
    (numbers, contents.last_resort.iter().any(|port| port.service.name == SERVICE))
}

fn with(pods: &[(Listed, Told)]) -> Contents {
    let listed: Vec<Listed> = pods.iter().map(|(listed, _)| *listed).collect();
    let seen = pods.iter().enumerate().filter(|(_, (_, told))| *told != Told::Nothing);
    let seen = seen.map(|(index, (listed, told))| {
        known(index + 1, *told, *listed == Listed::Ready || *listed == Listed::Ending)
    });
    contents(&(shop() + &seen.collect::<String>() + &made(&listed)))
}

#[test]
fn a_pod_that_is_not_heard_of_is_used_where_there_is_no_other() {
    use Listed as L;
    use Told as T;
    for (case, pods, expected) in [
        ("all is well", &[(L::Ready, T::Ready), (L::Ready, T::Ready)][..], (&[1, 2][..], false)),
        (
            "nobody is heard of",
            &[(L::NotReady, T::Ready), (L::NotReady, T::Ready)],
            (&[1, 2], true),
        ),
        ("one is heard of", &[(L::NotReady, T::Ready), (L::Ready, T::Ready)], (&[2], false)),
        ("one that ends is", &[(L::NotReady, T::Ready), (L::Ending, T::Ready)], (&[2], false)),
        ("a probe fails", &[(L::NotReady, T::NotReady)], (&[], false)),
        (
            "all probes fail",
            &[(L::NotReady, T::NotReady), (L::NotReadyEnding, T::NotReady)],
            (&[], false),
        ),
        ("one probe fails", &[(L::NotReady, T::Ready), (L::NotReady, T::NotReady)], (&[1], true)),
        ("a pod is not known", &[(L::NotReady, T::Nothing)], (&[], false)),
        ("one of two pods is", &[(L::NotReady, T::Nothing), (L::NotReady, T::Ready)], (&[2], true)),
        (
            "one is about to end",
            &[(L::NotReadyEnding, T::Ready), (L::NotReady, T::Ready)],
            (&[2], true),
        ),
        (
            "all are",
            &[(L::NotReadyEnding, T::Ready), (L::NotReadyEnding, T::NotReady)],
            (&[1], true),
        ),
        ("the probe's word is behind", &[(L::Ready, T::NotReady)], (&[1], false)),
        ("nothing is listed", &[], (&[], false)),
    ] {
        let (numbers, last_resort) = used(&with(pods));
        assert_eq!((&numbers[..], last_resort), expected, "case: {case}");
    }
}

#[test]
fn what_is_not_used_is_shown_as_not_ready() {
    let shown = |pods: &[(Listed, Told)]| -> Vec<String> {
        let contents = with(pods);
        let ports = contents.not_ready.iter().filter(|(port, _)| port.service.name == SERVICE);
        ports.flat_map(|(_, addresses)| addresses.iter().map(ToString::to_string)).collect()
    };
    let unheard = (Listed::NotReady, Told::Ready);
    assert_eq!(shown(&[unheard, (Listed::Ready, Told::Ready)]), ["10.42.9.1:8080"], "a spare one");
    assert_eq!(shown(&[unheard]), [""; 0], "one that is used");
    assert_eq!(shown(&[unheard, (Listed::NotReady, Told::NotReady)]), ["10.42.9.2:8080"]);
}

#[test]
fn a_slice_of_somebody_else_means_what_it_says() {
    let pod = known(1, Told::Ready, true);
    let not_ready = "conditions: {ready: false}";
    let named =
        format!("{{addresses: [10.42.9.1], targetRef: {{kind: Pod, uid: p1-uid}}, {not_ready}}}");
    let unnamed = format!("{{addresses: [10.42.9.1], {not_ready}}}");
    for (case, slice, expected) in [
        ("of Kubernetes", by_kubernetes(&slice(SERVICE, "k", &named)), 1),
        ("of nobody", slice(SERVICE, "k", &named), 0),
        (
            "of an operator",
            by_kubernetes(&slice(SERVICE, "k", &named)).replace("endpointslice-c", "leaders-c"),
            0,
        ),
        ("without a pod", by_kubernetes(&slice(SERVICE, "k", &unnamed)), 0),
    ] {
        let contents = contents(&(shop() + &pod + &slice));
        assert_eq!(used(&contents).0.len(), expected, "case: {case}");
    }
}

#[test]
fn a_pod_that_is_gone_is_no_last_resort() {
    let mut index = new_index();
    let before =
        apply(&mut index, &(shop() + &known(1, Told::Ready, false) + &made(&[Listed::NotReady])));
    assert_eq!(used(&before), (vec![1], true));
    let ended = known(1, Told::Ready, false).replace("status: {", "status: {phase: Failed, ");
    assert_eq!(used(&apply(&mut index, &ended)), (vec![], false), "it ended");
    apply(&mut index, &known(1, Told::Ready, false));
    let reference =
        ObjectReference { kind: "Pod".into(), namespace: "shop".into(), name: "p1".into() };
    index.apply(Event::Deleted(reference));
    assert_eq!(used(&index.contents(&before)), (vec![], false), "it is deleted");
}

/// What the watches of pods and of slices say while Kubernetes loses sight of three pods and finds them again, each watch
/// in its own order.
fn out_of_sight() -> (Vec<String>, Vec<String>) {
    use Listed::{NotReady, Ready};
    let pods = [false, true]
        .iter()
        .flat_map(|ready| [1, 2, 3].map(|number| known(number, Told::Ready, *ready)));
    let slices = [
        [NotReady, Ready, Ready],
        [NotReady, NotReady, Ready],
        [NotReady, NotReady, NotReady],
        [NotReady, Ready, NotReady],
        [Ready, Ready, Ready],
    ];
    (pods.collect(), slices.iter().map(|listed| made(listed)).collect())
}

fn listed() -> impl Strategy<Value = Listed> {
    proptest::sample::select(&Listed::ALL[..])
}

fn told() -> impl Strategy<Value = Told> {
    proptest::sample::select(&[Told::Ready, Told::NotReady, Told::Nothing][..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_pod_is_used_against_its_own_word(pods in proptest::collection::vec((listed(), told()), 0..6)) {
        let (numbers, last_resort) = used(&with(&pods));
        let (usable, may_be_used): (Vec<_>, Vec<_>) = pods.iter().partition(|(listed, told)| {
            matches!(listed, Listed::Ready | Listed::Ending) && *told != Told::Nothing
        });
        for number in &numbers {
            let (listed, told) = pods[number - 1];
            prop_assert_ne!(told, Told::Nothing);
            if last_resort {
                prop_assert_eq!(told, Told::Ready, "{:?} by its own word", listed);
            } else {
                prop_assert!(matches!(listed, Listed::Ready | Listed::Ending));
            }
        }
        let spare = may_be_used.iter().any(|(_, told)| *told == Told::Ready);
        prop_assert_eq!(last_resort, usable.is_empty() && spare);
        prop_assert_eq!(numbers.is_empty(), usable.is_empty() && !spare);
    }

    #[test]
    fn no_gap_opens_however_pods_and_slices_are_told_of(
        turns in proptest::collection::vec(any::<bool>(), 16),
    ) {
        let mut index = new_index();
        let all = [1, 2, 3].map(|number| known(number, Told::Ready, true)).concat();
        apply(&mut index, &(shop() + &all + &made(&[Listed::Ready; 3])));
        let (pods, slices) = out_of_sight();
        let (mut pods, mut slices) = (pods.into_iter(), slices.into_iter());
        // Where one watch has told all, the other goes on alone.
        for of_pods in turns.into_iter().chain([true; 6]).chain([false; 5]) {
            let Some(text) = (if of_pods { pods.next() } else { slices.next() }) else { continue };
            let contents = apply(&mut index, &text);
            prop_assert!(!used(&contents).0.is_empty(), "nothing is left after {}", text);
        }
        prop_assert_eq!(used(&index.contents(&Contents::default())), (vec![1, 2, 3], false));
    }
}
