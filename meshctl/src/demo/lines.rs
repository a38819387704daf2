//! The demo as one line per second, for outputs that are no terminal. Pure.

use crate::demo::measure::{Measured, Traffic};
use crate::demo::show::Scene;
use crate::demo::words::{latency, percent};

/// One line, without its end.
pub fn line(scene: &Scene) -> String {
    let mut parts = vec![scene.headline.clone()];
    if let Some(measured) = &scene.measured {
        if let Some(seen) = measured.canary_seen {
            parts.push(format!("v2 sees {seen:.1} %"));
        }
        parts.extend(frontend(measured));
        if let Some((sent, _, failed)) = measured.load {
            parts.push(format!("{sent} sent, {failed} failed"));
        }
        parts.push(format!("{} certificates renewed", measured.certificates.renewals));
        parts.push(format!("{} updates acknowledged", measured.config.acknowledged));
    }
    parts.join("; ")
}

fn frontend(measured: &Measured) -> Option<String> {
    let row = measured.services.first()?;
    match row.traffic {
        Traffic::Http { success_share: None, .. } | Traffic::Tcp { .. } => None,
        Traffic::Http { per_second, success_share, p50, p99 } => Some(format!(
            "frontend {per_second:.0}/s, {} good, p50 {}, p99 {}, {} mTLS",
            percent(success_share),
            latency(p50),
            latency(p99),
            percent(row.mtls_share),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::screen::tests::scene;

    #[test]
    fn a_line_says_what_a_screen_would() {
        insta::assert_snapshot!(line(&scene()));
    }

    #[test]
    fn before_anything_is_measured_the_headline_is_all() {
        let scene = Scene { measured: None, headline: "starting".to_owned(), ..scene() };
        assert_eq!(line(&scene), "starting");
    }
}
