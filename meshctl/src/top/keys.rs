//! What keys do to what is shown: order, filter, pause, place. Pure.

use std::cmp::Ordering;

use crossterm::event::{KeyCode, KeyEvent};

use crate::terminal;
use crate::top::arguments::Column;
use crate::top::report::{TopReport, TopRow};

/// How it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What rows are sorted by.
    pub column: Column,
    /// Whether the other way round than usual.
    pub inverted: bool,
    /// Only names with this in them are shown.
    pub filter: String,
    /// Whether the filter is being typed.
    pub typing: bool,
    /// Whether nothing newer is shown.
    pub paused: bool,
    /// How many rows are above the first that is shown.
    pub above: usize,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Stay,
    /// End.
    Quit,
}

impl State {
    /// All rows, sorted by this.
    pub fn new(column: Column) -> Self {
        Self {
            column,
            inverted: false,
            filter: String::new(),
            typing: false,
            paused: false,
            above: 0,
        }
    }

    /// A key was pressed, while this many rows had room.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing")]
    pub fn press(&mut self, key: &KeyEvent, room: usize) -> Next {
        if terminal::is_interrupt(key) {
            return Next::Quit;
        }
        if self.typing {
            self.type_filter(key.code);
            return Next::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Next::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char(' ' | 'p') => self.paused = !self.paused,
            KeyCode::Char('i') => self.inverted = !self.inverted,
            KeyCode::Char('n') => self.sort_by(Column::Name),
            KeyCode::Char('s') => self.sort_by(Column::Success),
            KeyCode::Char('r') => self.sort_by(Column::Rps),
            KeyCode::Right | KeyCode::Char('>') => self.sort_by(beside(self.column, 1)),
            KeyCode::Left | KeyCode::Char('<') => {
                self.sort_by(beside(self.column, COLUMNS.len() - 1));
            }
            KeyCode::Down | KeyCode::Char('j') => self.above = self.above.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.above = self.above.saturating_sub(1),
            KeyCode::PageDown => self.above = self.above.saturating_add(room),
            KeyCode::PageUp => self.above = self.above.saturating_sub(room),
            KeyCode::Home => self.above = 0,
            KeyCode::End => self.above = usize::MAX,
            _ => {}
        }
        Next::Stay
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing")]
    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(typed) if self.filter.chars().count() < FILTER_LIMIT => {
                self.filter.push(typed);
                self.above = 0;
            }
            _ => {}
        }
    }

    fn sort_by(&mut self, column: Column) {
        self.column = column;
        self.inverted = false;
        self.above = 0;
    }

    /// The rows that are shown, in order, whatever room there is.
    pub fn rows<'a>(&self, report: &'a TopReport) -> Vec<&'a TopRow> {
        let wanted = self.filter.to_lowercase();
        let is_shown = |row: &&TopRow| row.label(report.by, true).to_lowercase().contains(&wanted);
        let mut rows: Vec<&TopRow> = report.rows.iter().filter(is_shown).collect();
        rows.sort_by(|one, other| compare(one, other, self.column, self.inverted));
        rows
    }

    /// Moves back to where there are rows.
    pub fn keep_within(&mut self, rows: usize, room: usize) {
        self.above = self.above.min(rows.saturating_sub(room));
    }
}

/// Rows without requests come last, whichever way round.
fn compare(one: &TopRow, other: &TopRow, column: Column, inverted: bool) -> Ordering {
    let name = |row: &TopRow| (row.row.namespace.clone(), row.row.service.clone(), row.row.title());
    let turn = |order: Ordering| if inverted { order.reverse() } else { order };
    if column == Column::Name {
        return turn(name(one).cmp(&name(other)));
    }
    let by_value = match (value(one, column), value(other, column)) {
        (Some(one), Some(other)) => turn(one.total_cmp(&other)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    by_value.then_with(|| name(one).cmp(&name(other)))
}

/// The smallest comes first.
fn value(row: &TopRow, column: Column) -> Option<f64> {
    let row = &row.row;
    let latency = row.latency_seconds;
    match column {
        Column::Name => None,
        Column::Success => row.success_rate,
        Column::Rps => (row.requests > 0).then_some(-row.requests_per_second),
        Column::P50 => latency.map(|all| -all.p50),
        Column::P95 => latency.map(|all| -all.p95),
        Column::P99 => latency.map(|all| -all.p99),
    }
}

fn beside(column: Column, distance: usize) -> Column {
    let place = COLUMNS.iter().position(|one| *one == column).unwrap_or_default();
    COLUMNS.get((place + distance) % COLUMNS.len()).copied().unwrap_or(column)
}

/// As they are shown, from the left.
const COLUMNS: [Column; 6] =
    [Column::Name, Column::Success, Column::Rps, Column::P50, Column::P95, Column::P99];
/// Longer than names are.
const FILTER_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyModifiers;
    use heddle_report::stat::{Percentiles, Row};

    fn report() -> TopReport {
        let row = |name: &str, requests: u64, failures: u64, p99: f64| TopRow {
            row: Row {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                kind: "Pod".to_owned(),
                requests,
                requests_per_second: requests as f64 / 60.0,
                success_rate: (requests > 0).then(|| 1.0 - failures as f64 / requests as f64),
                latency_seconds: (requests > 0).then_some(Percentiles { p50: 0.1, p95: 0.2, p99 }),
                ..Row::default()
            },
            history: Vec::new(),
        };
        let rows = vec![
            row("api", 600, 6, 0.5),
            row("idle", 0, 0, 0.0),
            row("web", 60, 0, 2.0),
            row("Bank", 300, 0, 1.0),
        ];
        TopReport { by: "pod", rows, ..crate::top::report::tests::report() }
    }

    fn press(state: &mut State, codes: &[KeyCode]) -> Next {
        let mut next = Next::Stay;
        for code in codes {
            next = state.press(&KeyEvent::from(*code), 10);
        }
        next
    }

    #[test]
    fn keys_change_the_order_and_rows_without_requests_stay_last() {
        let report = report();
        let char = KeyCode::Char;
        for (case, keys, expected) in [
            ("at first", &[char('x')][..], ["api", "Bank", "web", "idle"]),
            ("inverted", &[char('i')], ["web", "Bank", "api", "idle"]),
            ("by success", &[char('s')], ["api", "Bank", "web", "idle"]),
            ("by name", &[char('n')], ["Bank", "api", "idle", "web"]),
            ("by p99", &[KeyCode::Left; 3], ["web", "Bank", "api", "idle"]),
            ("all around", &[KeyCode::Right; 6], ["api", "Bank", "web", "idle"]),
            ("inverted anew", &[char('i'), char('r')], ["api", "Bank", "web", "idle"]),
        ] {
            let mut state = State::new(Column::Rps);
            assert_eq!(press(&mut state, keys), Next::Stay, "case: {case}");
            let names: Vec<_> = state.rows(&report).iter().map(|row| &row.row.name).collect();
            assert_eq!(names, expected, "case: {case}");
        }
    }

    #[test]
    fn a_filter_is_typed_kept_and_dropped() {
        let report = report();
        let char = KeyCode::Char;
        for (case, keys, typing, expected) in [
            ("typed", &[char('/'), char('b'), char('A')][..], true, &["Bank"][..]),
            ("kept", &[char('/'), char('a'), KeyCode::Enter], false, &["api", "Bank"]),
            ("q is a letter", &[char('/'), char('q')], true, &[]),
            (
                "mended",
                &[char('/'), char('q'), KeyCode::Backspace],
                true,
                &["api", "Bank", "web", "idle"],
            ),
            (
                "dropped",
                &[char('/'), char('b'), KeyCode::Esc],
                false,
                &["api", "Bank", "web", "idle"],
            ),
        ] {
            let mut state = State::new(Column::Rps);
            assert_eq!(press(&mut state, keys), Next::Stay, "case: {case}");
            let names: Vec<_> = state.rows(&report).iter().map(|row| &row.row.name).collect();
            assert_eq!(names, expected, "case: {case}");
            assert_eq!(state.typing, typing, "case: {case}");
        }
    }

    #[test]
    fn some_keys_end_it() {
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut state = State::new(Column::Rps);
        assert_eq!(press(&mut state, &[KeyCode::Char('q')]), Next::Quit);
        assert_eq!(press(&mut state, &[KeyCode::Esc]), Next::Quit);
        assert_eq!(state.press(&control_c, 10), Next::Quit);
        assert_eq!(press(&mut state, &[KeyCode::Char('/'), KeyCode::Char('q')]), Next::Stay);
        assert_eq!(state.press(&control_c, 10), Next::Quit, "while a filter is typed");
        let (mut kept, keys) = (State::new(Column::Rps), [KeyCode::Char('/'), KeyCode::Char('a')]);
        press(&mut kept, &keys);
        assert_eq!(press(&mut kept, &[KeyCode::Enter, KeyCode::Esc]), Next::Stay, "drops it");
        assert_eq!(press(&mut kept, &[KeyCode::Esc]), Next::Quit);
    }

    #[test]
    fn no_key_leads_past_the_rows() {
        for (case, key, times, expected) in [
            ("down", KeyCode::Down, 2, 2),
            ("down too far", KeyCode::Down, 50, 10),
            ("a page", KeyCode::PageDown, 1, 10),
            ("to the end", KeyCode::End, 1, 10),
            ("up too far", KeyCode::Up, 1, 0),
        ] {
            let mut state = State::new(Column::Rps);
            for _ in 0..times {
                press(&mut state, &[key]);
                state.keep_within(20, 10);
            }
            assert_eq!(state.above, expected, "case: {case}");
        }
    }
}
