//! What files are read as, and what is said of those that cannot be read.

use super::*;

fn shown(text: &str) -> String {
    let content = read_file("shop/api.yaml", text);
    let objects =
        content.objects.iter().map(|object| format!("{} {}\n", object.place, object.reference));
    let failures = content.failures.iter().map(|failure| format!("! {failure}\n"));
    objects.chain(failures).collect()
}

const SPLIT: &str = "apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata:
  name: api
spec:
  service: api
  backends:
  - service: api-v1
    weight: 90
";

#[test]
fn every_document_of_a_file_is_read() {
    let text = format!(
        "# the shop\n---\n{SPLIT}---\n# nothing\n---\nkind: List\napiVersion: v1\nitems:\n\
         - apiVersion: v1\n  kind: Service\n  metadata: {{name: api, namespace: shop}}\n\
         - apiVersion: apps/v1\n  kind: Deployment\n  metadata: {{name: api}}\n"
    );
    insta::assert_snapshot!(shown(&text), @r"
    shop/api.yaml:3 TrafficSplit default/api
    shop/api.yaml:18 Service shop/api
    shop/api.yaml:21 Deployment.apps default/api
    ");
}

#[test]
fn a_typed_list_lends_its_kind_to_its_items() {
    let text = r#"{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"a"}}]}"#;
    insta::assert_snapshot!(shown(text), @"shop/api.yaml:1 Pod default/a");
}

#[test]
fn what_kubernetes_accepts_is_accepted() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  creationTimestamp: \"2026-01-01T00:00:00Z\"\n  \
                labels:\nspec:\n  containers:\n  - name: a\n    image: x\n    resources:\n      limits:\n        \
                cpu: 1\n        memory: 64Mi\n    livenessProbe:\n      httpGet: {path: /, port: http}\n    \
                ports:\n    - containerPort: 80\nstatus:\n  podIPs:\n  - ip: 10.0.0.1\n";
    insta::assert_snapshot!(shown(text), @"shop/api.yaml:1 Pod default/a");
}

#[test]
fn an_error_names_file_line_object_field_and_what_would_do() {
    let rows = [
        ("mistyped", SPLIT.replace("weight", "wieght")),
        ("missing", SPLIT.replace("    weight: 90\n", "")),
        ("not a number", SPLIT.replace("90", "[1]")),
        ("unknown version", SPLIT.replace("v1alpha2", "v2")),
        ("no name", SPLIT.replace("  name: api\n", "  labels: {}\n")),
        ("a bad name", SPLIT.replace("  name: api\n", "  name: API\n")),
        ("no kind", SPLIT.replace("kind: TrafficSplit\n", "")),
        ("no object", "- a\n- b\n".to_owned()),
        ("bad indentation", SPLIT.replace("    weight: 90", "   weight: 90")),
        ("an open bracket", SPLIT.replace("weight: 90", "weight: [90")),
        ("a second field", format!("{SPLIT}  service: other\n")),
        (
            "an unquoted annotation",
            SPLIT.replace("  name: api\n", "  name: api\n  annotations: {heddle.dev/injected: true}\n"),
        ),
        (
            "an unknown method",
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  rules:\n  \
             - matches:\n    - method: FETCH\n"
                .to_owned(),
        ),
        (
            "a service's field",
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports:\n  - port: 80\n    \
             targetport: 8080\n"
                .to_owned(),
        ),
    ];
    let shown: String =
        rows.iter().map(|(case, text)| format!("{case}:\n{}", shown(text))).collect();
    insta::assert_snapshot!(shown);
}

#[test]
fn a_syntax_error_does_not_hide_the_other_documents() {
    let text = format!("a: [\n---\n{SPLIT}---\nb: {{\n");
    let content = read_file("x.yaml", &text);
    assert_eq!(content.objects.len(), 1);
    assert_eq!(content.failures.len(), 2);
    assert_eq!(content.objects[0].place.to_string(), "x.yaml:3");
}

proptest::proptest! {
    #[test]
    fn no_text_panics_the_reader(text in "[a-z:{}\\[\\]&*!|>%@\"'#\\-\n ]{0,120}") {
        let _ = read_file("x.yaml", &text);
    }
}
