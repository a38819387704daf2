//! The program as it is typed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heddle-control-plane"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn help_names_every_setting_and_its_variable() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in ["--directory", "--state-directory", "--join-tokens", "--listen", "--admin-socket"]
    {
        assert!(text.contains(flag), "{flag}");
    }
    assert!(text.contains("HEDDLE_LEAF_LIFETIME"));
}

#[test]
fn all_bad_settings_are_listed_at_once() {
    let output = run(&["--leaf-lifetime", "5", "--listen", "here", "--state-directory", "s"]);
    assert_eq!(output.status.code(), Some(2), "as of any command line that is not understood");
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r#"heddle-control-plane: 4 bad settings: --directory (HEDDLE_DIRECTORY) is missing (want a path); --join-tokens (HEDDLE_JOIN_TOKENS) is missing (want a path); --listen (HEDDLE_LISTEN)="here" (want an address and a port such as 0.0.0.0:15210); --leaf-lifetime (HEDDLE_LEAF_LIFETIME)="5" (want a duration of 30s to 365 days, such as "24h")"#);
}
