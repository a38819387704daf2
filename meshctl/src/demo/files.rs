//! The shop's YAML, carried inside of meshctl so that the demo runs anywhere, and the one edit that the
//! demo makes: the weights of the canary.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Everything but the load, which starts when the rest is ready.
const SHOP: [(&str, &str); 4] = [
    ("frontend.yaml", include_str!("../../../install/examples/shop/frontend.yaml")),
    ("api.yaml", include_str!("../../../install/examples/shop/api.yaml")),
    ("store.yaml", include_str!("../../../install/examples/shop/store.yaml")),
    (CANARY, include_str!("../../../install/examples/shop/canary.yaml")),
];
const LOAD: (&str, &str) = ("load.yaml", include_str!("../../../install/examples/shop/load.yaml"));
const CANARY: &str = "canary.yaml";

/// The directory that the demo's mesh follows. Removed with this value, unless kept.
#[derive(Debug)]
pub struct Files {
    /// Next to the directory that is watched, so that a file can be made there and moved in.
    parent: TempDir,
}

impl Files {
    /// Writes the shop, without the load, into a new temporary directory.
    pub fn write() -> io::Result<Self> {
        let files = Self { parent: tempfile::Builder::new().prefix("heddle-demo-").tempdir()? };
        std::fs::create_dir(files.directory())?;
        for (name, content) in SHOP {
            files.replace(name, content)?;
        }
        Ok(files)
    }

    /// The directory of YAML.
    pub fn directory(&self) -> PathBuf {
        self.parent.path().join("shop")
    }

    /// Adds the load.
    pub fn add_load(&self) -> io::Result<()> {
        self.replace(LOAD.0, LOAD.1)
    }

    /// Sends this share of the requests to v2, and the rest to v1.
    pub fn set_canary(&self, percent: u8) -> io::Result<()> {
        let text = std::fs::read_to_string(self.directory().join(CANARY))?;
        let weights = [("api-v1", 100_u8.saturating_sub(percent)), ("api-v2", percent)];
        self.replace(CANARY, &with_weights(&text, &weights))
    }

    /// Leaves the directory where it is, and says where.
    pub fn keep(mut self) -> PathBuf {
        self.parent.disable_cleanup(true);
        self.directory()
    }

    /// In one step: whoever reads sees the old content or the new one, never half of it.
    fn replace(&self, name: &str, content: &str) -> io::Result<()> {
        let next = self.parent.path().join(name);
        std::fs::write(&next, content)?;
        std::fs::rename(next, self.directory().join(name))
    }
}

/// The same text with other weights; comments and order stay, as with any careful edit.
fn with_weights(text: &str, weights: &[(&str, u8)]) -> String {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    for (service, weight) in weights {
        let backend = format!("- service: {service}");
        let mut inside = lines.iter_mut().skip_while(|line| line.trim() != backend).skip(1);
        let weight_line = inside.find(|line| line.trim_start().starts_with("weight:"));
        if let Some(line) = weight_line {
            let indent = line.len() - line.trim_start().len();
            *line = format!("{}weight: {weight}", " ".repeat(indent));
        }
    }
    lines.join("\n") + "\n"
}

/// Whether a directory still has what the demo wrote, for tests and hints.
pub fn canary_path(directory: &Path) -> PathBuf {
    directory.join(CANARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_weights_of_the_canary_change() {
        let files = Files::write().unwrap();
        let path = canary_path(&files.directory());
        let before = std::fs::read_to_string(&path).unwrap();
        files.set_canary(10).unwrap();
        let after = std::fs::read_to_string(&path).unwrap();
        let changed: Vec<_> =
            before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
        assert_eq!(
            changed,
            [("      weight: 100", "      weight: 90"), ("      weight: 0", "      weight: 10")]
        );
        files.set_canary(0).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn nothing_but_yaml_is_ever_in_the_directory_that_is_watched() {
        let files = Files::write().unwrap();
        files.set_canary(50).unwrap();
        files.add_load().unwrap();
        let mut names: Vec<_> = std::fs::read_dir(files.directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["api.yaml", "canary.yaml", "frontend.yaml", "load.yaml", "store.yaml"]);
        let directory = files.directory();
        drop(files);
        assert!(!directory.exists());
    }
}
