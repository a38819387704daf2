//! The demo on a whole terminal. Drawing is pure; the terminal itself is in terminal.rs.

use std::ops::RangeInclusive;
use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Color;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table};

use crate::demo::measure::{Measured, ServiceRow, Traffic};
use crate::demo::show::{Feed, Scene};
use crate::demo::words::{latency, percent, time_left};
use crate::failure::Failure;
use crate::output::Colour;
use crate::terminal::{self, Paint, Screen};

/// Keys that end it, beside Ctrl-C.
const LEAVE: [KeyCode; 2] = [KeyCode::Char('q'), KeyCode::Esc];
/// How often the screen is drawn and keys are looked at.
const REDRAW: Duration = Duration::from_millis(100);
/// How high the history is, with its frame, where there is room for it at all.
const HISTORY_ROWS: RangeInclusive<u16> = 4..=12;
/// How high everything else is together.
const OTHER_ROWS: u16 = 20;

/// Shows until `q`, Escape or Ctrl-C. Leaves the terminal as it was, also when dropped half way.
pub async fn until_quit(feed: &Feed, colour: Colour) -> Result<(), Failure> {
    let mut screen = Screen::open().map_err(|error| unusable(&error))?;
    let mut every = tokio::time::interval(REDRAW);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        every.tick().await;
        let scene = feed.scene();
        screen.draw(|frame| draw(frame, &scene, colour)).map_err(|error| unusable(&error))?;
        let keys = terminal::pressed().map_err(|error| unusable(&error))?;
        if keys.iter().any(|key| terminal::is_interrupt(key) || LEAVE.contains(&key.code)) {
            return Ok(());
        }
    }
}

fn unusable(error: &std::io::Error) -> Failure {
    terminal::unusable(error, "try `meshctl demo | cat`, which prints lines")
}

/// Draws one scene.
pub fn draw(frame: &mut Frame<'_>, scene: &Scene, colour: Colour) {
    let paint = Paint::new(colour);
    let room = frame.area().height.saturating_sub(OTHER_ROWS).min(*HISTORY_ROWS.end());
    let history_rows = if HISTORY_ROWS.contains(&room) { room } else { 0 };
    let [title, services, canary, history, facts, load] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(8),
        Constraint::Length(4),
        Constraint::Length(history_rows),
        Constraint::Length(5),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_title(frame, title, scene, paint);
    let Some(measured) = &scene.measured else { return };
    draw_services(frame, services, measured, paint);
    draw_canary(frame, canary, scene, paint);
    draw_history(frame, history, scene, paint);
    let [identity, config] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(facts);
    draw_identity(frame, identity, scene, paint);
    draw_config(frame, config, measured, paint);
    draw_load(frame, load, measured, paint);
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, scene: &Scene, paint: Paint) {
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(8)]).areas(area);
    let title = Line::from(vec![
        Span::styled(" heddle demo  ", paint.bold()),
        Span::raw(scene.headline.clone()),
    ]);
    frame.render_widget(title, left);
    frame.render_widget(Line::styled("q quits ", paint.dim()).right_aligned(), right);
}

fn draw_services(frame: &mut Frame<'_>, area: Rect, measured: &Measured, paint: Paint) {
    let header = ["service", "requests/s", "success", "p50", "p99", "mTLS"];
    let widths = [
        Constraint::Length(16),
        Constraint::Length(18),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
    ];
    let rows = measured.services.iter().map(|row| service_row(row, paint));
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(paint.dim()))
        .block(paint.block(" load > frontend > api > store "));
    frame.render_widget(table, area);
}

fn service_row(row: &ServiceRow, paint: Paint) -> Row<'static> {
    let indent = if row.is_version { "  " } else { "" };
    let name = Cell::from(format!("{indent}{}", row.name));
    let judged = |share: Option<f64>| Cell::from(percent(share)).style(paint.judge(share));
    let mtls = judged(row.mtls_share);
    match row.traffic {
        Traffic::Http { per_second, success_share, p50, p99 } => Row::new([
            name,
            Cell::from(format!("{per_second:.1}")),
            judged(success_share),
            Cell::from(latency(p50)),
            Cell::from(latency(p99)),
            mtls,
        ]),
        Traffic::Tcp { connections } => {
            let plural = if connections == 1.0 { "" } else { "s" };
            let text = format!("{connections:.0} connection{plural}");
            let blank = || Cell::from("");
            Row::new([name, Cell::from(text), blank(), blank(), blank(), mtls])
        }
    }
}

fn draw_canary(frame: &mut Frame<'_>, area: Rect, scene: &Scene, paint: Paint) {
    let seen = scene.measured.as_ref().and_then(|measured| measured.canary_seen);
    let wanted = scene.wanted_percent.map(f64::from);
    let width = area.width.saturating_sub(2 + 10 + 24);
    let lines = vec![bar("wanted", wanted, width, paint), bar("seen", seen, width, paint)];
    let block = paint.block(" canary: which version answers for api ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// The newest share of v2 is at the right.
fn draw_history(frame: &mut Frame<'_>, area: Rect, scene: &Scene, paint: Paint) {
    let columns = usize::from(area.width.saturating_sub(2));
    let shown = scene.history.len().saturating_sub(columns);
    let shares = scene.history.iter().skip(shown).map(|share| u64::try_from(cells(*share, 100)));
    let chart = Sparkline::default()
        .data(shares.map(Result::unwrap_or_default).collect::<Vec<u64>>())
        .max(100)
        .style(paint.colour(Color::Yellow))
        .block(paint.block(" share of v2 so far, up to 100 % "));
    frame.render_widget(chart, area);
}

/// v1 from the left, v2 from the right, told apart by their blocks as well as by their colour.
fn bar(name: &'static str, share: Option<f64>, width: u16, paint: Paint) -> Line<'static> {
    let Some(share) = share else { return Line::from(format!(" {name:<8} -")) };
    let v2 = cells(share, width);
    let v1 = usize::from(width).saturating_sub(v2);
    Line::from(vec![
        Span::raw(format!(" {name:<8} ")),
        Span::styled("█".repeat(v1), paint.colour(Color::Blue)),
        Span::styled("░".repeat(v2), paint.colour(Color::Yellow)),
        Span::raw(format!(" v1 {:>5.1} %  v2 {:>5.1} %", 100.0 - share, share)),
    ])
}

fn cells(percent: f64, width: u16) -> usize {
    let cells = (percent.clamp(0.0, 100.0) / 100.0 * f64::from(width)).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a u16, by the clamp"
    )]
    let cells = cells as usize;
    cells
}

fn draw_identity(frame: &mut Frame<'_>, area: Rect, scene: &Scene, paint: Paint) {
    let Some(measured) = &scene.measured else { return };
    let certificates = measured.certificates;
    let left = time_left(certificates.soonest_expiry, scene.now);
    let lines = vec![
        Line::from(format!(" {:<20} {}", "certificates issued", certificates.issued)),
        Line::from(format!(" {:<20} {}", "renewed, new key", certificates.renewals)),
        Line::from(format!(" {:<20} {left}", "next one expires in")),
    ];
    frame.render_widget(Paragraph::new(lines).block(paint.block(" identity ")), area);
}

fn draw_config(frame: &mut Frame<'_>, area: Rect, measured: &Measured, paint: Paint) {
    let config = measured.config;
    let refused = if config.refused == 0 { paint.good() } else { paint.bad() };
    let lines = vec![
        Line::from(format!(" {:<20} {}", "version", config.version)),
        Line::from(format!(
            " {:<20} {} by {} proxies",
            "acknowledged", config.acknowledged, config.connected
        )),
        Line::from(vec![
            Span::raw(format!(" {:<20} ", "refused")),
            Span::styled(config.refused.to_string(), refused),
        ]),
    ];
    frame.render_widget(Paragraph::new(lines).block(paint.block(" configuration ")), area);
}

fn draw_load(frame: &mut Frame<'_>, area: Rect, measured: &Measured, paint: Paint) {
    let Some((sent, succeeded, failed)) = measured.load else { return };
    let style = if failed == 0 { paint.good() } else { paint.bad() };
    let line = Line::from(vec![
        Span::raw(format!(" {sent} requests sent, {succeeded} answered, ")),
        Span::styled(format!("{failed} lost"), style),
    ]);
    frame.render_widget(line, area);
}

#[cfg(test)]
pub(crate) mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::demo::measure::{Certificates, Config};

    pub(crate) fn scene() -> Scene {
        let http = |name, is_version, per_second| ServiceRow {
            name,
            is_version,
            traffic: Traffic::Http {
                per_second,
                success_share: Some(1.0),
                p50: Some(Duration::from_micros(3400)),
                p99: Some(Duration::from_micros(12_100)),
            },
            mtls_share: Some(1.0),
        };
        let store = ServiceRow {
            name: "store",
            is_version: false,
            traffic: Traffic::Tcp { connections: 11.0 },
            mtls_share: Some(1.0),
        };
        let measured = Measured {
            services: vec![
                http("frontend", false, 100.2),
                http("api", false, 99.8),
                http("api-v1", true, 89.7),
                http("api-v2", true, 10.1),
                store,
            ],
            canary_seen: Some(10.1),
            certificates: Certificates { issued: 12, renewals: 7, soonest_expiry: Some(1_021.0) },
            config: Config { version: 14, connected: 5, acknowledged: 63, refused: 0 },
            load: Some((1234, 1233, 0)),
        };
        Scene {
            headline: "step 2 of 4: 10 % to v2, 3 s left".to_owned(),
            wanted_percent: Some(10),
            measured: Some(measured),
            history: [[0.0; 10], [10.1; 10]].concat(),
            now: 1_000.0,
        }
    }

    fn drawn(scene: &Scene, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, scene, Colour::Never)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_what_the_mesh_sees() {
        insta::assert_snapshot!(drawn(&scene(), 100, 30));
    }

    #[test]
    fn the_screen_fits_the_smallest_usual_terminal() {
        insta::assert_snapshot!(drawn(&scene(), 80, 20));
    }

    #[test]
    fn no_size_of_terminal_breaks_the_screen() {
        for (width, height) in [(1, 1), (10, 3), (34, 20), (300, 100)] {
            drawn(&scene(), width, height);
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        for (share, expected) in [(0.0, 0), (10.0, 5), (50.0, 25), (100.0, 50), (101.0, 50)] {
            assert_eq!(cells(share, 50), expected);
        }
    }
}
