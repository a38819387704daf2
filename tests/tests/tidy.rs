//! Checks of the repository itself: what STYLE.md promises and a machine can see.
#![expect(clippy::unwrap_used, reason = "a repository that cannot be read fails its checks")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which crate may depend on which; tests and build scripts included, the `tests` crate excepted, on
/// which nothing may depend.
const ALLOWED_EDGES: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("matcher", &["model"]),
    ("proto", &["model"]),
    ("tls", &["model"]),
    ("runtime", &[]),
    ("report", &["model", "proto", "runtime"]),
    ("telemetry", &["model", "runtime", "tls"]),
    ("injector", &["model", "runtime", "telemetry", "tls"]),
    ("local", &["model", "runtime"]),
    ("proxy", &["matcher", "model", "proto", "runtime", "telemetry", "tls"]),
    ("control-plane", &["model", "proto", "report", "runtime", "telemetry", "tls"]),
    ("fuzz", &["model", "proto", "proxy", "telemetry", "tls"]),
    (
        "meshctl",
        &["injector", "local", "matcher", "model", "proto", "report", "runtime", "telemetry"],
    ),
    ("tests/cluster", &["local", "model", "proto", "runtime"]),
    ("bench", &["local", "model", "proto", "proxy", "runtime", "telemetry", "tls"]),
];

/// Code lines, tests and comments apart, above which a file is split.
const CODE_LINES_LIMIT: usize = 400;

/// Files over the limit, each with its reason.
const LARGE_FILES: [(&str, &str); 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn rust_files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&root(), "rs", &mut found);
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    let named = found.into_iter().map(|path| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    named.collect()
}

#[test]
fn every_file_says_what_it_owns() {
    let silent: Vec<String> = rust_files()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(silent, [""; 0], "these do not open with a `//!` line");
}

#[test]
fn no_file_is_too_large() {
    let code_lines = |text: &str| {
        let before_tests = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        before_tests.lines().filter(is_code).count()
    };
    for (name, text) in rust_files() {
        if name.contains("/tests/") || name.ends_with("/tests.rs") {
            continue;
        }
        let excepted = LARGE_FILES.iter().any(|(large, _)| *large == name);
        let lines = code_lines(&text);
        assert!(
            excepted || lines <= CODE_LINES_LIMIT,
            "{name} has {lines} code lines: which nouns in it deserve a file of their own?"
        );
        assert!(
            !excepted || lines > CODE_LINES_LIMIT,
            "{name} is small by now: take it off LARGE_FILES"
        );
    }
}

#[test]
fn every_file_is_part_of_a_crate() {
    let all = rust_files();
    for (name, _) in &all {
        let path = Path::new(name);
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = path.parent().unwrap();
        let in_root_of_targets = matches!(stem.as_str(), "lib" | "main" | "build")
            || folder.ends_with("tests")
            || folder.ends_with("bin")
            || folder.ends_with("benches")
            || folder.ends_with("examples");
        if in_root_of_targets {
            continue;
        }
        // `a/b.rs` is declared in `a.rs`, `a/lib.rs`, `a/main.rs` or `a/mod.rs`'s stand-in.
        let parents = [folder.with_extension("rs"), folder.join("lib.rs"), folder.join("main.rs")];
        let declared = all.iter().any(|(parent, text)| {
            parents.iter().any(|wanted| Path::new(parent) == wanted)
                && text.lines().any(|line| {
                    let line = line.trim();
                    line.ends_with(&format!("mod {stem};"))
                })
        });
        assert!(declared, "{name} is reachable from no `mod`");
        assert_ne!(stem, "mod", "{name}: x.rs beside x/, never mod.rs");
    }
}

#[test]
fn crates_depend_only_downwards() {
    for (name, allowed) in ALLOWED_EDGES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let found: BTreeSet<String> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("heddle-"))
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .map(ToOwned::to_owned)
            .collect();
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let extra: Vec<&String> = found.difference(&allowed).collect();
        assert!(
            extra.is_empty(),
            "{name} depends on {extra:?}, which ALLOWED_EDGES does not allow"
        );
    }
}

#[test]
fn every_dependency_version_is_in_the_root_manifest() {
    for (name, _) in ALLOWED_EDGES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let own: Vec<&str> = manifest
            .lines()
            .skip_while(|line| !line.contains("dependencies]"))
            .filter(|line| line.contains(" = \"") || line.contains("version ="))
            .filter(|line| !line.contains("workspace = true"))
            .collect();
        let versions: Vec<&&str> =
            own.iter().filter(|line| line.contains(['0', '1', '2', '3', '4'])).collect();
        assert!(versions.is_empty(), "{name}/Cargo.toml names versions: {versions:?}");
    }
}

#[test]
fn every_path_in_the_architecture_exists() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let paths: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|quoted| quoted.contains('/') && !quoted.contains([' ', '<', ':', '*', '{']))
        .filter(|quoted| {
            let first = quoted.split('/').next().unwrap_or_default();
            root().join(first).is_dir() && !first.is_empty()
        })
        .collect();
    assert!(paths.len() > 20, "found only {} paths", paths.len());
    let missing: Vec<&&str> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}

#[test]
fn every_metric_is_documented() {
    let documented = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let mut metrics = BTreeSet::new();
    for (name, text) in rust_files() {
        if !["proxy/src", "control-plane/src", "injector/src"].iter().any(|it| name.starts_with(it))
        {
            continue;
        }
        for line in text.lines() {
            for quoted in line.split('"').skip(1).step_by(2) {
                let is_metric = quoted.starts_with("heddle_")
                    && quoted.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                    && !quoted.starts_with("heddle_proxy")
                    && !quoted.starts_with("heddle_control_plane");
                if is_metric {
                    metrics.insert(quoted.to_owned());
                }
            }
        }
    }
    assert!(metrics.len() > 5, "found only {metrics:?}");
    let missing: Vec<&String> =
        metrics.iter().filter(|metric| !documented.contains(metric.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not tell of {missing:?}");
}

#[test]
fn an_unfinished_place_names_its_issue() {
    // Spelled apart, so that this line is not one of them.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    for (name, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            let marked = marks.iter().any(|mark| line.contains(mark));
            assert!(!marked || line.contains('#'), "{name}:{}: {line}", number + 1);
        }
    }
}
