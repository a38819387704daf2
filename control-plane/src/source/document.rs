//! The text of one file → typed objects, and what could not be read, with file, line, object and field.
//! What an object means is in `translate/`; which of several files counts is in `files.rs`.

use std::sync::Arc;

use heddle_model::names::ObjectReference;

use crate::source::node::{Node, Value};
use crate::source::reader::{self, Misread};
use crate::source::{Content, Failure, Object, Place};

/// What one file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileContent {
    /// In the order of the file.
    pub objects: Vec<Object>,
    /// In the order of the file.
    pub failures: Vec<Failure>,
    /// What it was read from.
    pub text: Arc<str>,
}

/// Reads every document of a file; one that cannot be read does not keep the others from it.
pub fn read_file(file: &str, text: &str) -> FileContent {
    let mut content = FileContent { text: text.into(), ..FileContent::default() };
    for chunk in chunks(text) {
        match Node::parse(&chunk.text) {
            Ok(node) => {
                let node = node.moved_down(chunk.lines_before);
                read_document(file, &node, &mut content);
            }
            Err(error) => content.failures.push(Failure {
                place: Place::File { file: file.to_owned(), line: error.line + chunk.lines_before },
                object: guess_reference(&chunk.text),
                field: String::new(),
                message: format!("is not YAML: {}", error.message),
            }),
        }
    }
    content
}

fn read_document(file: &str, node: &Node, content: &mut FileContent) {
    if node.value == Value::Null {
        return;
    }
    let kind = node.text("kind").unwrap_or_default();
    let items = node.field("items").filter(|_| kind.ends_with("List"));
    let Some(Value::Sequence(items)) = items.map(|items| &items.value) else {
        return read_object(file, node, None, content);
    };
    for item in items {
        // The items of a typed list (`PodList`) need not repeat what the list says of them.
        let of_list =
            kind.strip_suffix("List").filter(|kind| !kind.is_empty()).zip(node.text("apiVersion"));
        read_object(file, item, of_list, content);
    }
}

fn read_object(file: &str, node: &Node, of_list: Option<(&str, &str)>, content: &mut FileContent) {
    let place = Place::File { file: file.to_owned(), line: node.line };
    match object(node, place, of_list) {
        Ok(object) => content.objects.push(object),
        Err(failure) => content.failures.push(*failure),
    }
}

/// Reads one object. `of_list` is the kind and the version of a list's items, which need not repeat them.
pub fn object(
    node: &Node,
    place: Place,
    of_list: Option<(&str, &str)>,
) -> Result<Object, Box<Failure>> {
    let header = match Header::read(node, of_list) {
        Ok(header) => header,
        Err(problem) => {
            return Err(Box::new(Failure {
                place: place.on_line(problem.line),
                object: None,
                field: problem.field.to_owned(),
                message: problem.message,
            }));
        }
    };
    match header.content(node) {
        Ok(read) => Ok(Object {
            reference: header.reference,
            place,
            content_hash: node.content_hash(),
            content: read,
        }),
        Err(error) => Err(Box::new(Failure {
            place: place.on_line(error.line()),
            object: Some(header.reference),
            field: error.field(),
            message: error.message().to_owned(),
        })),
    }
}

/// What has to be known of an object before its kind is read.
struct Header<'a> {
    api_version: &'a str,
    kind: Kind,
    reference: ObjectReference,
}

enum Kind {
    Pod,
    Service,
    EndpointSlice,
    TrafficSplit,
    HttpRoute,
    GrpcRoute,
    TcpRoute,
    TlsRoute,
    ReferenceGrant,
    HttpRouteGroup,
    TrafficPolicy,
    Node,
    Other,
}

struct BadHeader {
    line: u64,
    field: &'static str,
    message: String,
}

impl<'a> Header<'a> {
    fn read(node: &'a Node, of_list: Option<(&'a str, &'a str)>) -> Result<Self, BadHeader> {
        let bad = |field, message: &str| BadHeader {
            line: node.line,
            field,
            message: message.to_owned(),
        };
        if !matches!(node.value, Value::Mapping(_)) {
            return Err(bad("", "is not a Kubernetes object (want apiVersion, kind, metadata)"));
        }
        let (list_kind, list_version) = of_list.unzip();
        let kind = node
            .text("kind")
            .or(list_kind)
            .ok_or_else(|| bad("kind", "is missing (want one such as Service)"))?;
        let api_version = node
            .text("apiVersion")
            .or(list_version)
            .ok_or_else(|| bad("apiVersion", "is missing (want one such as v1)"))?;
        let metadata = node.field("metadata");
        let name = metadata
            .and_then(|metadata| metadata.text("name"))
            .ok_or_else(|| bad("metadata.name", "is missing, or is not a text"))?;
        let namespace = metadata.and_then(|metadata| metadata.text("namespace"));
        for (field, text) in [("metadata.name", Some(name)), ("metadata.namespace", namespace)] {
            if let Some(text) = text.filter(|text| !is_name(text)) {
                let message =
                    format!("{text:?} is not a name (want lower-case letters, digits, - and .)");
                return Err(bad(field, &message));
            }
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let known = known_kind(group, kind);
        let shown_kind = match (&known, group) {
            // Else a Knative Service would be taken for a Service.
            (Kind::Other, group) if !group.is_empty() => format!("{kind}.{group}"),
            _ => kind.to_owned(),
        };
        let reference = ObjectReference {
            kind: shown_kind,
            namespace: namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned(),
            name: name.to_owned(),
        };
        Ok(Self { api_version, kind: known, reference })
    }

    fn content(&self, node: &Node) -> Result<Content, Misread> {
        match self.kind {
            Kind::Pod => self.typed(node, &["v1"], Content::Pod),
            Kind::Service => self.typed(node, &["v1"], Content::Service),
            Kind::Node => self.typed(node, &["v1"], Content::Node),
            Kind::EndpointSlice => {
                self.typed(node, &["discovery.k8s.io/v1"], Content::EndpointSlice)
            }
            Kind::TrafficSplit => self.typed(node, &TRAFFIC_SPLIT, Content::TrafficSplit),
            Kind::HttpRouteGroup => self.typed(node, &HTTP_ROUTE_GROUP, Content::HttpRouteGroup),
            Kind::HttpRoute => self.typed(node, &HTTP_ROUTE, Content::HttpRoute),
            Kind::GrpcRoute => self.typed(node, &GRPC_ROUTE, Content::GrpcRoute),
            Kind::TcpRoute => self.typed(node, &TCP_ROUTE, Content::TcpRoute),
            Kind::TlsRoute => self.typed(node, &TLS_ROUTE, Content::TlsRoute),
            Kind::ReferenceGrant => self.typed(node, &REFERENCE_GRANT, Content::ReferenceGrant),
            Kind::TrafficPolicy => self.typed(node, &TRAFFIC_POLICY, Content::TrafficPolicy),
            Kind::Other => Ok(Content::Ignored { api_version: self.api_version.to_owned() }),
        }
    }

    fn typed<'n, T: serde::Deserialize<'n>>(
        &self,
        node: &'n Node,
        versions: &[&str],
        content: impl FnOnce(Box<T>) -> Content,
    ) -> Result<Content, Misread> {
        self.check_version(versions)?;
        Ok(content(Box::new(reader::read(node)?)))
    }

    fn check_version(&self, known: &[&str]) -> Result<(), Misread> {
        if known.contains(&self.api_version) {
            return Ok(());
        }
        Err(Misread::of_field(
            "apiVersion",
            format!("{:?} is not known (known: {})", self.api_version, known.join(", ")),
        ))
    }
}

fn known_kind(group: &str, kind: &str) -> Kind {
    match (group, kind) {
        ("", "Pod") => Kind::Pod,
        ("", "Service") => Kind::Service,
        ("discovery.k8s.io", "EndpointSlice") => Kind::EndpointSlice,
        ("split.smi-spec.io", "TrafficSplit") => Kind::TrafficSplit,
        ("specs.smi-spec.io", "HTTPRouteGroup") => Kind::HttpRouteGroup,
        ("gateway.networking.k8s.io", "HTTPRoute") => Kind::HttpRoute,
        ("gateway.networking.k8s.io", "GRPCRoute") => Kind::GrpcRoute,
        ("gateway.networking.k8s.io", "TCPRoute") => Kind::TcpRoute,
        ("gateway.networking.k8s.io", "TLSRoute") => Kind::TlsRoute,
        ("gateway.networking.k8s.io", "ReferenceGrant") => Kind::ReferenceGrant,
        ("heddle.dev", "TrafficPolicy") => Kind::TrafficPolicy,
        ("", "Node") => Kind::Node,
        _ => Kind::Other,
    }
}

fn is_name(text: &str) -> bool {
    let bounded = !text.is_empty() && text.len() <= NAME_LIMIT_BYTES;
    // Colons are in the names of some cluster-wide objects, which are ignored anyway.
    bounded
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b':')
        })
}

/// One document's part of a file.
struct Chunk {
    lines_before: u64,
    text: String,
}

/// Splits at `---` lines, as Kubernetes' own tools do, so that a document with a syntax error does not
/// hide the others.
fn chunks(text: &str) -> Vec<Chunk> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut current = Chunk { lines_before: 0, text: String::new() };
    for (line, number) in text.lines().zip(0_u64..) {
        let marker = line == "---" || line.starts_with("--- ") || line.starts_with("---\t");
        // A directive belongs to the document that its marker begins.
        let only_directives = current
            .text
            .lines()
            .all(|line| line.is_empty() || line.starts_with('%') || line.starts_with('#'));
        if marker && !only_directives {
            chunks.push(current);
            current = Chunk { lines_before: number, text: String::new() };
        }
        current.text.push_str(line);
        current.text.push('\n');
    }
    let blank = |chunk: &Chunk| {
        chunk.text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
        })
    };
    chunks.push(current);
    chunks.retain(|chunk| !blank(chunk));
    chunks
}

/// The object that a text with a syntax error most likely was about: its `kind`, and the names under
/// `metadata`, if they are written in the usual way.
fn guess_reference(text: &str) -> Option<ObjectReference> {
    let mut kind = None;
    let mut name = None;
    let mut namespace = None;
    let mut in_metadata = false;
    let mut indentation = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = line.len() - trimmed.len();
        let (key, value) = trimmed.split_once(':').unwrap_or((trimmed, ""));
        let value = value.split(" #").next().unwrap_or_default();
        let value = value.trim().trim_matches(|quote| matches!(quote, '"' | '\''));
        if depth == 0 && !trimmed.is_empty() && !trimmed.starts_with('#') {
            in_metadata = key == "metadata";
            indentation = None;
            if key == "kind" {
                kind = kind.or(Some(value));
            }
        } else if in_metadata && depth > 0 && depth == *indentation.get_or_insert(depth) {
            match key {
                "name" => name = name.or(Some(value)),
                "namespace" => namespace = namespace.or(Some(value)),
                _ => {}
            }
        }
    }
    let known = |text: &&str| is_name(text);
    Some(ObjectReference {
        kind: kind.filter(|kind| !kind.is_empty())?.to_owned(),
        namespace: namespace.filter(known).unwrap_or(DEFAULT_NAMESPACE).to_owned(),
        name: name.filter(known)?.to_owned(),
    })
}

/// Where an object is that names no namespace.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The versions of TrafficSplit that are read.
pub(super) const TRAFFIC_SPLIT: [&str; 4] = [
    "split.smi-spec.io/v1alpha1",
    "split.smi-spec.io/v1alpha2",
    "split.smi-spec.io/v1alpha3",
    "split.smi-spec.io/v1alpha4",
];
/// The versions of HTTPRouteGroup that are read.
pub(super) const HTTP_ROUTE_GROUP: [&str; 4] = [
    "specs.smi-spec.io/v1alpha1",
    "specs.smi-spec.io/v1alpha2",
    "specs.smi-spec.io/v1alpha3",
    "specs.smi-spec.io/v1alpha4",
];
/// The versions of HTTPRoute that are read.
pub(super) const HTTP_ROUTE: [&str; 2] =
    ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
/// The versions of GRPCRoute that are read.
pub(super) const GRPC_ROUTE: [&str; 2] =
    ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"];
/// The versions of TCPRoute that are read.
pub(super) const TCP_ROUTE: [&str; 2] =
    ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"];
/// The versions of TLSRoute that are read.
pub(super) const TLS_ROUTE: [&str; 3] = [
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1alpha3",
    "gateway.networking.k8s.io/v1alpha2",
];
/// The versions of ReferenceGrant that are read.
pub(super) const REFERENCE_GRANT: [&str; 3] = [
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1beta1",
    "gateway.networking.k8s.io/v1alpha2",
];
/// The versions of TrafficPolicy that are read.
pub(super) const TRAFFIC_POLICY: [&str; 1] = ["heddle.dev/v1alpha1"];
/// RFC 1123, as Kubernetes has it.
const NAME_LIMIT_BYTES: usize = 253;

#[cfg(test)]
mod tests;
