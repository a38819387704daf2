//! The schemas in `docs/schema` are those of what meshctl prints for machines. `UPDATE_SCHEMAS=1` writes them anew.
#![expect(clippy::unwrap_used, reason = "a schema that cannot be read fails its test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use heddle_local::status::LocalStatus;
use heddle_report::edges::EdgesReport;
use heddle_report::identity::IdentityReport;
use heddle_report::proxy::{ConfigReport, ProxyReport};
use heddle_report::routes::RoutesReport;
use heddle_report::stat::StatReport;
use heddle_report::status::StatusReport;
use heddle_report::tap::Line;
use meshctl::check::finding::Finding;
use meshctl::demo::summary::Summary;
use meshctl::split::report::SplitsReport;
use meshctl::top::report::TopReport;
use meshctl::trace::report::TraceReport;
use meshctl::why::report::WhyReport;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema")
}

/// Of what is written, not of what could be read: all fields that are always there are required.
fn schema_of<T: JsonSchema>() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<T>();
    format!("{}\n", serde_json::to_string_pretty(&schema).unwrap())
}

fn all() -> Vec<(&'static str, String)> {
    vec![
        ("check", schema_of::<Vec<Finding>>()),
        ("demo", schema_of::<Summary>()),
        ("edges", schema_of::<EdgesReport>()),
        ("identity", schema_of::<IdentityReport>()),
        ("local-status", schema_of::<LocalStatus>()),
        ("proxy-config", schema_of::<ConfigReport>()),
        ("proxy-status", schema_of::<Vec<ProxyReport>>()),
        ("routes", schema_of::<RoutesReport>()),
        ("split", schema_of::<SplitsReport>()),
        ("stat", schema_of::<StatReport>()),
        ("status", schema_of::<StatusReport>()),
        ("tap", schema_of::<Line>()),
        ("top", schema_of::<TopReport>()),
        ("trace", schema_of::<TraceReport>()),
        ("why", schema_of::<WhyReport>()),
    ]
}

#[test]
fn the_schemas_in_the_documents_are_those_of_what_is_printed() {
    for (name, schema) in all() {
        let file = folder().join(format!("{name}.json"));
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&file, &schema).unwrap();
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == schema,
            "{} is not what is printed: a field that goes or changes breaks those who read it; for one that is \
             new, run `UPDATE_SCHEMAS=1 cargo test -p meshctl --test schemas`",
            file.display()
        );
    }
}

#[test]
fn no_schema_is_of_nothing() {
    let files = std::fs::read_dir(folder()).unwrap();
    let files = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    let files: BTreeSet<String> = files.filter(|name| name.ends_with(".json")).collect();
    let known = all().into_iter().map(|(name, _)| format!("{name}.json")).collect();
    assert_eq!(files, known);
}
