//! What becomes of files that `meshctl inject` and `meshctl uninject` read.

use super::*;

const APPLICATION: &str = "\
# The application.
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 80}]} # unnamed
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers: [{name: api, image: 'example/api:1', ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: report}
  spec:
    schedule: '* * * * *'
    jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: report, image: 'example/report:1'}]}}}}
- apiVersion: v1
  kind: Pod
  metadata: {name: plain, annotations: {heddle.dev/inject: disabled}}
  spec: {containers: [{name: plain, image: 'example/plain:1'}]}
";

fn mesh() -> MeshSettings {
    MeshSettings::from_yaml(&of_chart("heddle-system").unwrap()).unwrap()
}

fn injected(text: &str) -> Result<Outcome, Vec<String>> {
    changed(text, |pod| inject_one(pod, &mesh()))
}

#[test]
fn what_makes_pods_gets_a_proxy_and_the_rest_passes_as_it_is() {
    let outcome = injected(APPLICATION).map_err(|reasons| reasons.join("\n")).unwrap();
    assert_eq!(
        outcome.told,
        [
            "deployment/api injected",
            "cronjob/report injected",
            "pod/plain unchanged: heddle.dev/inject: disabled",
        ]
    );
    let service = APPLICATION.split("---").next().unwrap();
    assert!(outcome.text.starts_with(service), "comments and all");
    let objects = pods(&outcome.text);
    let names = |pod: &Value, list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.map(|container| container["name"].as_str().unwrap().to_owned()).collect()
    };
    let init: Vec<Vec<String>> = objects.iter().map(|pod| names(pod, "initContainers")).collect();
    let proxied = vec!["heddle-redirect".to_owned(), "heddle-proxy".to_owned()];
    assert_eq!(init, [proxied.clone(), proxied, Vec::new()]);
    let own: Vec<Vec<String>> = objects.iter().map(|pod| names(pod, "containers")).collect();
    assert_eq!(own, [["api"], ["report"], ["plain"]]);
}

/// Every pod in the text, and every pod's template.
fn pods(text: &str) -> Vec<Value> {
    let mut pods = Vec::new();
    for document in &documents::parse(text.as_bytes()).documents {
        for object in document.objects() {
            let mut object = object.clone();
            pods.extend(workload::pod_mut(&mut object).cloned());
        }
    }
    pods
}

#[test]
fn what_was_injected_is_injected_once_and_can_be_taken_back() {
    let once = injected(APPLICATION).map_err(|reasons| reasons.join("\n")).unwrap().text;
    let twice = injected(&once).map_err(|reasons| reasons.join("\n")).unwrap();
    assert_eq!(twice.text, once);
    assert!(twice.told[0].starts_with("deployment/api unchanged: "), "{:?}", twice.told);
    let back = changed(&once, uninject_one).map_err(|reasons| reasons.join("\n")).unwrap();
    let containers =
        |text: &str| pods(text).iter().map(|pod| pod["spec"].clone()).collect::<Vec<Value>>();
    assert_eq!(containers(&back.text), containers(APPLICATION));
}

#[test]
fn a_pod_that_asks_for_what_there_is_not_is_refused_by_name() {
    let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: bad, annotations: {heddle.dev/skip-inbound-ports: many}}\nspec: {containers: [{name: a, image: a}]}\n";
    let Err(reasons) = injected(bad) else { panic!("it was injected") };
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].starts_with("pod/bad: heddle.dev/skip-inbound-ports"), "{reasons:?}");
    let Err(reasons) = injected("a: [") else { panic!("it was read") };
    assert!(reasons[0].starts_with("document 1"), "{reasons:?}");
}

#[test]
fn the_charts_settings_are_read_by_the_injector() {
    let mesh = mesh();
    assert_eq!(mesh.proxy_image, format!("heddle/proxy:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(mesh.control_plane, "heddle-control-plane.heddle-system.svc.cluster.local:15210");
}
