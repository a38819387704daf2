//! The conversation on a world's control socket: one request and one response, each a line of JSON, per connection.
//! A client that hangs up takes its request back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};

use crate::status::LocalStatus;

/// What a client may ask of a world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// How everything is.
    Status,
    /// Answer when every workload is ready, or when `within` has passed.
    WaitReady {
        /// How long to wait.
        within: Duration,
    },
    /// Run a process in a workload's namespaces and wait for its end.
    Run(RunRequest),
    /// `GET` from the bridge to a workload's own address.
    HttpGet {
        /// `name`, or `namespace/name`.
        workload: String,
        /// The port to connect to.
        port: u16,
        /// The path, with a leading slash.
        path: String,
    },
    /// Send a signal to a process; it is not restarted when it ends of it.
    Stop {
        /// The process.
        target: Target,
        /// The signal.
        signal: Signal,
    },
    /// Start a process that was stopped.
    StartAgain {
        /// The process.
        target: Target,
    },
    /// End the world.
    Shutdown,
}

/// A process to run beside an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// `name`, `namespace/name`, or [`BRIDGE`].
    pub workload: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// What it reads from its standard input.
    #[serde(with = "bytes_as_text")]
    pub stdin: Vec<u8>,
    /// Whether it keeps the capabilities of the world instead of being confined as an application is.
    pub privileged: bool,
}

/// What a world answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Response {
    /// To [`Request::Status`].
    Status(LocalStatus),
    /// To [`Request::WaitReady`]: the workloads that are not ready; none when all are.
    Readiness {
        /// Those that are not.
        waiting: Vec<NotReady>,
    },
    /// To [`Request::Run`].
    Output(Output),
    /// To [`Request::HttpGet`].
    Http(HttpAnswer),
    /// It is done.
    Done,
    /// It was not done.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A workload that is not ready, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotReady {
    /// `namespace/name`.
    pub workload: String,
    /// What it is waiting for.
    pub state: String,
    /// The end of its last process's log.
    pub log: String,
}

/// How a process that [`Request::Run`] started has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The exit code; 128 and the signal's number after a signal, as a shell says it.
    pub code: i32,
    /// What it wrote to its standard output.
    #[serde(with = "bytes_as_text")]
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    #[serde(with = "bytes_as_text")]
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text; bytes that are no UTF-8 are replaced.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text; bytes that are no UTF-8 are replaced.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The body.
    #[serde(with = "bytes_as_text")]
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A process that can be stopped and started again. Workloads are `name` or `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The control plane.
    ControlPlane,
    /// A workload's proxy.
    Proxy(String),
    /// A workload's application: all of its containers.
    Application(String),
}

/// The signals that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// `SIGTERM`: end in good order.
    Terminate,
    /// `SIGINT`: what Ctrl-C sends.
    Interrupt,
    /// `SIGKILL`: end at once.
    Kill,
    /// `SIGSTOP`: stand still. The process does not end and counts as running.
    Pause,
    /// `SIGCONT`: go on after [`Signal::Pause`].
    Continue,
}

/// What a world says on its standard output, once: whether its control socket listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "world", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Announcement {
    /// The control socket listens.
    Listening,
    /// This machine does not let this user make namespaces.
    Forbidden {
        /// What the kernel refused.
        reason: String,
    },
    /// Something else went wrong.
    Failed {
        /// What.
        reason: String,
    },
}

/// A line that cannot be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The connection broke.
    #[error("the connection to the world broke")]
    Io(#[from] std::io::Error),
    /// The other end hung up.
    #[error("the world hung up without an answer")]
    Closed,
    /// More than [`LINE_LIMIT_BYTES`].
    #[error("a line longer than {LINE_LIMIT_BYTES} bytes")]
    TooLong,
    /// Not the JSON that was expected.
    #[error("a line that is not of this conversation")]
    Json(#[from] serde_json::Error),
}

/// Reads one line of JSON.
pub async fn read_line<T, R>(reader: &mut R) -> Result<T, LineError>
where
    T: for<'de> Deserialize<'de>,
    R: AsyncBufRead + Unpin,
{
    let mut line = Vec::new();
    reader.take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') {
        Ok(serde_json::from_slice(&line)?)
    } else if u64::try_from(line.len()).unwrap_or(u64::MAX) >= LINE_LIMIT_BYTES {
        Err(LineError::TooLong)
    } else {
        Err(LineError::Closed)
    }
}

/// Writes one line of JSON.
pub async fn write_line<T: Serialize, W: AsyncWrite + Unpin>(
    writer: &mut W,
    value: &T,
) -> Result<(), LineError> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    Ok(writer.flush().await?)
}

/// Bytes as base64, since JSON has no bytes and a list of numbers takes four times the room.
mod bytes_as_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// The name of the bridge's namespace where a workload is asked for.
pub const BRIDGE: &str = "@bridge";
/// How much of each of a process's two outputs [`Request::Run`] keeps; a process that writes more is killed.
pub const OUTPUT_LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// Room for two full outputs in base64.
pub const LINE_LIMIT_BYTES: u64 = 192 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_read_as_it_was_written() {
        let request = Request::Run(RunRequest {
            workload: "default/api".to_owned(),
            argv: vec!["cat".to_owned()],
            stdin: vec![0, 10, 255],
            privileged: false,
        });
        let mut wire = Vec::new();
        write_line(&mut wire, &request).await.unwrap();
        assert_eq!(wire.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: Request = read_line(&mut wire.as_slice()).await.unwrap();
        assert_eq!(read, request);
    }

    #[tokio::test]
    async fn half_a_line_is_a_client_that_hung_up() {
        let read = read_line::<Request, _>(&mut &b"{\"request\":\"status\""[..]).await;
        assert!(matches!(read, Err(LineError::Closed)), "{read:?}");
    }
}
