//! Every expression below `install/observability`, with where it is, and what it is held against.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::catalog::{Catalog, Labels};
use super::{dashboards, expression, files};

/// An expression.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its file, and what it is for there.
    pub place: String,
    /// In PromQL, without variables of Grafana.
    pub expression: String,
    /// Labels that the text beside it names, which its result must have.
    pub named: Labels,
    /// The name under which a rule records it.
    pub record: Option<String>,
}

/// All of them: rules, recorded ones first, then dashboards.
pub fn all() -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for rule in rules()? {
        queries.push(of_rule(&rule)?);
    }
    queries.sort_by_key(|query| query.record.is_none());
    for name in files::below(files::DASHBOARDS, ".json")? {
        queries.extend(dashboards::queries(&name)?);
    }
    Ok(queries)
}

/// All rules, as they are in their files.
pub fn rules() -> Result<Vec<Value>> {
    let mut rules = Vec::new();
    for name in files::below(files::RULES, ".yaml")? {
        let file = files::only(&name)?;
        for group in files::list(&file, "/groups")? {
            rules.extend(files::list(group, "/rules")?.iter().cloned());
        }
    }
    Ok(rules)
}

/// What is wrong with them, given these metrics; what rules record is among the metrics.
pub fn wrong(queries: &[Query], catalog: &Catalog) -> Vec<String> {
    let mut catalog = catalog.clone();
    let mut wrong = Vec::new();
    for query in queries {
        match check(query, &catalog) {
            Ok(labels) => {
                if let Some(record) = &query.record {
                    catalog.add(record, labels);
                }
            }
            Err(error) => wrong.push(format!("{}: {error:#}", query.place)),
        }
    }
    wrong
}

fn check(query: &Query, catalog: &Catalog) -> Result<Labels> {
    let labels = expression::labels(&query.expression, catalog)?.context("a number, no series")?;
    let missing: Vec<&String> = query.named.difference(&labels).collect();
    ensure!(missing.is_empty(), "its text names {missing:?}, and its result has {labels:?}");
    Ok(labels)
}

fn of_rule(rule: &Value) -> Result<Query> {
    let expression = files::string(rule, "/expr")?.to_owned();
    let record = rule.get("record").and_then(Value::as_str).map(ToOwned::to_owned);
    let name = record.as_deref().or_else(|| rule.get("alert").and_then(Value::as_str));
    let texts = rule.get("annotations").map(Value::to_string).unwrap_or_default();
    Ok(Query {
        place: format!("rule {}", name.context("a rule without a name")?),
        expression,
        named: following(&texts, "$labels."),
        record,
    })
}

/// The names after each of these marks.
pub(super) fn following(text: &str, mark: &str) -> Labels {
    let name = |rest: &str| {
        let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        rest.chars().take_while(is_name).collect::<String>()
    };
    text.split(mark).skip(1).map(name).filter(|name| !name.is_empty()).collect()
}
