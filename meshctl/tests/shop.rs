//! The shop's programs as they are: real processes on the loopback, on ports that the kernel chooses.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;

use meshctl::shop::load::report::Report;

/// One of the shop's programs; ends with the test.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    /// Starts it and waits until it says where it listens.
    fn start(arguments: &[&str]) -> Self {
        let mut command = meshctl(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
        let address = address.parse().unwrap();
        // Whatever else it says, it must not stop for want of a reader.
        thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Self { child, address }
    }

    fn shop(arguments: &[&str]) -> Self {
        let listen = ["--listen", "127.0.0.1:0"];
        Self::start(&[&["shop"], arguments, &listen].concat())
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    fn finish(mut self) -> (i32, String) {
        let mut text = String::new();
        let mut output: ChildStdout = self.child.stdout.take().unwrap();
        output.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code().unwrap(), text)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn meshctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshctl"));
    command.args(arguments).env_remove("NO_COLOR");
    command
}

fn load(target: &str, arguments: &[&str]) -> (i32, Report) {
    let fixed = ["shop", "load", "--output", "json", "--target", target];
    let output = meshctl(&[&fixed, arguments].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (output.status.code().unwrap(), report)
}

/// The parts stay alive as long as the frontend is wanted.
fn start_shop(version: &str) -> [Program; 3] {
    let store = Program::shop(&["store"]);
    let store_address = store.address.to_string();
    let api = Program::shop(&["api", "--version", version, "--store", &store_address]);
    let frontend = Program::shop(&["frontend", "--api", &api.url()]);
    [frontend, api, store]
}

/// Answers each connection with the next of `answers`, and the last one from then on.
fn serve_raw(answers: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let answer = answers.get(index).or(answers.last()).unwrap();
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::from("x");
            while !line.trim().is_empty() {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = reader.into_inner().write_all(answer.as_bytes());
        }
    });
    url
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_healthy_shop_answers_every_request_and_the_load_counts_exactly_those() {
    let [frontend, _api, _store] = start_shop("v1");
    let (code, report) = load(&frontend.url(), &["--requests", "500", "--connections", "4"]);
    assert_eq!(code, 0);
    assert_eq!((report.sent, report.succeeded, report.failed), (500, 500, 0));
    assert_eq!((report.in_flight, report.completed_through), (0, 500));
    assert_eq!(report.versions, [("v1".to_owned(), 500)].into());
    assert!(report.latency_ms.p50 <= report.latency_ms.p99 && report.latency_ms.p50 > Some(0.0));
}

#[test]
fn the_load_speaks_http_2() {
    let [frontend, _api, _store] = start_shop("v2");
    let (code, report) = load(&frontend.url(), &["--requests", "100", "--http2"]);
    assert_eq!((code, report.succeeded), (0, 100));
    assert_eq!(report.versions, [("v2".to_owned(), 100)].into());
}

#[test]
fn a_rate_is_kept() {
    let [frontend, _api, _store] = start_shop("v1");
    let (code, report) = load(&frontend.url(), &["--rate", "100", "--requests", "50"]);
    assert_eq!((code, report.succeeded), (0, 50));
    assert!(report.seconds >= 0.49, "{report:?}");
}

#[test]
fn a_name_is_resolved_as_the_system_does() {
    let [frontend, _api, _store] = start_shop("v1");
    let url = format!("http://localhost:{}/", frontend.address.port());
    let (code, report) = load(&url, &["--requests", "3"]);
    assert_eq!((code, report.succeeded), (0, 3));
    let (code, report) = load("http://no-such-name.invalid/", &["--requests", "3"]);
    assert_eq!((code, report.failed), (1, 3));
    assert_eq!(report.failures, [("resolve".to_owned(), 3)].into());
}

#[test]
fn a_shop_without_its_api_fails_aloud() {
    let [frontend, api, _store] = start_shop("v1");
    drop(api);
    let (code, report) = load(&frontend.url(), &["--requests", "20"]);
    assert_eq!((code, report.sent, report.succeeded, report.failed), (1, 20, 0, 20));
    assert_eq!(report.failures, [("status_502".to_owned(), 20)].into());
}

#[test]
fn an_api_goes_on_when_its_store_comes_back() {
    let [frontend, _api, store] = start_shop("v1");
    let (code, _) = load(&frontend.url(), &["--requests", "10"]);
    assert_eq!(code, 0);
    let address = store.address.to_string();
    drop(store);
    let _store = Program::start(&["shop", "store", "--listen", &address]);
    let (code, report) = load(&frontend.url(), &["--requests", "10"]);
    assert_eq!((code, report.succeeded), (0, 10));
}

#[test]
fn what_did_not_arrive_whole_is_no_success() {
    for (reason, answer) in [
        ("body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
        ("body", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ("body_without_length", "HTTP/1.1 200 OK\r\n\r\nwhole?"),
        ("status_204", "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"),
        ("closed", ""),
        ("closed", "HTTP/1.1 200"),
        ("protocol", "SSH-2.0-OpenSSH\r\n\r\n"),
    ] {
        let answers: &'static [&'static str] = Vec::leak(vec![answer]);
        let (code, report) = load(&serve_raw(answers), &["--requests", "4"]);
        assert_eq!((code, report.failed), (1, 4), "{answer:?}");
        assert_eq!(report.failures, [(reason.to_owned(), 4)].into(), "{answer:?}");
    }
}

#[test]
fn a_server_that_closes_after_each_answer_loses_nothing() {
    let (code, report) = load(&serve_raw(&[GOOD]), &["--requests", "200"]);
    assert_eq!((code, report.succeeded), (0, 200), "{report:?}");
}

#[test]
fn a_silent_server_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (code, report) = load(&url, &["--requests", "2", "--timeout", "100ms"]);
    assert_eq!((code, report.failures), (1, [("timeout".to_owned(), 2)].into()));
}

#[test]
fn a_target_that_is_waited_for_counts_from_its_first_good_answer() {
    const BAD: &str = "HTTP/1.1 503 Not Yet\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let url = serve_raw(&[BAD, BAD, GOOD]);
    let wait = ["--wait-for-target", "30s", "--requests", "5"];
    let (code, report) = load(&url, &wait);
    assert_eq!((code, report.sent, report.succeeded), (0, 5, 5));
    assert_eq!(report.attempts_before_first_answer, 2);
    let url = serve_raw(&[BAD]);
    let never = ["shop", "load", "--target", &url, "--wait-for-target", "300ms"];
    let output = meshctl(&never).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("did not answer 200 within 300ms"), "{said}");
    assert!(said.contains("status_503"), "{said}");
}

#[test]
fn sigterm_ends_the_load_with_every_request_counted() {
    let [frontend, _api, _store] = start_shop("v1");
    let url = frontend.url();
    let load = Program::start(&[
        "shop",
        "load",
        "--output",
        "json",
        "--target",
        &url,
        "--stats-listen",
        "127.0.0.1:0",
    ]);
    let live = loop {
        let live = stats(load.address);
        if live.succeeded >= 50 {
            break live;
        }
    };
    load.terminate();
    let (code, text) = load.finish();
    let report: Report = serde_json::from_str(&text).unwrap();
    assert_eq!((code, report.failed, report.in_flight), (0, 0, 0));
    assert_eq!(report.sent, report.succeeded);
    assert!(report.succeeded >= live.succeeded);
}

#[test]
fn sigterm_ends_the_shop_in_good_order() {
    let [frontend, api, store] = start_shop("v1");
    // A connection that stays open must not hold up the end.
    let mut open = TcpStream::connect(store.address).unwrap();
    open.write_all(b"COUNT\n").unwrap();
    let mut answer = String::new();
    BufReader::new(open.try_clone().unwrap()).read_line(&mut answer).unwrap();
    assert_eq!(answer, "OK 128\n");
    for program in [frontend, api, store] {
        program.terminate();
        assert_eq!(program.finish().0, 0);
    }
}

fn stats(address: SocketAddr) -> Report {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    serde_json::from_str(body).unwrap()
}

fn run(arguments: &[&str]) -> Output {
    meshctl(arguments).output().unwrap()
}

#[test]
fn exit_codes_are_as_the_help_says() {
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(run(&["demo", "--duration", "5"]).status.code(), Some(2));
    let status = run(&["status", "--admin-socket", "/nonexistent/admin.sock"]);
    assert_eq!(status.status.code(), Some(1));
    let said = String::from_utf8(status.stderr).unwrap();
    for part in ["error: cannot ask the control plane at /nonexistent/admin.sock", "because", "try"]
    {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn completions_are_printed_and_a_reader_that_leaves_early_is_no_error() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell]);
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}");
    }
    let mut child = meshctl(&["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
