//! The plots: bars side by side, as SVG that is readable on a light and on a dark page.

use std::fmt::Write as _;

use super::table::number;
use crate::figure::Figure;
use crate::results::Results;
use crate::scenario::Scenario;
use crate::system::System;

/// Each plot's file name and content.
pub fn all(results: &Results) -> Vec<(&'static str, String)> {
    PLOTS.iter().map(|plot| (plot.file, plot.draw(results))).collect()
}

/// A plot: several panels below one title.
struct Plot {
    file: &'static str,
    title: &'static str,
    panels: &'static [(Scenario, Figure)],
}

impl Plot {
    fn draw(&self, results: &Results) -> String {
        let panels: Vec<Panel> = self
            .panels
            .iter()
            .map(|(scenario, figure)| Panel::new(results, *scenario, *figure))
            .filter(|panel| !panel.bars.is_empty())
            .collect();
        let height = TITLE_HEIGHT + panels.iter().map(Panel::height).sum::<u32>();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n{STYLE}\
             <text class=\"title\" x=\"8\" y=\"22\">{title}</text>\n",
            title = self.title
        );
        let mut top = TITLE_HEIGHT;
        for panel in &panels {
            panel.draw(top, &mut svg);
            top += panel.height();
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Bars of one figure, one a system.
struct Panel {
    title: String,
    bars: Vec<(System, f64)>,
}

impl Panel {
    fn new(results: &Results, scenario: Scenario, figure: Figure) -> Self {
        let bar = |system| Some((system, results.median(scenario, system, figure)?));
        let better = if figure.more_is_better() { "more" } else { "less" };
        let title = format!("{}: {} ({better} is better)", scenario.title(), figure.title());
        Self { title, bars: System::ALL.into_iter().filter_map(bar).collect() }
    }

    fn height(&self) -> u32 {
        let bars = u32::try_from(self.bars.len()).unwrap_or_default();
        PANEL_TITLE_HEIGHT + bars * BAR_STEP
    }

    fn draw(&self, top: u32, svg: &mut String) {
        let most = self.bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        // Writing to a string does not fail.
        let _ =
            writeln!(svg, "<text class=\"panel\" x=\"8\" y=\"{}\">{}</text>", top + 16, self.title);
        let mut y = top + PANEL_TITLE_HEIGHT - 6;
        for (system, value) in &self.bars {
            let length = if most > 0.0 { BAR_LENGTH * value / most } else { 0.0 };
            let (text_y, end) = (y + 12, BAR_LEFT + length + 6.0);
            let class = system.name();
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{class}\" x=\"{BAR_LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\"/>\
                 <text x=\"{end:.1}\" y=\"{text_y}\">{}</text>",
                BAR_LEFT - 8.0,
                system.title(),
                number(*value)
            );
            y += BAR_STEP;
        }
    }
}

const PLOTS: &[Plot] = &[
    Plot {
        file: "cpu.svg",
        title: "CPU time of the client's proxy",
        panels: &[
            (Scenario::Http1C64, Figure::ClientCpuUs),
            (Scenario::Http1Rate1000, Figure::ClientCpuUs),
            (Scenario::Grpc, Figure::ClientCpuUs),
            (Scenario::Http2, Figure::ClientCpuUs),
            (Scenario::HttpConnect, Figure::ClientCpuUs),
            (Scenario::TcpConnect, Figure::ClientCpuUs),
            (Scenario::TcpPingPong, Figure::ClientCpuUs),
            (Scenario::TcpBulk, Figure::ClientCpuSecondsPerGb),
        ],
    },
    Plot {
        file: "throughput.svg",
        title: "Throughput",
        panels: &[
            (Scenario::Http1C64, Figure::PerSecond),
            (Scenario::Http1C256, Figure::PerSecond),
            (Scenario::Http1C1000, Figure::PerSecond),
            (Scenario::Grpc, Figure::PerSecond),
            (Scenario::Http2, Figure::PerSecond),
            (Scenario::HttpConnect, Figure::PerSecond),
            (Scenario::TcpConnect, Figure::PerSecond),
            (Scenario::TcpBulk, Figure::GbitPerSecond),
        ],
    },
    Plot {
        file: "latency.svg",
        title: "Latency",
        panels: &[
            (Scenario::Http1Rate1000, Figure::P50Us),
            (Scenario::Http1Rate1000, Figure::P99Us),
            (Scenario::TcpPingPong, Figure::P50Us),
        ],
    },
    Plot {
        file: "memory.svg",
        title: "Memory, start and size of a proxy",
        panels: &[
            (Scenario::Memory, Figure::IdleMb),
            (Scenario::Memory, Figure::Busy256Mb),
            (Scenario::Memory, Figure::Idle1000Mb),
            (Scenario::Start, Figure::ReadyMs),
            (Scenario::Start, Figure::BinaryMb),
        ],
    },
];

const WIDTH: u32 = 720;
const TITLE_HEIGHT: u32 = 36;
const PANEL_TITLE_HEIGHT: u32 = 34;
const BAR_STEP: u32 = 19;
const BAR_HEIGHT: u32 = 15;
const BAR_LEFT: f64 = 90.0;
/// Leaves room for a number at the end of the longest.
const BAR_LENGTH: f64 = 550.0;
const STYLE: &str = "<style>\n\
    text { font: 12px system-ui, sans-serif; fill: #24292f; }\n\
    .title { font-size: 16px; font-weight: 600; } .panel { font-weight: 600; }\n\
    .no_mesh { fill: #8c959f; } .heddle { fill: #d4572a; } .envoy { fill: #8a63d2; }\n\
    .haproxy { fill: #2f81c7; } .bare_loop { fill: #b6bec7; }\n\
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .bare_loop { fill: #57606a; } }\n\
    </style>\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Samples;

    #[test]
    fn the_longest_bar_is_the_largest_figure() {
        let mut samples = Samples::default();
        for (system, value) in [(System::Heddle, 25.0), (System::Envoy, 100.0)] {
            samples.add(0, (Scenario::Http1C64, system, Figure::ClientCpuUs), value);
        }
        let results = Results { medians: samples.medians(), ..Results::default() };
        let plots = all(&results);
        let (_, svg) = plots.iter().find(|(file, _)| *file == "cpu.svg").unwrap();
        assert!(svg.contains("class=\"envoy\" x=\"90\" y=\"83\" width=\"550.0\""), "{svg}");
        assert!(svg.contains("class=\"heddle\" x=\"90\" y=\"64\" width=\"137.5\""), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2, "what was not measured is not drawn: {svg}");
    }
}
