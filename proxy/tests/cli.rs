//! The command line, as whoever starts the proxy meets it.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its functions share"
)]

use std::process::{Command, Output};

fn heddle_proxy(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heddle-proxy"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_names_both_commands() {
    let output = heddle_proxy(&["--help"], &[]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    for command in ["run", "redirect"] {
        assert!(help.contains(command), "{command} is missing: {help}");
    }
}

#[test]
fn help_of_the_redirect_says_what_it_affects_and_how_it_is_undone() {
    for flag in ["-h", "--help"] {
        let help = text(&heddle_proxy(&["redirect", flag], &[]).stdout);
        for words in ["the whole machine's", "See first with --dry-run; undo with --remove."] {
            assert!(help.contains(words), "{words} is missing: {help}");
        }
    }
}

#[test]
fn help_names_every_setting_with_its_variable() {
    let output = heddle_proxy(&["run", "--help"], &[]);
    let help = text(&output.stdout);
    for setting in [
        "--control-plane <HOST:PORT>",
        "HEDDLE_TOKEN_FILE",
        "[default: 15101]",
        "HEDDLE_DRAIN_GRACE",
    ] {
        assert!(help.contains(setting), "{setting} is missing: {help}");
    }
}

#[test]
fn all_bad_settings_are_reported_at_once_by_the_name_they_were_given_under() {
    let output = heddle_proxy(
        &["run", "--inbound-port", "0", "--control-plane", "nowhere", "--trust-anchors", "/a"],
        &[("HEDDLE_DRAIN_GRACE", "5"), ("HEDDLE_POD_UID", "uid-1")],
    );
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "heddle-proxy: 4 bad settings: \
         --control-plane=\"nowhere\" (want HOST:PORT); \
         HEDDLE_TOKEN_FILE is not set (want a path, or --token-file); \
         --inbound-port=\"0\" (want 1-65535); \
         HEDDLE_DRAIN_GRACE=\"5\" (want a duration such as \"30s\")\n"
    );
}

#[test]
fn a_missing_command_is_a_mistake_in_usage() {
    assert_eq!(heddle_proxy(&[], &[]).status.code(), Some(2));
    assert_eq!(heddle_proxy(&["fly"], &[]).status.code(), Some(2));
}
