//! The command lines of the test applications in `tests/applications`, which know nothing of a mesh.

use std::path::Path;

use anyhow::Result;

use crate::program;
use crate::requirements;

/// An HTTP server that answers with what it was asked, and with `name` in `x-shop-version`.
pub fn echo_http(port: u16, name: &str) -> Vec<String> {
    python("echo_http.py", &[&port.to_string(), name])
}

/// The same on one IPv4 address only.
pub fn echo_http_on(port: u16, name: &str, address: &str) -> Vec<String> {
    python("echo_http.py", &[&port.to_string(), name, address])
}

/// A TCP server that answers line by line.
pub fn echo_tcp(port: u16) -> Vec<String> {
    python("echo_tcp.py", &[&port.to_string()])
}

/// The same, but the server speaks first.
pub fn greeter(port: u16) -> Vec<String> {
    python("echo_tcp.py", &[&port.to_string(), "greet"])
}

/// A server that speaks first, ends its direction, and reads what comes.
pub fn farewell(port: u16) -> Vec<String> {
    python("echo_tcp.py", &[&port.to_string(), "farewell"])
}

/// Sends its standard input and prints the answer.
pub fn tcp_client(host: &str, port: u16) -> Vec<String> {
    python("tcp_client.py", &[host, &port.to_string()])
}

/// Opens so many connections to [`echo_tcp`], one after the other, and prints how many were answered right.
pub fn many_tcp(host: &str, port: u16, number: u32) -> Vec<String> {
    python("many_tcp.py", &[host, &port.to_string(), &number.to_string()])
}

/// An HTTP/1 server that does what servers may do, as the path says.
pub fn odd_http(port: u16) -> Vec<String> {
    python("odd_http.py", &[&port.to_string()])
}

/// An HTTP/1 server that answers with secrets, and writes down what it was told.
pub fn secretive_http(port: u16, secret: &str) -> Vec<String> {
    python("secretive_http.py", &[&port.to_string(), secret])
}

/// A client that does what its standard input says; see conversation.rs.
pub fn converse(host: &str, port: u16) -> Vec<String> {
    python("converse.py", &[host, &port.to_string()])
}

/// A server that sends as many bytes as it is told, and takes as many.
pub fn bulk_server(port: u16) -> Vec<String> {
    python("bulk_tcp.py", &["serve", &port.to_string()])
}

/// Its client.
pub fn bulk_client(host: &str, port: u16, bytes: u64) -> Vec<String> {
    python("bulk_tcp.py", &["exchange", host, &port.to_string(), &bytes.to_string()])
}

/// Measures the first byte of a server that speaks first, in milliseconds.
pub fn first_byte(host: &str, port: u16, attempts: u32) -> Vec<String> {
    python("first_byte.py", &[host, &port.to_string(), &attempts.to_string()])
}

/// Writes all packets of its network namespace to a file; needs the right to see them.
pub fn capture(file: &str) -> Vec<String> {
    python("capture.py", &[file])
}

/// A program on a terminal of its own, which is given keys or a signal once a text is on it.
pub fn terminal(size: &str, wanted: &str, deed: &str, command: &[String]) -> Vec<String> {
    let arguments = [size, wanted, deed].into_iter().chain(command.iter().map(String::as_str));
    python("terminal.py", &arguments.collect::<Vec<_>>())
}

/// `heddle-test-grpc`, which Cargo builds with the tests.
pub fn grpc(arguments: &[&str]) -> Result<Vec<String>> {
    beside("heddle-test-grpc", arguments)
}

/// `heddle-test-http2`, which Cargo builds with the tests.
pub fn http2(arguments: &[&str]) -> Result<Vec<String>> {
    beside("heddle-test-http2", arguments)
}

/// `heddle-test-collector`, which Cargo builds with the tests.
pub fn collector(arguments: &[&str]) -> Result<Vec<String>> {
    beside("heddle-test-collector", arguments)
}

fn beside(program: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let path = program::binaries()?.path(program).to_string_lossy().into_owned();
    let arguments = arguments.iter().map(|argument| (*argument).to_owned());
    Ok(std::iter::once(path).chain(arguments).collect())
}

/// Python with a program of `tests/applications`.
fn python(program: &str, arguments: &[&str]) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("applications").join(program);
    let mut command = vec![interpreter(), path.to_string_lossy().into_owned()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    command
}

/// Python.
pub fn interpreter() -> String {
    requirements::find("python3")
        .map_or_else(|| "python3".to_owned(), |path| path.to_string_lossy().into_owned())
}
