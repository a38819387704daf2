//! The page's own files, as they are in `control-plane/dashboard/`: no build, nothing of anybody else's.

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Where it is.
    path: &'static str,
    /// What it is.
    pub(super) content_type: &'static str,
    /// Itself.
    pub(super) content: &'static [u8],
}

/// The file at a path.
pub(super) fn file(path: &str) -> Option<File> {
    FILES.iter().find(|file| file.path == path).copied()
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! own {
    ($path:literal, $file:literal, $content_type:ident) => {
        File {
            path: $path,
            content_type: $content_type,
            content: include_bytes!(concat!("../../dashboard/", $file)),
        }
    };
}

const FILES: [File; 19] = [
    own!("/", "index.html", HTML),
    own!("/style.css", "style.css", STYLE),
    own!("/icon.svg", "icon.svg", IMAGE),
    own!("/app.js", "app.js", SCRIPT),
    own!("/ask.js", "ask.js", SCRIPT),
    own!("/dom.js", "dom.js", SCRIPT),
    own!("/words.js", "words.js", SCRIPT),
    own!("/graph.js", "graph.js", SCRIPT),
    own!("/layout.js", "layout.js", SCRIPT),
    own!("/motion.js", "motion.js", SCRIPT),
    own!("/chart.js", "chart.js", SCRIPT),
    own!("/table.js", "table.js", SCRIPT),
    own!("/tap.js", "tap.js", SCRIPT),
    own!("/pages/map.js", "pages/map.js", SCRIPT),
    own!("/pages/traffic.js", "pages/traffic.js", SCRIPT),
    own!("/pages/routes.js", "pages/routes.js", SCRIPT),
    own!("/pages/tap.js", "pages/tap.js", SCRIPT),
    own!("/pages/config.js", "pages/config.js", SCRIPT),
    own!("/pages/certificates.js", "pages/certificates.js", SCRIPT),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
        let mut found = BTreeSet::new();
        for place in [folder.clone(), folder.join("pages")] {
            for entry in std::fs::read_dir(place).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
                    found.insert(if name == "index.html" {
                        "/".to_owned()
                    } else {
                        format!("/{name}")
                    });
                }
            }
        }
        let served: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(found, served);
    }

    #[test]
    fn text_of_the_cluster_cannot_become_markup() {
        for file in FILES.iter().filter(|file| file.content_type == SCRIPT) {
            let text = std::str::from_utf8(file.content).unwrap();
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "DOMParser",
                "new Function",
            ] {
                assert!(!text.contains(way), "{} uses {way}", file.path);
            }
        }
    }

    #[test]
    fn the_page_names_no_other_host() {
        for file in &FILES {
            let text = std::str::from_utf8(file.content).unwrap();
            // The namespace of SVG is a name, and nothing is asked of it.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for way in ["http://", "https://", "\"//", "url("] {
                assert!(!text.contains(way), "{} has {way}", file.path);
            }
        }
    }
}
