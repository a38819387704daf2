//! The harness works: every system carries traffic, encrypted, and the results have what others read from them. Asserts
//! nothing of speed. What is not on the machine is told aloud and left out; in continuous integration it has to be there.
#![expect(
    clippy::disallowed_methods,
    reason = "whether this is continuous integration is asked where it matters"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn every_system_carries_traffic_and_the_results_are_whole() {
    let program = Path::new(env!("CARGO_BIN_EXE_heddle-bench"));
    let missing: Vec<&str> = ["heddle-local", "heddle-proxy", "heddle-control-plane"]
        .into_iter()
        .filter(|name| !program.with_file_name(name).is_file())
        .collect();
    let in_ci = std::env::var("CI").is_ok();
    if !missing.is_empty() {
        assert!(!in_ci, "{missing:?} were not built");
        say(&format!("SKIPPED: {missing:?} were not built: cargo build --workspace"));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("results.json");
    let run = Command::new(program)
        .args(["run", "--quick", "--rounds=1", "--only=http1_c64,http1_rate1000,grpc,tcp_bulk"])
        .arg("--output")
        .arg(&output)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let results: Value = serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap();
    let absent = results["absent"].as_object().unwrap();
    assert!(!in_ci || absent.is_empty(), "{absent:?}");
    for system in ["no_mesh", "heddle", "envoy", "haproxy", "bare_loop"] {
        if let Some(reason) = absent.get(system) {
            say(&format!("LEFT OUT: {system}: {reason}"));
            continue;
        }
        let figure = |scenario: &str, figure: &str| {
            let median = &results["medians"][scenario][system][figure]["median"];
            median.as_f64().unwrap_or_else(|| panic!("no {scenario} {figure} of {system}: {said}"))
        };
        assert!(figure("http1_c64", "per_second") > 0.0);
        assert!(figure("tcp_bulk", "gbit_per_second") > 0.0);
        if system != "no_mesh" {
            assert!(figure("http1_c64", "client_cpu_us") > 0.0);
            assert!(figure("grpc", "server_cpu_us") > 0.0);
        }
    }
    for (name, other) in [
        ("http1_c64_cpu_vs_haproxy", "haproxy"),
        ("http1_c64_cpu_vs_envoy", "envoy"),
        ("grpc_cpu_vs_envoy", "envoy"),
        ("tcp_bulk_cpu_vs_envoy", "envoy"),
    ] {
        let ratio = results["ratios"][name].as_f64();
        assert!(
            absent.contains_key(other) || ratio.is_some_and(|ratio| ratio > 0.0),
            "{name}: {said}"
        );
    }
    for field in ["machine", "date", "versions", "noise", "rounds", "failures"] {
        assert!(!results[field].is_null(), "no {field}");
    }
}

/// Past the capture of the test harness, which hides what passing tests print.
fn say(text: &str) {
    // Nobody may be reading.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
