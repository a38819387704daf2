//! How objects are printed. Pure.

use serde_json::{Value, json};

use super::arguments::ObjectFormat;
use crate::chart::manifest::{self, Manifest};
use crate::failure::Failure;
use crate::output::Colour;
use crate::table::{self, Cell};

/// The objects themselves.
pub fn objects(
    manifests: &[Manifest],
    format: ObjectFormat,
    colour: Colour,
) -> Result<String, Failure> {
    match format {
        ObjectFormat::Yaml => Ok(manifest::print(manifests)),
        ObjectFormat::Json => list(manifests.iter().map(|manifest| &manifest.object)),
        ObjectFormat::Name => {
            Ok(manifests.iter().map(|manifest| format!("{}\n", manifest.id())).collect())
        }
        ObjectFormat::Wide => Ok(wide(manifests, colour)),
    }
}

/// What would be applied, said as kubectl says it.
pub fn tried(
    manifests: &[Manifest],
    format: ObjectFormat,
    colour: Colour,
) -> Result<String, Failure> {
    if format != ObjectFormat::Name {
        return objects(manifests, format, colour);
    }
    let line = |manifest: &Manifest| format!("{} applied (client dry run)\n", manifest.id());
    Ok(manifests.iter().map(line).collect())
}

/// One `List`, as JSON.
pub fn list<'a>(objects: impl Iterator<Item = &'a Value>) -> Result<String, Failure> {
    let items: Vec<&Value> = objects.collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let text = serde_json::to_string_pretty(&list).map_err(|error| {
        Failure::new("cannot write the objects as JSON", "report this as a bug of meshctl")
            .because(&error)
    })?;
    Ok(text + "\n")
}

fn wide(manifests: &[Manifest], colour: Colour) -> String {
    let rows: Vec<Vec<Cell>> = manifests
        .iter()
        .map(|manifest| {
            let id = manifest.id();
            vec![
                Cell::plain(id.kind.short_name()),
                Cell::plain(id.namespace.unwrap_or_default()),
                Cell::plain(id.name),
                Cell::plain(manifest.file.clone()),
            ]
        })
        .collect();
    table::render(&["KIND", "NAMESPACE", "NAME", "SOURCE"], &rows, colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::plan;

    #[test]
    fn objects_are_printed_in_every_format() {
        let manifests = plan::manifests(&json!({}), "heddle-system").unwrap();
        let print = |format| objects(&manifests, format, Colour::Never).unwrap();
        insta::assert_snapshot!(print(ObjectFormat::Wide));
        let list: Value = serde_json::from_str(&print(ObjectFormat::Json)).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), manifests.len());
        assert_eq!(print(ObjectFormat::Name).lines().next(), Some("namespace/heddle-system"));
        let yaml = print(ObjectFormat::Yaml);
        assert_eq!(yaml.matches("\n---\n").count() + 1, manifests.len(), "one document for each");
        let tried = tried(&manifests, ObjectFormat::Name, Colour::Never).unwrap();
        assert!(tried.starts_with("namespace/heddle-system applied (client dry run)\n"), "{tried}");
    }
}
