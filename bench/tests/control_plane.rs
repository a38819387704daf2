//! The control plane serves many proxies: each is told what it asked for, of every change once, and nobody else is; all come
//! back after a restart. Counts only: how long it takes is for `heddle-bench control-plane` to say on a quiet machine.
#![expect(
    clippy::disallowed_methods,
    reason = "whether this is continuous integration is asked where it matters"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn every_subscriber_is_told_of_every_change_and_nobody_else_is() {
    let program = Path::new(env!("CARGO_BIN_EXE_heddle-bench"));
    if !program.with_file_name("heddle-control-plane").is_file() {
        assert!(std::env::var("CI").is_err(), "heddle-control-plane was not built");
        let said = "SKIPPED: heddle-control-plane was not built: cargo build --workspace";
        // Nobody may be reading.
        let _ = writeln!(std::io::stderr().lock(), "{said}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("results.json");
    let run = Command::new(program)
        .args(["control-plane", "--proxies=50", "--services=50", "--endpoints=500"])
        .args(["--subscriptions=10", "--changes=40", "--certificates=50", "--idle-seconds=1"])
        .arg("--output")
        .arg(&output)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let results: Value = serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap();
    let number = |part: &str, name: &str| {
        let number = results[part][name].as_f64();
        number.unwrap_or_else(|| panic!("no {part}.{name}: {results:#}"))
    };
    // The service that all of them call has changed twice.
    let expected = number("changes", "expected");
    assert!(expected >= 100.0, "{results:#}");
    assert_eq!(number("changes", "received"), expected, "{results:#}");
    assert_eq!(number("changes", "strays"), 0.0, "{results:#}");
    assert_eq!(number("changes", "refused"), 0.0, "{results:#}");
    assert_eq!(number("restart", "in_sync"), 50.0, "{results:#}");
    assert_eq!(number("certificates", "count"), 50.0, "{results:#}");
    // One endpoint with two names, an identity and a UID; a TLS record and frames of HTTP/2. Most proxies are not asked
    // for a sign of life meanwhile.
    let (added, removed) = (number("changes", "bytes_added"), number("changes", "bytes_removed"));
    assert!((100.0..400.0).contains(&added), "{results:#}");
    assert!((50.0..200.0).contains(&removed), "{results:#}");
    assert_eq!(number("changes", "bytes_to_others"), 0.0, "{results:#}");
    // However many endpoints there are beside it.
    assert!(number("changes", "bytes_added_to_large") < added + 50.0, "{results:#}");
}
