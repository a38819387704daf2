//! Reads objects for tests, as a source would.

use heddle_model::names::ObjectReference;
use serde::de::DeserializeOwned;

use crate::source::node::Node;
use crate::source::{Object, document, reader};

/// The first object of a text, as its own type.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> (ObjectReference, T) {
    let reference = object(text).reference;
    (reference, reader::read(&Node::parse(text).unwrap()).unwrap())
}

/// The first object of a text.
pub(crate) fn object(text: &str) -> Object {
    let content = document::read_file("test.yaml", text);
    assert_eq!(content.failures, [], "{text}");
    content.objects.into_iter().next().unwrap()
}
