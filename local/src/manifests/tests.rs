//! Tests of the whole reading: files in, files and plans out.

use super::endpoint_slice::Candidate;
use super::hosts::NamedService;
use super::*;

const SHOP: &str = r#"# The shop.
apiVersion: v1
kind: Service
metadata: {name: api}
spec:
  selector: {app: api}
  ports:
    - {name: http, port: 80, targetPort: web}
---
apiVersion: v1
kind: Pod
metadata:
  name: api-1
  labels: {app: api}
spec:
  serviceAccountName: api
  restartPolicy: Never
  terminationGracePeriodSeconds: 3
  securityContext: {runAsUser: 33}
  containers:
    - name: api
      command: [serve, "--name=$(NAME)"]
      args: ["$(ADDRESS)"]
      env:
        - {name: NAME, value: one}
        - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
      ports: [{name: web, containerPort: 8080}, {containerPort: 53, protocol: UDP}]
---
# Left as it is.
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: {name: api}
"#;

fn files(files: &[(&str, &str)]) -> BTreeMap<PathBuf, Vec<u8>> {
    files.iter().map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec())).collect()
}

/// Reads with the UIDs uid-1, uid-2 and so on.
struct Reader {
    manifests: Manifests,
    uids: u32,
}

impl Reader {
    fn new() -> Self {
        Self { manifests: Manifests::new(Families::V4AndV6), uids: 0 }
    }

    fn read(&mut self, list: &[(&str, &str)]) -> Reading {
        let uids = &mut self.uids;
        self.manifests.read(&files(list), || {
            *uids += 1;
            format!("uid-{uids}").parse().unwrap()
        })
    }
}

fn pod(name: &str, extra: &str) -> String {
    format!(
        "kind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers: [{{name: main, command: [run]}}]\n{extra}"
    )
}

#[test]
fn pods_and_services_are_filled_in_and_the_rest_is_left_alone() {
    let reading = Reader::new().read(&[("shop.yaml", SHOP)]);
    assert_eq!(reading.problems, []);
    let output = String::from_utf8(reading.outputs[Path::new("shop.yaml")].clone()).unwrap();
    insta::assert_snapshot!("shop", output);
    insta::assert_debug_snapshot!("shop_plan", reading.pods[0].containers);
    assert_eq!(reading.pods[0].restart, pod::RestartPolicy::Never);
    assert_eq!(reading.pods[0].service_account, "api");
}

#[test]
fn endpoint_slices_follow_selector_port_names_and_readiness() {
    let other =
        SHOP.replace("api-1", "api-2").replace("containerPort: 8080", "containerPort: 9090");
    let (_, other) = other.split_once("---\n").unwrap();
    let elsewhere = pod("api-3", "").replace("{name: api-3}", "{name: api-3, labels: {app: web}}");
    let reading =
        Reader::new().read(&[("a.yaml", SHOP), ("b.yaml", other), ("c.yaml", &elsewhere)]);
    assert_eq!(reading.problems, []);
    let candidates: Vec<_> =
        reading.pods.iter().map(|pod| Candidate { pod, ready: pod.name.name == "api-1" }).collect();
    let files = endpoint_slice::files(&reading.services, &candidates);
    assert_eq!(files.len(), 1);
    let (name, text) = files.first_key_value().unwrap();
    assert_eq!(name, Path::new(".generated/endpoint-slices/default_api.yaml"));
    insta::assert_snapshot!("slices", String::from_utf8(text.clone()).unwrap());
}

#[test]
fn names_stand_for_virtual_addresses_only_where_a_proxy_answers_there() {
    let plain = pod("plain", "")
        .replace("{name: plain}", "{name: plain, annotations: {heddle.dev/inject: disabled}}");
    let headless = "kind: Service\nmetadata: {name: all, namespace: other}\nspec: {clusterIP: None, selector: {a: b}}\n";
    let reading = Reader::new().read(&[("a.yaml", SHOP), ("b.yaml", &plain), ("c.yaml", headless)]);
    assert_eq!(reading.problems, []);
    let ready = ["10.42.0.2".parse().unwrap(), "fd42::2".parse().unwrap()];
    let services: Vec<_> = reading
        .services
        .iter()
        .map(|service| NamedService { service, ready: ready.to_vec() })
        .collect();
    let text: String =
        reading.pods.iter().map(|pod| hosts::hosts_file(pod, &services) + "\n").collect();
    insta::assert_snapshot!("hosts", text);
}

#[test]
fn what_cannot_be_run_is_said_with_its_place_and_a_remedy() {
    let documents = [
        pod("host-network", "  hostNetwork: true\n  initContainers: [{name: a}]\n"),
        pod("no-command", "").replace(", command: [run]", ", image: nginx"),
        pod("bad-inject", "")
            .replace("bad-inject}", "bad-inject, annotations: {heddle.dev/inject: yes please}}"),
        pod("bad-type", "").replace("command: [run]", "command: run"),
        pod("unknown-variable", "")
            .replace("[run]", "[run], env: [{name: A, valueFrom: {secretKeyRef: {}}}]"),
        pod("proxy-taken", "").replace("name: main", "name: proxy"),
        pod("volumes", "  volumes: [{name: a}]\n"),
        pod("twice", ""),
        pod("twice", ""),
        "kind: Deployment\nmetadata: {name: web}\n".to_owned(),
        pod("../escape", ""),
    ];
    let text = documents.join("---\n");
    let reading = Reader::new().read(&[("bad.yaml", &text), ("worse.yaml", "a: [")]);
    let names: Vec<_> = reading.pods.iter().map(|pod| pod.name.name.as_str()).collect();
    assert_eq!(names, ["volumes", "twice"]);
    let problems: Vec<_> = reading
        .problems
        .iter()
        .map(|problem| format!("{}{problem}", if problem.blocking { "" } else { "(notice) " }))
        .collect();
    insta::assert_snapshot!("problems", problems.join("\n"));
}

#[test]
fn a_document_with_an_error_stops_nothing_that_runs() {
    for (case, broken) in [
        ("the service", SHOP.replace("kind: Service", "kind: [")),
        ("the pod", SHOP.replace("kind: Pod", "kind: [")),
        ("the last line", format!("{SHOP}---\na: [")),
    ] {
        let mut reader = Reader::new();
        let before = reader.read(&[("shop.yaml", SHOP)]);
        for turn in ["first", "again"] {
            let after = reader.read(&[("shop.yaml", &broken)]);
            assert_eq!(after.pods, before.pods, "case: {case}, {turn}");
            assert_eq!(after.services, before.services, "case: {case}, {turn}");
            assert_eq!(after.problems.len(), 1, "case: {case}, {turn}: {:?}", after.problems);
            let output = String::from_utf8(after.outputs[Path::new("shop.yaml")].clone()).unwrap();
            for part in ["[", "clusterIP: \"10.43.0.1\"", "uid: uid-1", "# Left as it is."] {
                assert!(output.contains(part), "case: {case}, {turn}: {part} in {output}");
            }
        }
        assert_eq!(reader.read(&[("shop.yaml", SHOP)]), before, "case: {case}");
        let moved = reader.read(&[("shop.yaml", "a: ["), ("moved.yaml", SHOP)]);
        assert_eq!(moved.pods, before.pods, "case: {case}: not twice");
        assert_eq!(moved.problems.len(), 1, "case: {case}: {:?}", moved.problems);
        assert_eq!(reader.read(&[]).pods, [], "case: {case}: deleted is deleted");
    }
}

#[test]
fn a_file_that_is_no_text_is_copied_and_stops_nothing_that_runs() {
    let mut reader = Reader::new();
    let before = reader.read(&[("shop.yaml", SHOP)]);
    let after = reader
        .manifests
        .read(&[(PathBuf::from("shop.yaml"), vec![0xff])].into(), || unreachable!("no pod is new"));
    assert_eq!((&after.pods, &after.services), (&before.pods, &before.services));
    assert_eq!(after.outputs[Path::new("shop.yaml")], [0xff]);
    assert_eq!(reader.read(&[("shop.yaml", SHOP)]), before);
}

#[test]
fn a_service_that_is_changed_for_the_worse_goes_on_as_it_was() {
    let mut reader = Reader::new();
    let before = reader.read(&[("shop.yaml", SHOP)]);
    for (case, text) in [
        ("a port that is none", SHOP.replace("port: 80,", "port: eighty,")),
        (
            "a label that is no text",
            SHOP.replace("{name: api}\nspec", "{name: api, labels: {a: []}}\nspec"),
        ),
    ] {
        let after = reader.read(&[("shop.yaml", &text)]);
        assert_eq!(after.services, before.services, "case: {case}");
        assert_eq!(after.problems.len(), 1, "case: {case}: {:?}", after.problems);
        let output = String::from_utf8(after.outputs[Path::new("shop.yaml")].clone()).unwrap();
        assert!(output.contains("clusterIP: \"10.43.0.1\""), "case: {case}: {output}");
    }
    let bad = SHOP.replace("port: 80,", "port: eighty,");
    let output =
        reader.read(&[("shop.yaml", &bad)]).outputs.remove(Path::new("shop.yaml")).unwrap();
    assert!(String::from_utf8(output).unwrap().contains("eighty"), "the control plane can say so");
    reader.read(&[]);
    assert_eq!(reader.read(&[("shop.yaml", &bad)]).services, [], "it was gone in between");
}

#[test]
fn a_pod_that_is_changed_for_the_worse_goes_on_as_it_was() {
    let mut reader = Reader::new();
    let before = reader.read(&[("shop.yaml", SHOP)]);
    for (case, text) in [
        ("no command", SHOP.replace("command:", "commands:")),
        ("a label that is no text", SHOP.replace("labels: {app: api}", "labels: {app: [api]}")),
        (
            "a variable out of a Secret",
            SHOP.replace(
                "{fieldRef: {fieldPath: status.podIP}}",
                "{secretKeyRef: {name: a, key: b}}",
            ),
        ),
    ] {
        assert_ne!(text, SHOP, "case: {case}");
        let after = reader.read(&[("shop.yaml", &text)]);
        assert_eq!(after.pods, before.pods, "case: {case}");
        assert_eq!(after.outputs, before.outputs, "case: {case}");
        assert_eq!(after.problems.len(), 1, "case: {case}");
    }
}

#[test]
fn a_pod_whose_specification_changes_is_another_pod() {
    let mut reader = Reader::new();
    let first = reader.read(&[("shop.yaml", SHOP)]).pods.remove(0);
    for (case, text, same) in [
        ("read again", SHOP.to_owned(), true),
        ("other labels", SHOP.replace("labels: {app: api}", "labels: {app: api, x: z}"), true),
        ("other command", SHOP.replace("serve,", "serve2,"), false),
        (
            "not meshed",
            SHOP.replace(
                "name: api-1",
                "name: api-1\n  annotations: {heddle.dev/inject: disabled}",
            ),
            false,
        ),
    ] {
        let reading = reader.read(&[("shop.yaml", &text)]);
        assert_eq!(reading.problems, [], "case: {case}");
        let pod = &reading.pods[0];
        assert_eq!(pod.uid == first.uid, same, "case: {case}");
        assert_eq!(pod.addresses == first.addresses, same, "case: {case}");
    }
    assert_eq!(reader.read(&[]).pods, []);
    let again = reader.read(&[("shop.yaml", SHOP)]).pods.remove(0);
    assert_ne!(again.uid, first.uid);
    assert_ne!(again.addresses, first.addresses, "an address is not given to another pod");
}

#[test]
fn a_service_keeps_its_addresses_and_may_bring_its_own() {
    let own =
        "kind: Service\nmetadata: {name: own}\nspec: {clusterIP: 10.43.0.1, ports: [{port: 1}]}\n";
    let mut reader = Reader::new();
    let reading = reader.read(&[("z.yaml", own), ("a.yaml", SHOP)]);
    let addresses = |reading: &Reading, name: &str| {
        reading.services.iter().find(|service| service.name.name == name).unwrap().addresses.clone()
    };
    assert_eq!(addresses(&reading, "own"), ["10.43.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(reading.outputs[Path::new("z.yaml")], own.as_bytes());
    let given = addresses(&reading, "api");
    assert_ne!(given[0], addresses(&reading, "own")[0]);
    reader.read(&[("z.yaml", own)]);
    assert_eq!(addresses(&reader.read(&[("a.yaml", SHOP)]), "api"), given);
}

#[test]
fn a_list_is_its_items() {
    let list = format!("kind: List\nitems:\n- {}", pod("listed", "").replace('\n', "\n  "));
    let reading = Reader::new().read(&[("list.yaml", &list)]);
    assert_eq!(reading.problems, []);
    assert_eq!(reading.pods[0].name.name, "listed");
    let output = String::from_utf8(reading.outputs[Path::new("list.yaml")].clone()).unwrap();
    assert!(output.contains("uid-1"), "{output}");
}
