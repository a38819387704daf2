//! Edges for people. Pure.

use heddle_report::edges::{self, Edge, EdgesReport};

use crate::output::Colour;
use crate::table::{self, Cell};

/// How many columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Identities as `namespace/account`.
    Usual,
    /// Identities as in certificates, and counts.
    Wide,
}

/// The edges as a table.
pub fn table(report: &EdgesReport, width: Width, no_headers: bool, colour: Colour) -> String {
    let mut header = vec!["SRC", "DST", "CLIENT", "SERVER", "SECURED"];
    if width == Width::Wide {
        header.extend(["REQUESTS", "CONNECTIONS"]);
    }
    let rows: Vec<Vec<Cell>> = report.edges.iter().map(|edge| row(edge, width)).collect();
    let text = table::render(&header, &rows, colour);
    match text.split_once('\n') {
        Some((_, rows)) if no_headers => rows.to_owned(),
        Some(_) | None => text,
    }
}

fn row(edge: &Edge, width: Width) -> Vec<Cell> {
    let named = |identity: &String| match (width, edges::short(identity)) {
        (Width::Usual, Some((namespace, account))) => format!("{namespace}/{account}"),
        (Width::Usual, None) | (Width::Wide, _) => identity.clone(),
    };
    let list = |identities: &[String]| match identities {
        [] => "-".to_owned(),
        identities => identities.iter().map(named).collect::<Vec<_>>().join(", "),
    };
    let client = std::slice::from_ref(&edge.client_identity);
    let client = if edge.client_identity.is_empty() { &[] } else { client };
    let mut cells = vec![
        Cell::plain(edge.source_title()),
        Cell::plain(edge.destination_title()),
        Cell::plain(list(client)),
        Cell::plain(list(&edge.server_identities)),
        if edge.secured { Cell::good("yes") } else { Cell::bad(format!("no: {}", edge.reason)) },
    ];
    if width == Width::Wide {
        cells.push(Cell::plain(edge.requests.to_string()));
        cells.push(Cell::plain(edge.connections.to_string()));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::tests;

    #[test]
    fn edges_read_at_a_glance() {
        let shown = |width, no_headers| table(&tests::report(), width, no_headers, Colour::Never);
        insta::assert_snapshot!(shown(Width::Usual, false), @"
        SRC                       DST                   CLIENT         SERVER    SECURED
        -                         shop/deployment/api   -              shop/api  no: the client has no proxy
        batch/serviceaccount/job  shop/deployment/api   batch/job      shop/api  yes
        shop/deployment/frontend  passthrough           shop/frontend  -         no: the server is outside of the mesh
        shop/deployment/frontend  shop/service/api:80   shop/frontend  shop/api  yes
        shop/deployment/frontend  shop/service/half:80  shop/frontend  shop/api  no: 4 of 10 were not: 1 of 2 servers have no proxy
        shop/deployment/frontend  shop/service/old:80   shop/frontend  -         no: the server has no proxy
        ");
        insta::assert_snapshot!(shown(Width::Wide, true), @"
        -                         shop/deployment/api   -                                           spiffe://cluster.local/ns/shop/sa/api  no: the client has no proxy                         2         0
        batch/serviceaccount/job  shop/deployment/api   spiffe://cluster.local/ns/batch/sa/job      spiffe://cluster.local/ns/shop/sa/api  yes                                                 7         0
        shop/deployment/frontend  passthrough           spiffe://cluster.local/ns/shop/sa/frontend  -                                      no: the server is outside of the mesh               1         0
        shop/deployment/frontend  shop/service/api:80   spiffe://cluster.local/ns/shop/sa/frontend  spiffe://cluster.local/ns/shop/sa/api  yes                                                 100       0
        shop/deployment/frontend  shop/service/half:80  spiffe://cluster.local/ns/shop/sa/frontend  spiffe://cluster.local/ns/shop/sa/api  no: 4 of 10 were not: 1 of 2 servers have no proxy  10        0
        shop/deployment/frontend  shop/service/old:80   spiffe://cluster.local/ns/shop/sa/frontend  -                                      no: the server has no proxy                         5         0
        ");
    }
}
