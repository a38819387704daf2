//! Dashboards of Grafana: their panels' expressions, and what Grafana needs of them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::files;
use super::queries::{Query, following};

/// All expressions of a dashboard: of its panels, and of its variables.
pub fn queries(name: &str) -> Result<Vec<Query>> {
    let dashboard = read(name)?;
    let mut queries = Vec::new();
    for panel in files::list(&dashboard, "/panels")? {
        let title = files::string(panel, "/title")?;
        for target in panel.get("targets").and_then(Value::as_array).into_iter().flatten() {
            let legend = files::string(target, "/legendFormat")?;
            queries.push(Query {
                place: format!("{name}: {title}"),
                expression: without_variables(files::string(target, "/expr")?),
                named: following(legend, "{{"),
                record: None,
            });
        }
    }
    for variable in variables(&dashboard)? {
        let Some(asked) = variable.pointer("/query/query").and_then(Value::as_str) else {
            continue;
        };
        let parts = asked.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = parts
            .and_then(|parts| parts.rsplit_once(", "))
            .with_context(|| format!("{name}: {asked} is no label_values(SELECTOR, LABEL)"))?;
        queries.push(Query {
            place: format!("{name}: {asked}"),
            expression: without_variables(selector),
            named: BTreeSet::from([label.to_owned()]),
            record: None,
        });
    }
    Ok(queries)
}

/// Fails with the first thing that Grafana would not take, or would show wrongly.
pub fn check(name: &str) -> Result<()> {
    let dashboard = read(name)?;
    let stem = name.rsplit('/').next().and_then(|file| file.strip_suffix(".json"));
    ensure!(
        dashboard.pointer("/uid").and_then(Value::as_str) == stem,
        "{name}: the uid is another"
    );
    ensure!(dashboard.get("id") == Some(&Value::Null), "{name}: an id is the importing Grafana's");
    ensure!(dashboard.get("schemaVersion") == Some(&json!(39)), "{name}: schemaVersion");
    ensure!(files::list(&dashboard, "/tags")? == &[json!("heddle")], "{name}: tags");
    files::string(&dashboard, "/title")?;
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for variable in variables(&dashboard)? {
        known.insert(files::string(variable, "/name")?);
    }
    let first = variables(&dashboard)?.first().with_context(|| format!("{name}: no variable"))?;
    ensure!(
        (files::string(first, "/type")?, files::string(first, "/query")?)
            == ("datasource", "prometheus"),
        "{name}: the first variable is the data source"
    );
    let mut ids = BTreeSet::new();
    let mut taken: BTreeSet<(u64, u64)> = BTreeSet::new();
    for panel in files::list(&dashboard, "/panels")? {
        let title = files::string(panel, "/title")?;
        let id =
            panel.get("id").and_then(Value::as_u64).with_context(|| format!("{title}: no id"))?;
        ensure!(ids.insert(id), "{name}: {title}: the id {id} is there twice");
        place(panel, &mut taken).with_context(|| format!("{name}: {title}"))?;
        check_panel(panel, &known).with_context(|| format!("{name}: {title}"))?;
    }
    ensure!(ids.len() > 10, "{name} has only {} panels", ids.len());
    Ok(())
}

fn check_panel(panel: &Value, known: &BTreeSet<&str>) -> Result<()> {
    let kind = files::string(panel, "/type")?;
    if kind == "row" {
        return Ok(());
    }
    ensure!(["stat", "table", "timeseries"].contains(&kind), "a {kind}");
    ensure!(panel.get("datasource") == Some(&source()), "its data source is no variable");
    files::string(panel, "/fieldConfig/defaults/unit")
        .or_else(|_| files::string(panel, "/fieldConfig/overrides/0/properties/0/value"))?;
    let mut references = BTreeSet::new();
    let targets = files::list(panel, "/targets")?;
    ensure!(!targets.is_empty(), "it asks for nothing");
    for target in targets {
        ensure!(target.get("datasource") == Some(&source()), "a target's data source");
        ensure!(references.insert(files::string(target, "/refId")?), "a refId is there twice");
        for variable in following(files::string(target, "/expr")?, "$") {
            let is_there = known.contains(variable.as_str()) || variable.starts_with("__");
            ensure!(is_there, "there is no variable {variable}");
        }
    }
    Ok(())
}

/// Grafana's grid is 24 wide; two panels in one place would push each other away.
fn place(panel: &Value, taken: &mut BTreeSet<(u64, u64)>) -> Result<()> {
    let number = |name: &str| {
        panel.pointer(&format!("/gridPos/{name}")).and_then(Value::as_u64).context(name.to_owned())
    };
    let (x, y, width, height) = (number("x")?, number("y")?, number("w")?, number("h")?);
    ensure!(width > 0 && height > 0 && x + width <= 24, "it does not fit into the grid");
    for column in x..x + width {
        for line in y..y + height {
            ensure!(taken.insert((column, line)), "something else is at {column}, {line}");
        }
    }
    Ok(())
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn read(name: &str) -> Result<Value> {
    serde_json::from_str(&files::text(name)?).with_context(|| name.to_owned())
}

fn variables(dashboard: &Value) -> Result<&Vec<Value>> {
    files::list(dashboard, "/templating/list")
}

/// Durations stand for Grafana's own variables. Others are within strings, where a `$` is allowed.
fn without_variables(text: &str) -> String {
    text.replace("$__rate_interval", "5m").replace("$__range", "1h")
}
