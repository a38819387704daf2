//! Tables as command lines print them: aligned columns, no lines. Pure.

use crate::output::{Colour, Page};

/// One field of a row. How it is painted does not count for its width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    paint: Paint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Plain,
    Good,
    Bad,
}

impl Cell {
    /// Neither good nor bad.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), paint: Paint::Plain }
    }

    /// As it should be.
    pub fn good(text: impl Into<String>) -> Self {
        Self { text: text.into(), paint: Paint::Good }
    }

    /// Needs somebody.
    pub fn bad(text: impl Into<String>) -> Self {
        Self { text: text.into(), paint: Paint::Bad }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn painted(&self, colour: Colour) -> String {
        match self.paint {
            Paint::Plain => self.text.clone(),
            Paint::Good => colour.good(&self.text),
            Paint::Bad => colour.bad(&self.text),
        }
    }
}

/// Renders rows under a header, two spaces between columns, no spaces at line ends.
pub fn render(header: &[&str], rows: &[Vec<Cell>], colour: Colour) -> String {
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(Cell::width).chain([title.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let titles = header.iter().map(|title| (colour.dim(title), title.chars().count()));
    let mut text = line(titles, &widths);
    for row in rows {
        text.push_str(&line(row.iter().map(|cell| (cell.painted(colour), cell.width())), &widths));
    }
    text
}

/// Renders a table of a page.
pub fn of_page(header: &[&str], rows: &[Vec<Cell>], page: Page) -> String {
    headed(render(header, rows, page.colour), page.no_headers)
}

/// A table without its line of column names, where that is not wanted (`--no-headers`).
pub fn headed(table: String, no_headers: bool) -> String {
    match table.split_once('\n') {
        Some((_, rows)) if no_headers => rows.to_owned(),
        Some(_) | None => table,
    }
}

/// Pads each part, given with its visible width, to its column.
fn line(parts: impl Iterator<Item = (String, usize)>, widths: &[usize]) -> String {
    let mut text = String::new();
    let mut owed = 0;
    for ((part, width), column) in parts.zip(widths) {
        if width > 0 {
            text.push_str(&" ".repeat(owed));
            text.push_str(&part);
            owed = 0;
        }
        owed += column.saturating_sub(width) + 2;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![Cell::plain("default/api"), Cell::good("ok"), Cell::plain("")],
            vec![Cell::plain("x"), Cell::plain(""), Cell::bad("no")],
        ]
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let text = render(&["NAME", "STATE", "REASON"], &rows(), Colour::Never);
        insta::assert_snapshot!(text, @"
        NAME         STATE  REASON
        default/api  ok
        x                   no
        ");
    }

    #[test]
    fn the_line_of_names_can_be_left_out() {
        let table = render(&["NAME", "STATE", "REASON"], &rows(), Colour::Never);
        assert_eq!(headed(table.clone(), false), table);
        assert_eq!(headed(table, true).lines().next(), Some("default/api  ok"));
        assert_eq!(headed("There is nothing.".to_owned(), true), "There is nothing.");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let coloured = render(&["NAME", "STATE", "REASON"], &rows(), Colour::Ansi);
        let mut plain = coloured.clone();
        for code in ["\u{1b}[0m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m"] {
            plain = plain.replace(code, "");
        }
        assert_ne!(coloured, plain);
        assert_eq!(plain, render(&["NAME", "STATE", "REASON"], &rows(), Colour::Never));
    }
}
