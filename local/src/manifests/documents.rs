//! A file of YAML as its documents, and back: a document in which nothing changed keeps its text, comments and all.

use serde_json::Value;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its text with the `---` line that opens it, if any.
    text: String,
    /// What it says; null where there is nothing but comments.
    value: Value,
}

impl Document {
    /// The objects in it: one, or the items of a `List`.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        let items = self.value.get("items").filter(|_| is_list(&self.value));
        match items.and_then(Value::as_array) {
            Some(items) => items.iter(),
            None => std::slice::from_ref(&self.value).iter(),
        }
    }

    /// As [`Document::objects`], to be filled in.
    pub fn objects_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let list = is_list(&self.value) && self.value.get("items").is_some_and(Value::is_array);
        if list {
            self.value
                .get_mut("items")
                .and_then(Value::as_array_mut)
                .map_or_else(|| [].iter_mut(), |items| items.iter_mut())
        } else {
            std::slice::from_mut(&mut self.value).iter_mut()
        }
    }
}

/// A file that is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not text.
    #[error("the file is not UTF-8 text; the last good version stays")]
    NotText,
    /// Not YAML.
    #[error("document {number} cannot be read: {message}; the last good version stays")]
    NotYaml {
        /// Counted from 1.
        number: usize,
        /// What is wrong where, counted from the start of the document.
        message: String,
    },
}

/// Reads a file.
pub fn parse(content: &[u8]) -> Result<Vec<Document>, Unreadable> {
    let text = std::str::from_utf8(content).map_err(|_not_text| Unreadable::NotText)?;
    split(text)
        .into_iter()
        .enumerate()
        .map(|(index, text)| {
            let value = if is_empty(&text) {
                Value::Null
            } else {
                serde_saphyr::from_str(&text).map_err(|error| Unreadable::NotYaml {
                    number: index + 1,
                    message: error.without_snippet().to_string(),
                })?
            };
            Ok(Document { text, value })
        })
        .collect()
}

/// The file again: the text of a document that is the same in `changed`, YAML anew for one that is not.
pub fn print(documents: &[Document], changed: &[Document]) -> Vec<u8> {
    let mut file = String::new();
    for (before, after) in documents.iter().zip(changed) {
        match print_value(&after.value) {
            Some(yaml) if before.value != after.value => {
                file.push_str("---\n");
                file.push_str(&yaml);
                if !yaml.ends_with('\n') {
                    file.push('\n');
                }
            }
            _ => file.push_str(&before.text),
        }
    }
    file.into_bytes()
}

/// One object as a document of its own.
pub fn print_value(value: &Value) -> Option<String> {
    // JSON is YAML: what the printer of YAML cannot print is still printed.
    serde_saphyr::to_string(value).or_else(|_| serde_json::to_string_pretty(value)).ok()
}

/// Cuts before every `---` line, which YAML does not allow within a document, not even in a block of text.
fn split(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let opens = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']));
        match parts.last_mut() {
            // A `---` after nothing but comments opens the first document; it does not close an empty one.
            Some(part) if !opens || (is_empty(part) && !part.starts_with("---")) => {
                part.push_str(line)
            }
            _ => parts.push(line.to_owned()),
        }
    }
    parts
}

fn is_empty(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.strip_prefix("---").unwrap_or(line).trim();
        line.is_empty() || line.starts_with('#')
    })
}

fn is_list(value: &Value) -> bool {
    value.get("kind").and_then(Value::as_str) == Some("List")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn documents_are_cut_at_their_marks() {
        for (case, text, expected) in [
            ("empty", "", 1),
            ("one without a mark", "a: 1\n", 1),
            ("one with a mark", "---\na: 1\n", 1),
            ("comment before the mark", "# hello\n---\na: 1\n", 1),
            ("two", "a: 1\n---\nb: 2\n", 2),
            ("content on the mark's line", "--- {a: 1}\n--- {b: 2}", 2),
            ("a longer rule is text", "a: |\n  x\n  ----\n", 1),
            ("an empty one between", "a: 1\n---\n---\nb: 2\n", 3),
        ] {
            let documents = parse(text.as_bytes()).unwrap();
            assert_eq!(documents.len(), expected, "case: {case}: {documents:?}");
            assert_eq!(print(&documents, &documents), text.as_bytes(), "case: {case}");
        }
    }

    #[test]
    fn an_error_names_its_document() {
        let error = parse(b"a: 1\n---\nb: [\n").unwrap_err();
        assert!(matches!(error, Unreadable::NotYaml { number: 2, .. }), "{error}");
        assert_eq!(parse(&[0xff, 0xfe]), Err(Unreadable::NotText));
    }

    #[test]
    fn a_changed_document_leaves_the_others_as_they_were() {
        let documents = parse(b"# first\na: 1\n---\nb: 2 # second\n").unwrap();
        let mut changed = documents.clone();
        changed[1].value = serde_json::json!({"b": "yes", "c": ["1", 1, true, null]});
        let printed = String::from_utf8(print(&documents, &changed)).unwrap();
        assert!(printed.starts_with("# first\na: 1\n---\n"), "{printed}");
        assert_eq!(parse(printed.as_bytes()).unwrap()[1].value, changed[1].value, "{printed}");
    }

    proptest! {
        #[test]
        fn what_did_not_change_is_printed_as_it_was_read(text in "[ab#:\\-\n ]{0,60}") {
            if let Ok(documents) = parse(text.as_bytes()) {
                prop_assert_eq!(print(&documents, &documents), text.as_bytes());
            }
        }

        #[test]
        fn printed_text_is_read_as_it_was(text in "\\PC{0,40}", lines in "[a-z:# \n\t'\"\\-]{0,40}") {
            let value = serde_json::json!({"text": text, "lines": lines, "list": [lines, text]});
            let printed = print_value(&value).unwrap();
            let read: Value = serde_saphyr::from_str(&printed).unwrap();
            prop_assert_eq!(read, value, "{}", printed);
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
