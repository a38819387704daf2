//! A file of YAML as its documents, and back: a document in which nothing changed keeps its text, comments and all.

use serde_json::Value;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its text with the `---` line that opens it, if any.
    text: String,
    /// What it says; null where there is nothing but comments, and where it cannot be read.
    value: Value,
}

impl Document {
    /// One that holds this object and was never written by anybody.
    pub fn of(object: Value) -> Self {
        let text = print_value(&object).unwrap_or_default();
        Self { text: format!("---\n{}\n", text.trim_end()), value: object }
    }

    /// Its text, with the `---` line that opens it, if any.
    pub fn text(&self) -> &str {
        &self.text
    }

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

/// A file as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Its documents; one that cannot be read has its text, and nothing in it.
    pub documents: Vec<Document>,
    /// Why some cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// A document that is no YAML, or a file that is no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not text: there are no documents at all.
    #[error("the file is not UTF-8 text; the last good version stays")]
    NotText,
    /// Not YAML.
    #[error("document {number} cannot be read: {message}; its last good version stays")]
    NotYaml {
        /// Counted from 1.
        number: usize,
        /// What is wrong where, counted from the start of the document.
        message: String,
    },
}

/// Reads a file; a document that cannot be read does not keep the others from it.
pub fn parse(content: &[u8]) -> File {
    let Ok(text) = std::str::from_utf8(content) else {
        return File { documents: Vec::new(), unreadable: vec![Unreadable::NotText] };
    };
    let mut file = File::default();
    for (index, text) in split(text).into_iter().enumerate() {
        let read = if is_empty(&text) { Ok(Value::Null) } else { serde_saphyr::from_str(&text) };
        let value = read.unwrap_or_else(|error| {
            let message = error.without_snippet().to_string();
            file.unreadable.push(Unreadable::NotYaml { number: index + 1, message });
            Value::Null
        });
        file.documents.push(Document { text, value });
    }
    file
}

/// The file again: the text of a document that is the same in `changed`, YAML anew for one that is not.
pub fn print(documents: &[Document], changed: &[Document]) -> Vec<u8> {
    let mut file = String::new();
    for (before, after) in documents.iter().zip(changed) {
        if !file.is_empty() && !file.ends_with('\n') {
            file.push('\n');
        }
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
            let documents = parse(text.as_bytes()).documents;
            assert_eq!(documents.len(), expected, "case: {case}: {documents:?}");
            assert_eq!(print(&documents, &documents), text.as_bytes(), "case: {case}");
        }
    }

    #[test]
    fn an_error_names_its_document_and_leaves_the_others_readable() {
        let text = "a: 1\n---\nb: [\n---\nc: 3\n";
        let file = parse(text.as_bytes());
        assert!(
            matches!(file.unreadable.as_slice(), [Unreadable::NotYaml { number: 2, .. }]),
            "{file:?}"
        );
        let values: Vec<_> = file.documents.iter().flat_map(Document::objects).collect();
        assert_eq!(values[0]["a"], 1);
        assert_eq!(values[2]["c"], 3);
        assert_eq!(print(&file.documents, &file.documents), text.as_bytes());
        assert_eq!(parse(&[0xff, 0xfe]).unreadable, [Unreadable::NotText]);
    }

    #[test]
    fn a_document_that_is_added_stands_apart_from_an_unfinished_line() {
        let mut documents = parse(b"a: [").documents;
        documents.push(Document::of(serde_json::json!({"b": 2})));
        let printed = print(&documents, &documents);
        let file = parse(&printed);
        assert_eq!(file.unreadable.len(), 1, "{file:?}");
        assert_eq!(file.documents[1].value["b"], 2, "{file:?}");
    }

    #[test]
    fn a_changed_document_leaves_the_others_as_they_were() {
        let documents = parse(b"# first\na: 1\n---\nb: 2 # second\n").documents;
        let mut changed = documents.clone();
        changed[1].value = serde_json::json!({"b": "yes", "c": ["1", 1, true, null]});
        let printed = String::from_utf8(print(&documents, &changed)).unwrap();
        assert!(printed.starts_with("# first\na: 1\n---\n"), "{printed}");
        assert_eq!(parse(printed.as_bytes()).documents[1].value, changed[1].value, "{printed}");
    }

    proptest! {
        #[test]
        fn what_did_not_change_is_printed_as_it_was_read(text in "[ab#:\\-\n ]{0,60}") {
            let documents = parse(text.as_bytes()).documents;
            prop_assert_eq!(print(&documents, &documents), text.as_bytes());
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
