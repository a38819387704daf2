//! The start of the program on Kubernetes, with an API server that takes its time.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::http;

/// An address that was free a moment ago, for a program that tells nobody which it took.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_program_whose_api_server_does_not_answer_lives_is_not_ready_and_ends_when_asked() {
    // Connections are taken by the kernel, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = silent.local_addr().unwrap();
    let place = tempfile::tempdir().unwrap();
    let kubeconfig = place.path().join("kubeconfig");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let metrics = free().await;
    let mut program = Command::new(env!("CARGO_BIN_EXE_heddle-control-plane"))
        .args(["--kubernetes", "true", "--pod-name", "cp-1", "--listen", "127.0.0.1:0"])
        .args(["--metrics-listen", &metrics.to_string()])
        .env_clear()
        .env("KUBECONFIG", &kubeconfig)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap()).lines();
    let says_so = async {
        loop {
            let line = log.next_line().await.unwrap().expect("the program has ended");
            if line.contains("no authority yet; trying again") {
                return line;
            }
        }
    };
    let line = timeout(DEADLINE, says_so).await.expect("nothing was logged");
    assert!(line.contains("the API server does not answer"), "{line}");
    assert_eq!(http::get(metrics, "/live").await.unwrap().0, 200);
    let (status, body) = http::get(metrics, "/ready").await.unwrap();
    assert_eq!((status, body.as_str()), (503, "not ready: authority, configuration\n"));

    let pid = Pid::from_raw(i32::try_from(program.id().unwrap()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let ended = timeout(DEADLINE, program.wait()).await.expect("it does not end").unwrap();
    assert!(ended.success(), "{ended}");
}

const DEADLINE: Duration = Duration::from_secs(60);
