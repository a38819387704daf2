//! What a proxy counts: its `/metrics`, read from outside as a scraper would.

use anyhow::{Context as _, Result, ensure};
use heddle_local::protocol::BRIDGE;

use crate::world::World;

/// The port of the admin server.
pub const ADMIN_PORT: u16 = 15_190;
/// The port of the control plane's metrics.
pub const CONTROL_PLANE_METRICS_PORT: u16 = 15_290;

/// All samples of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Scrapes a workload's proxy.
    pub async fn of(world: &World, workload: &str) -> Result<Self> {
        let answer = world.mesh()?.http_get(workload, ADMIN_PORT, "/metrics").await?;
        ensure!(answer.status == 200, "/metrics of {workload} answers {}", answer.status);
        Ok(Self(answer.text()))
    }

    /// Scrapes the control plane.
    pub async fn of_control_plane(world: &World) -> Result<Self> {
        let url = format!("http://127.0.0.1:{CONTROL_PLANE_METRICS_PORT}/metrics");
        Ok(Self(world.curl(BRIDGE, &[&url]).await?))
    }

    /// The sum of all samples of this name that have all of these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).map(|(_, value)| value).sum()
    }

    /// Everything, as it is scraped.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// All samples of this name, for messages.
    pub fn show(&self, name: &str) -> String {
        self.0.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join("\n")
    }

    /// The sum, where there is at least one such sample: a misspelt name is no zero.
    pub fn require(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let mut found = self.samples(name, labels).peekable();
        found
            .peek()
            .with_context(|| format!("no sample of {name} with {labels:?}:\n{}", self.0))?;
        Ok(found.map(|(_, value)| value).sum())
    }

    fn samples(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = (&str, f64)> {
        let wanted: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let name = name.to_owned();
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name.as_str())?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_this = labels.is_empty() || labels.starts_with('{');
            let parts: Vec<&str> =
                labels.trim_start_matches('{').trim_end_matches('}').split(',').collect();
            let matches = wanted.iter().all(|wanted| parts.contains(&wanted.as_str()));
            Some((line, value.parse::<f64>().ok()?)).filter(|_| is_this && matches)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let metrics = Metrics(
            "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\na_total_more 9\nb 5.5\n"
                .to_owned(),
        );
        assert!((metrics.sum("a_total", &[("x", "1")]) - 7.0).abs() < 0.1);
        assert!((metrics.sum("a_total", &[("y", "3")]) - 4.0).abs() < 0.1);
        assert!((metrics.sum("b", &[]) - 5.5).abs() < 0.1);
        assert!(metrics.require("a_total", &[("x", "2")]).is_err());
    }
}
