//! Runs a process to its end and keeps what it writes, up to a bound.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::process::Group;
use crate::protocol::{OUTPUT_LIMIT_BYTES, Output, Signal};
use crate::settings::{Program, Settings};

/// Runs `program` in the namespaces of the current thread. What it started and left behind in its process group ends
/// with it. Cancel safe: dropping the future kills the group.
pub async fn run(
    settings: &Settings,
    program: &Program,
    stdin: Vec<u8>,
) -> Result<Output, CaptureError> {
    let mut command = settings.command(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(CaptureError::Spawn)?;
    let group = child.id().map(Group::led_by);
    let _killed_at_the_end = KillOnDrop(group);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut input) = input {
            // A program that reads no further is no error of ours.
            let _ = input.write_all(&stdin).await;
        }
        Ok(())
    };
    let status = {
        let transfer =
            async { tokio::try_join!(feed, read(output, &mut stdout), read(errors, &mut stderr)) };
        let mut transfer = std::pin::pin!(transfer);
        tokio::select! {
            done = &mut transfer => {
                done?;
                child.wait().await
            }
            status = child.wait() => {
                // Something that it started may hold its outputs open for ever.
                if let Ok(done) = timeout(REST_WITHIN, transfer).await {
                    done?;
                }
                status
            }
        }
    };
    let code = code(status.map_err(CaptureError::Spawn)?);
    Ok(Output { code, stdout, stderr })
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It could not be started or waited for.
    #[error("cannot start the program")]
    Spawn(#[source] std::io::Error),
    /// It cannot be listened to.
    #[error("cannot read what the program writes")]
    Read(#[source] std::io::Error),
    /// It writes too much.
    #[error("the program wrote more than {OUTPUT_LIMIT_BYTES} bytes and was killed")]
    TooMuch,
}

async fn read(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> Result<(), CaptureError> {
    let Some(mut from) = from else { return Ok(()) };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk).await.map_err(CaptureError::Read)?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        if to.len() + bytes.len() > OUTPUT_LIMIT_BYTES {
            return Err(CaptureError::TooMuch);
        }
        to.extend_from_slice(bytes);
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(-1)
}

struct KillOnDrop(Option<Group>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.signal(Signal::Kill);
        }
    }
}

const CHUNK_BYTES: usize = 64 * 1024;
/// How long after the end of a program its outputs may stay open.
const REST_WITHIN: Duration = Duration::from_millis(500);
