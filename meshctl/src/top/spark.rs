//! The last minutes as a line of blocks. Pure.

use crate::top::report::StepReport;

/// Requests and failures of a history, on one scale, each as many characters wide as there is room: the newest are at
/// the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparks {
    /// What was answered, or failed.
    pub requests: String,
    /// What failed; never less than the lowest block where something did.
    pub failures: String,
}

/// Draws a history.
pub fn draw(history: &[StepReport], width: usize) -> Sparks {
    let smooth = smooth(history);
    let shown = smooth.get(smooth.len().saturating_sub(width)..).unwrap_or_default();
    let highest = shown.iter().map(|step| step.requests).max().unwrap_or(0);
    let line = |pick: fn(&StepReport) -> u64| -> String {
        let missing = std::iter::repeat_n(' ', width.saturating_sub(shown.len()));
        missing.chain(shown.iter().map(|step| block(pick(step), highest))).collect()
    };
    Sparks { requests: line(|step| step.requests), failures: line(|step| step.failures) }
}

/// Each step with the one before it: a proxy tells about every ten seconds, so that it may be heard twice in one step
/// and not at all in the next.
fn smooth(history: &[StepReport]) -> Vec<StepReport> {
    let before = [StepReport::default()].into_iter().chain(history.iter().copied());
    let both = before.zip(history).map(|(before, step)| StepReport {
        requests: before.requests.saturating_add(step.requests),
        failures: before.failures.saturating_add(step.failures),
    });
    both.collect()
}

/// A dot for nothing, so that time is seen to go by.
fn block(count: u64, highest: u64) -> char {
    if count == 0 || highest == 0 {
        return '·';
    }
    let eighths = count.saturating_mul(8).div_ceil(highest).clamp(1, 8);
    let index = usize::try_from(eighths - 1).unwrap_or_default();
    BLOCKS.get(index).copied().unwrap_or('█')
}

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn history(counts: &[(u64, u64)]) -> Vec<StepReport> {
        counts.iter().map(|&(requests, failures)| StepReport { requests, failures }).collect()
    }

    #[test]
    fn the_newest_are_at_the_right_and_failures_are_never_invisible() {
        for (case, counts, width, requests, failures) in [
            ("nothing yet", &[][..], 4, "    ", "    "),
            ("silence", &[(0, 0), (0, 0)], 4, "  ··", "  ··"),
            (
                "heard twice, then not at all",
                &[(20, 0), (0, 0), (20, 0), (0, 0)],
                4,
                "████",
                "····",
            ),
            ("a rise", &[(1, 0), (3, 0), (6, 0), (10, 0)], 4, "▁▂▅█", "····"),
            ("one of a thousand fails", &[(1000, 1)], 1, "█", "▁"),
            ("all fail", &[(5, 5)], 2, " █", " █"),
            ("more than there is room", &[(100, 100), (1, 0), (2, 0), (2, 0)], 2, "▆█", "··"),
        ] {
            let expected = Sparks { requests: requests.to_owned(), failures: failures.to_owned() };
            assert_eq!(draw(&history(counts), width), expected, "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn a_line_is_as_wide_as_it_should_be(
            counts in proptest::collection::vec(any::<(u64, u64)>(), 0..50),
            width in 0_usize..80,
        ) {
            let Sparks { requests, failures } = draw(&history(&counts), width);
            prop_assert_eq!(requests.chars().count(), width);
            prop_assert_eq!(failures.chars().count(), width);
        }
    }
}
