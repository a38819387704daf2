//! What the echo server and its client say to each other, and what of it the suite reads.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use clap::Parser;
use heddle_runtime::tasks::Tasks;
use hyper::http::header::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::echo::tls::Files;

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Client {
    #[command(flatten)]
    settings: client::Settings,
}

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Server {
    #[command(flatten)]
    settings: server::Settings,
}

/// A server of its own, and where it speaks HTTP, gRPC and bytes.
async fn started(tasks: &Tasks) -> [SocketAddr; 3] {
    let settings = server::Settings {
        ports: vec![0],
        tls: Vec::new(),
        grpc: vec![0],
        tcp: vec![0],
        files: Files::default(),
    };
    let bound = server::serve(&settings, "echo-v1-6f7-abcde", tasks).await.unwrap();
    let local = bound.iter().map(|address| (Ipv4Addr::LOCALHOST, address.port()).into());
    local.collect::<Vec<SocketAddr>>().try_into().unwrap()
}

async fn output(arguments: &[&str], tasks: &Tasks) -> Result<String> {
    let client = Client::try_parse_from(arguments)?;
    let mut out = Vec::new();
    client::run(&client.settings, tasks, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn a_request_is_told_as_the_suite_reads_it() {
    let tasks = Tasks::new();
    let [http, ..] = started(&tasks).await;
    let url = format!("http://{http}/v1?animal=whale");
    let arguments = [&url, "--method=PUT", "-H", "X-Header-Add:a,b", "-H", "Host:echo-v2"];
    let said = output(&arguments, &tasks).await.unwrap();
    let lines: BTreeSet<&str> = said.lines().collect();
    for expected in [
        "[0] StatusCode=200",
        "[0] ResponseHeader=content-type:text/plain",
        "[0 body] Hostname=echo-v1-6f7-abcde",
        "[0 body] Host=echo-v2",
        "[0 body] URL=/v1?animal=whale",
        "[0 body] Method=PUT",
        "[0 body] Proto=HTTP/1.1",
        "[0 body] IP=127.0.0.1",
        "[0 body] RequestHeader=x-header-add:a,b",
    ] {
        assert!(lines.contains(expected), "{expected:?} is not in:\n{said}");
    }
}

#[tokio::test]
async fn a_call_of_grpc_is_told_like_a_request() {
    let tasks = Tasks::new();
    let [_, grpc, _] = started(&tasks).await;
    let url = format!("grpc://{grpc}");
    let said = output(&[&url, "-H", "x-header-set:one"], &tasks).await.unwrap();
    let lines: BTreeSet<&str> = said.lines().collect();
    for expected in [
        "[0 body] StatusCode=200",
        "[0 body] Hostname=echo-v1-6f7-abcde",
        "[0 body] URL=/proto.EchoTestService/Echo",
        "[0 body] Proto=HTTP/2.0",
        "[0 body] RequestHeader=x-header-set:one",
    ] {
        assert!(lines.contains(expected), "{expected:?} is not in:\n{said}");
    }
}

#[tokio::test]
async fn every_answer_is_a_block_with_an_empty_line_after_it() {
    let tasks = Tasks::new();
    let [http, grpc, _] = started(&tasks).await;
    for url in [format!("http://{http}"), format!("grpc://{grpc}")] {
        let said = output(&[&url, "--count=25"], &tasks).await.unwrap();
        let blocks: Vec<&str> = said.split("\n\n").filter(|block| !block.is_empty()).collect();
        assert_eq!(blocks.len(), 25, "case: {url}");
        let answered =
            |block: &&str| block.contains("StatusCode=200") && block.contains("Hostname=");
        assert!(blocks.iter().all(answered), "case: {url}:\n{said}");
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_a_failure() {
    let tasks = Tasks::new();
    let [http, ..] = started(&tasks).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [
        format!("http://{nobody}/"),
        format!("grpc://{nobody}"),
        format!("https://{http}/"),
        format!("{http}"),
    ] {
        assert!(output(&[&url], &tasks).await.is_err(), "case: {url}");
    }
}

#[tokio::test]
async fn bytes_come_back_after_a_greeting() {
    let tasks = Tasks::new();
    let [.., tcp] = started(&tasks).await;
    let mut stream = TcpStream::connect(tcp).await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("Hostname=echo-v1-6f7-abcde\n"), "{said}");
    assert!(said.ends_with("\nhello\n"), "{said}");
}

#[test]
fn a_server_takes_the_arguments_of_the_suites_manifests() {
    let manifest = [
        "--tcp=9090",
        "--port=8080",
        "--grpc=7070",
        "--port=8443",
        "--tls=8443",
        "--crt=/cert.crt",
        "--key=/cert.key",
    ];
    let read = Server::try_parse_from(manifest).unwrap().settings;
    assert_eq!((read.ports, read.tls), (vec![8080, 8443], vec![8443]));
    assert_eq!((read.grpc, read.tcp), (vec![7070], vec![9090]));
    let none: [&str; 0] = [];
    let read = Server::try_parse_from(none).unwrap().settings;
    assert_eq!((read.ports, read.grpc, read.tcp), (vec![8080], vec![7070], vec![9090]));
}

#[test]
fn a_header_of_the_client_does_not_pass_for_the_servers_name() {
    let mut request = Request::new(());
    request.headers_mut().insert("x-trick", HeaderValue::from_static("Hostname=other"));
    let place = Place {
        hostname: "echo-v2-1-a".to_owned(),
        port: 8080,
        client: "[::ffff:10.1.0.7]:5000".parse().unwrap(),
    };
    let said = lines(&request, &place);
    assert!(said.starts_with("Hostname=echo-v2-1-a\n"), "{said}");
    assert!(said.contains("\nIP=10.1.0.7\n"), "{said}");
}

#[test]
fn one_file_of_a_certificate_without_the_other_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let crt = folder.path().join("cert.crt");
    let key = folder.path().join("cert.key");
    let files = Files { crt: Some(crt.clone()), key: Some(key.clone()) };
    assert!(tls::acceptor(&files).is_ok(), "without files it makes its own");
    let made = rcgen::generate_simple_self_signed(["echo".to_owned()]).unwrap();
    std::fs::write(&crt, made.cert.pem()).unwrap();
    assert!(tls::acceptor(&files).is_err());
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    assert!(tls::acceptor(&files).is_ok(), "files are read");
}
