//! An expression of PromQL against the metrics that there are: whether it names only these and their labels, and which labels
//! its result has.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use promql_parser::parser::token::{T_LAND, T_LUNLESS};
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector,
    parse,
};

use super::catalog::{Catalog, Labels};

/// The labels that the result's series may have; `None` for a number. Fails, with what is wrong, where the expression names a
/// metric or a label that is not there.
pub fn labels(text: &str, catalog: &Catalog) -> Result<Option<Labels>> {
    let expression =
        parse(text).map_err(|error| anyhow!(error)).with_context(|| text.to_owned())?;
    of(&expression, catalog).with_context(|| text.to_owned())
}

fn of(expression: &Expr, catalog: &Catalog) -> Result<Option<Labels>> {
    match expression {
        Expr::Aggregate(aggregate) => of_aggregate(aggregate, catalog).map(Some),
        Expr::Unary(unary) => of(&unary.expr, catalog),
        Expr::Binary(binary) => of_binary(binary, catalog),
        Expr::Paren(paren) => of(&paren.expr, catalog),
        Expr::Subquery(subquery) => of(&subquery.expr, catalog),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(None),
        Expr::VectorSelector(selector) => of_selector(selector, catalog).map(Some),
        Expr::MatrixSelector(matrix) => of_selector(&matrix.vs, catalog).map(Some),
        Expr::Call(call) => of_call(call, catalog),
        Expr::Extension(_) => bail!("an extension of PromQL"),
    }
}

fn of_selector(selector: &VectorSelector, catalog: &Catalog) -> Result<Labels> {
    let name = selector.name.as_deref().context("a selector without a metric")?;
    let labels = catalog.labels(name)?;
    ensure!(selector.matchers.or_matchers.is_empty(), "a selector with `or`");
    for matcher in &selector.matchers.matchers {
        ensure!(labels.contains(&matcher.name), "{name} has no label {}", matcher.name);
    }
    Ok(labels.clone())
}

fn of_call(call: &Call, catalog: &Catalog) -> Result<Option<Labels>> {
    let mut found = None;
    for argument in &call.args.args {
        if let Some(labels) = of(argument, catalog)? {
            found = Some(labels);
        }
    }
    match call.func.name {
        "time" | "scalar" => Ok(None),
        "vector" | "absent" => Ok(Some(Labels::new())),
        "histogram_quantile" => {
            let mut labels = found.context("a quantile of nothing")?;
            ensure!(labels.remove("le"), "a quantile of what has no label le");
            Ok(Some(labels))
        }
        "rate" | "increase" | "max_over_time" | "round" => Ok(found),
        other => bail!("what labels {other}() leaves is not known here"),
    }
}

fn of_aggregate(aggregate: &AggregateExpr, catalog: &Catalog) -> Result<Labels> {
    let inner = of(&aggregate.expr, catalog)?.context("a number cannot be aggregated")?;
    match &aggregate.modifier {
        None => Ok(Labels::new()),
        Some(LabelModifier::Include(by)) => {
            let by: Labels = by.labels.iter().cloned().collect();
            all_in(&by, &inner)?;
            Ok(by)
        }
        Some(LabelModifier::Exclude(without)) => {
            let without: Labels = without.labels.iter().cloned().collect();
            all_in(&without, &inner)?;
            Ok(inner.difference(&without).cloned().collect())
        }
    }
}

fn of_binary(binary: &BinaryExpr, catalog: &Catalog) -> Result<Option<Labels>> {
    let (left, right) = match (of(&binary.lhs, catalog)?, of(&binary.rhs, catalog)?) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return Ok(left.or(right)),
    };
    let modifier = binary.modifier.as_ref();
    let matching = modifier.and_then(|modifier| modifier.matching.as_ref());
    if let Some(matching) = matching {
        let named: Labels = matching.labels().labels.iter().cloned().collect();
        // `ignoring` may name what one side alone has.
        let both: Labels = left.union(&right).cloned().collect();
        all_in(&named, if matching.is_include() { &left } else { &both })?;
        all_in(&named, if matching.is_include() { &right } else { &both })?;
    }
    if binary.op.is_set_operator() {
        let keeps_left = [T_LAND, T_LUNLESS].contains(&binary.op.id());
        return Ok(Some(if keeps_left { left } else { left.union(&right).cloned().collect() }));
    }
    let many = modifier.map(|modifier| &modifier.card);
    match (matching, many) {
        (_, Some(VectorMatchCardinality::ManyToOne(more))) => {
            Ok(Some(left.into_iter().chain(more.labels.iter().cloned()).collect()))
        }
        (_, Some(VectorMatchCardinality::OneToMany(more))) => {
            Ok(Some(right.into_iter().chain(more.labels.iter().cloned()).collect()))
        }
        (Some(LabelModifier::Include(on)), _) => Ok(Some(on.labels.iter().cloned().collect())),
        (Some(LabelModifier::Exclude(ignored)), _) => {
            Ok(Some(left.into_iter().filter(|label| !ignored.labels.contains(label)).collect()))
        }
        (None, _) => {
            // Other labels on either side match nothing, ever.
            ensure!(left == right, "{left:?} and {right:?} do not match");
            Ok(Some(left))
        }
    }
}

fn all_in(wanted: &Labels, there: &Labels) -> Result<()> {
    let missing: Vec<&String> = wanted.difference(there).collect();
    ensure!(missing.is_empty(), "the labels {missing:?} are not among {there:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<Option<Vec<String>>> {
        let mut catalog = Catalog::default();
        let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        catalog.add("a_total", labels(&["x", "y"]));
        catalog.add("b", labels(&["x"]));
        catalog.add("c_bucket", labels(&["x", "le"]));
        Ok(super::labels(text, &catalog)?.map(|labels| labels.into_iter().collect()))
    }

    #[test]
    fn the_labels_of_a_result_are_known() {
        for (text, expected) in [
            ("a_total", &["x", "y"][..]),
            ("sum(a_total)", &[]),
            ("sum by (x) (rate(a_total{y=\"1\"}[5m]))", &["x"]),
            ("sum without (x) (a_total)", &["y"]),
            ("histogram_quantile(0.5, sum by (x, le) (rate(c_bucket[5m])))", &["x"]),
            ("a_total / on (x) group_left () b", &["x", "y"]),
            ("sum by (x) (a_total) / b > 0", &["x"]),
            ("b - time()", &["x"]),
            ("a_total and on (x) b", &["x", "y"]),
            ("sum(b) or vector(0)", &[]),
            ("max_over_time(b[1d:10m])", &["x"]),
        ] {
            let expected = Some(expected.iter().map(|label| (*label).to_owned()).collect());
            assert_eq!(judged(text).unwrap(), expected, "case: {text}");
        }
        assert_eq!(judged("1 + 2").unwrap(), None);
    }

    #[test]
    fn what_is_not_there_is_found() {
        for text in [
            "d",
            "{x=\"1\"}",
            "b{y=\"1\"}",
            "sum by (z) (a_total)",
            "sum without (z) (a_total)",
            "sum by (x, y) (b)",
            "histogram_quantile(0.5, sum by (x) (rate(c_bucket[5m])))",
            "a_total / b",
            "a_total / on (y) b",
            "a_total and on (y) b",
            "sum(a_total",
            "label_replace(b, \"z\", \"$1\", \"x\", \"(.*)\")",
        ] {
            assert!(judged(text).is_err(), "case: {text}");
        }
    }
}
