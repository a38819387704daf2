//! What the live screen looks like. Pure.

use std::time::Duration;

use heddle_runtime::duration;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Wrap};

use crate::terminal::Paint;
use crate::top::Told;
use crate::top::arguments::Column;
use crate::top::keys::State;
use crate::top::render::{latency, rate, success};
use crate::top::report::{TopReport, TopRow};
use crate::top::spark::{self, Sparks};

/// What there is to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What was told last.
    pub told: &'a Told,
    /// How long ago that was.
    pub silent: Duration,
}

/// Draws it, and tells how many rows have room.
pub fn draw(frame: &mut Frame<'_>, scene: Scene<'_>, state: &mut State, paint: Paint) -> usize {
    let [title, notice, table, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let report = &scene.told.report;
    let rows = state.rows(report);
    let room = usize::from(table.height.saturating_sub(1));
    state.keep_within(rows.len(), room);
    frame.render_widget(headline(report, rows.len(), state, paint), title);
    frame.render_widget(news(scene, state, paint), notice);
    match (&scene.told.hint, rows.is_empty()) {
        (Some(hint), true) => {
            frame.render_widget(Paragraph::new(hint.as_str()).wrap(Wrap { trim: true }), table);
        }
        (None, true) => frame.render_widget("no name has that in it; Escape shows all", table),
        (_, false) => draw_table(frame, table, (report, &rows), (state, paint)),
    }
    frame.render_widget(foot(state, rows.len(), room, paint), keys);
    room
}

fn headline(report: &TopReport, shown: usize, state: &State, paint: Paint) -> Line<'static> {
    let place = match &report.namespace {
        Some(namespace) => format!("namespace {namespace}"),
        None => "all namespaces".to_owned(),
    };
    let window = duration::Text(Duration::from_secs(report.window_seconds));
    let mut spans = vec![
        Span::styled("meshctl top  ", paint.bold()),
        Span::raw(format!("{}s of {place}, last {window}", report.by)),
    ];
    if !state.filter.is_empty() {
        let all = report.rows.len();
        spans.push(Span::raw(format!(", {shown} of {all} with \"{}\"", state.filter)));
    }
    Line::from(spans)
}

/// What is wrong, if something is, and whether it stands still.
fn news(scene: Scene<'_>, state: &State, paint: Paint) -> Line<'static> {
    let mut spans = Vec::new();
    if state.paused {
        spans.push(Span::styled("PAUSED  ", paint.bold()));
    }
    if let Some(trouble) = &scene.told.trouble {
        let text = format!("{} s old: {trouble}", scene.silent.as_secs());
        spans.push(Span::styled(text, paint.bad()));
    } else if let Some(hint) = scene.told.hint.as_ref().filter(|hint| hint.starts_with("warning")) {
        spans.push(Span::styled(hint.clone(), paint.bad()));
    }
    Line::from(spans)
}

fn foot(state: &State, rows: usize, room: usize, paint: Paint) -> Line<'static> {
    if state.typing {
        return Line::from(vec![
            Span::styled("filter: ", paint.bold()),
            Span::raw(format!("{}▏", state.filter)),
            Span::styled("  Enter keeps it, Escape drops it", paint.dim()),
        ]);
    }
    let below = rows.saturating_sub(state.above.saturating_add(room));
    let more = match (state.above, below) {
        (0, 0) => String::new(),
        (above, below) => format!("  ({above} above, {below} below)"),
    };
    let keys = "q quit  ←→ sort  i invert  / filter  space pause  ↑↓ rows";
    Line::from(vec![Span::styled(keys, paint.dim()), Span::raw(more)])
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    (report, rows): (&TopReport, &[&TopRow]),
    (state, paint): (&State, Paint),
) {
    let labels: Vec<String> =
        rows.iter().map(|row| row.label(report.by, report.namespace.is_none())).collect();
    let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let widths = Widths::of(usize::from(area.width), longest);
    let shown = labels.into_iter().zip(rows).skip(state.above).take(usize::from(area.height));
    let lines = shown.map(|(label, row)| line(label, row, widths, paint));
    let header = Row::new(header(state)).style(paint.dim());
    let table = Table::new(lines, widths.constraints()).header(header);
    frame.render_widget(table.column_spacing(SPACING), area);
}

fn header(state: &State) -> [String; 8] {
    // The way that the column is sorted: down, the largest first.
    let title = |name: &str, column: Column, falls: bool| match state.column == column {
        true => format!("{name}{}", if falls == state.inverted { '↑' } else { '↓' }),
        false => name.to_owned(),
    };
    [
        title("NAME", Column::Name, false),
        title("SUCCESS", Column::Success, false),
        title("RPS", Column::Rps, true),
        title("P50", Column::P50, true),
        title("P95", Column::P95, true),
        title("P99", Column::P99, true),
        "LAST_5M".to_owned(),
        "FAILED".to_owned(),
    ]
}

fn line(label: String, row: &TopRow, widths: Widths, paint: Paint) -> Row<'static> {
    let Sparks { requests, failures } = spark::draw(&row.history, widths.spark);
    let has_failed = row.history.iter().any(|step| step.failures > 0);
    let success_style = match row.row.success_rate {
        Some(rate) if rate < 1.0 => paint.bad(),
        Some(_) => paint.good(),
        None => Style::new(),
    };
    Row::new([
        Cell::from(shortened(label, widths.name)),
        Cell::from(success(row)).style(success_style),
        Cell::from(rate(row)),
        Cell::from(latency(row, |all| all.p50)),
        Cell::from(latency(row, |all| all.p95)),
        Cell::from(latency(row, |all| all.p99)),
        Cell::from(requests).style(paint.colour(Color::Cyan)),
        Cell::from(failures).style(if has_failed { paint.bad() } else { paint.dim() }),
    ])
}

/// Its end tells names apart more often than its beginning.
fn shortened(label: String, width: usize) -> String {
    let length = label.chars().count();
    if length <= width {
        return label;
    }
    let kept = label.chars().skip(length.saturating_sub(width.saturating_sub(1)));
    std::iter::once('…').chain(kept).collect()
}

/// How wide columns are that take what others leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Widths {
    name: usize,
    spark: usize,
}

impl Widths {
    /// Names are shown whole as long as the last minute still is; the last minutes take the rest.
    fn of(width: usize, longest: usize) -> Self {
        let rest = width.saturating_sub(FIXED);
        let name = longest.min(rest.saturating_sub(2 * SHORTEST_SPARK)).max(SHORTEST_NAME);
        Self { name, spark: (rest.saturating_sub(name) / 2).min(LONGEST_SPARK) }
    }

    fn constraints(self) -> [Constraint; 8] {
        let wide = |width: usize| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX));
        let [success, rate, p50, p95, p99] = NUMBERS.map(wide);
        [wide(self.name), success, rate, p50, p95, p99, wide(self.spark), wide(self.spark)]
    }
}

/// Success, rate, and three latencies.
const NUMBERS: [usize; 5] = [8, 7, 6, 6, 6];
const SPACING: u16 = 1;
/// All columns of numbers, and the spaces between all.
const FIXED: usize = 8 + 7 + 6 + 6 + 6 + 7;
const SHORTEST_NAME: usize = 8;
/// Eighty seconds.
const SHORTEST_SPARK: usize = 8;
/// Five minutes.
const LONGEST_SPARK: usize = 30;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use tokio::time::Instant;

    use super::*;
    use crate::output::Colour;
    use crate::top::report::tests::report;

    fn told() -> Told {
        Told { report: Arc::new(report()), hint: None, trouble: None, heard: Instant::now() }
    }

    fn drawn(told: &Told, state: &State, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let scene = Scene { told, silent: Duration::from_secs(12) };
        let mut state = state.clone();
        let paint = Paint::new(Colour::Never);
        let drawn = terminal.draw(|frame| {
            draw(frame, scene, &mut state, paint);
        });
        drawn.unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_fits_usual_terminals() {
        let state = State::new(Column::Rps);
        insta::assert_snapshot!("narrow", drawn(&told(), &state, (80, 8)));
        insta::assert_snapshot!("wide", drawn(&told(), &state, (120, 8)));
    }

    #[test]
    fn what_is_wrong_typed_or_paused_is_seen() {
        let filtered = State { filter: "api".to_owned(), ..State::new(Column::Success) };
        let typing = State { typing: true, filter: "nobody".to_owned(), ..filtered.clone() };
        let paused = State { paused: true, inverted: true, ..filtered.clone() };
        let away = Told { trouble: Some("no control plane answers".to_owned()), ..told() };
        let empty = TopReport { rows: Vec::new(), ..report() };
        let silent = Told {
            report: Arc::new(empty),
            hint: Some("no proxy told of its traffic".to_owned()),
            ..told()
        };
        for (case, told, state) in [
            ("filtered", told(), filtered.clone()),
            ("typing", told(), typing),
            ("paused", told(), paused),
            ("away", away, State::new(Column::Rps)),
            ("silent", silent, State::new(Column::Rps)),
        ] {
            insta::assert_snapshot!(case, drawn(&told, &state, (80, 6)));
        }
    }

    #[test]
    fn no_size_of_terminal_breaks_the_screen() {
        for size in [(1, 1), (10, 3), (34, 20), (300, 100)] {
            drawn(&told(), &State::new(Column::Name), size);
        }
    }

    #[test]
    fn names_are_shown_whole_while_there_is_room() {
        for (case, width, longest, name, spark) in [
            ("80, short", 80, 10, 10, 15),
            ("80, long", 80, 40, 24, 8),
            ("120, long", 120, 40, 40, 20),
            ("too narrow", 20, 40, 8, 0),
            ("very wide", 300, 40, 40, 30),
        ] {
            assert_eq!(Widths::of(width, longest), Widths { name, spark }, "case: {case}");
        }
        assert_eq!(shortened("deployment/api".to_owned(), 6), "…t/api");
        assert_eq!(shortened("api".to_owned(), 6), "api");
    }
}
