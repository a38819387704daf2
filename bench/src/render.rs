//! Draws the tables and plots of the README from the results. Measures nothing.

pub mod plot;
pub mod table;

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::control_plane;
use crate::results::Results;

/// Redraws what is in `folder`: the README between its marks, and the plots.
pub fn render(folder: &Path) -> Result<()> {
    let results = Results::read(&folder.join(LATEST))?;
    let readme = folder.join("README.md");
    let text = std::fs::read_to_string(&readme)?;
    let text = replace(&text, (BEGIN, END), &table::markdown(&results));
    let text = text.context("README.md lost its marks")?;
    let control_plane = control_plane::figures::Results::read(&folder.join(CONTROL_PLANE))?;
    let text = replace(&text, (CONTROL_PLANE_BEGIN, END), &control_plane.markdown());
    let text = text.context("README.md lost its marks of the control plane")?;
    std::fs::write(&readme, text)?;
    std::fs::create_dir_all(folder.join("plots"))?;
    for (name, svg) in plot::all(&results) {
        std::fs::write(folder.join("plots").join(name), svg)?;
    }
    Ok(())
}

/// Puts `content` between the marks; `None` without them.
fn replace(text: &str, (begin, end): (&str, &str), content: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", content.trim()))
}

/// The last full run.
pub const LATEST: &str = "results/latest.json";
/// The last run of the control plane.
pub const CONTROL_PLANE: &str = "results/control-plane.json";
const BEGIN: &str = "<!-- drawn from results/latest.json: `heddle-bench render` -->";
const CONTROL_PLANE_BEGIN: &str =
    "<!-- drawn from results/control-plane.json: `heddle-bench render` -->";
const END: &str = "<!-- end of what is drawn -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let expected = format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n");
        let marks = (BEGIN, END);
        assert_eq!(replace(&text, marks, "new\n"), Some(expected.clone()));
        assert_eq!(replace(&expected, marks, "new\n"), Some(expected), "again");
        assert_eq!(replace("no marks", marks, "new"), None);
    }
}
