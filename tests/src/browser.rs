//! A headless Chromium, driven over WebDriver by Debian's chromedriver: a new profile each, and nothing of its own on the
//! network.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::process;
use crate::program;
use crate::requirements;

/// The browser. It ends with this value.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one, with a window of this size.
    pub async fn start(width: u32, height: u32) -> Result<Self> {
        let driver = requirements::find("chromedriver").context("no chromedriver")?;
        let binary = requirements::find("chromium").context("no chromium")?;
        let profile = tempfile::Builder::new().prefix("hd-").tempdir()?;
        let mut command = Command::new(driver);
        command.arg("--port=0").env("HOME", profile.path()).env("TMPDIR", profile.path());
        command.stderr(Stdio::null());
        // So that whatever it starts can be ended with it: the browser outlives a driver that is killed.
        command.process_group(0);
        let mut driver = program::start(command)?;
        let stdout = driver.stdout.take().context("no standard output")?;
        let port = tokio::time::timeout(START_LIMIT, port_in(BufReader::new(stdout)))
            .await
            .context("chromedriver does not say its port")??;
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ];
        let mut arguments: Vec<String> = flags.map(ToOwned::to_owned).to_vec();
        arguments.push(format!("--window-size={width},{height}"));
        arguments.push(format!("--user-data-dir={}", browser._profile.path().join("p").display()));
        let options = json!({"binary": binary, "args": arguments});
        let logs = json!({"browser": "ALL", "performance": "ALL"});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs});
        let made =
            browser.ask("/session", json!({"capabilities": {"alwaysMatch": wanted}})).await?;
        let session = made.get("sessionId").and_then(Value::as_str);
        browser.session = session.with_context(|| format!("no session: {made}"))?.to_owned();
        Ok(browser)
    }

    /// Opens an address.
    pub async fn open(&self, address: &str) -> Result<()> {
        self.command("url", json!({"url": address})).await?;
        Ok(())
    }

    /// Runs a script in the page; what it returns. Its arguments are in `arguments`.
    pub async fn run(&self, script: &str, arguments: Value) -> Result<Value> {
        self.command("execute/sync", json!({"script": script, "args": arguments})).await
    }

    /// Presses keys one after another; see WebDriver's names of keys.
    pub async fn press(&self, keys: &[char]) -> Result<()> {
        let pressed = keys.iter().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
        });
        let keyboard =
            json!({"type": "key", "id": "keyboard", "actions": pressed.collect::<Vec<_>>()});
        self.command("actions", json!({"actions": [keyboard]})).await?;
        Ok(())
    }

    /// A command of Chromium's own protocol.
    pub async fn chromium(&self, command: &str, parameters: Value) -> Result<Value> {
        self.command("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// The processor time that its processes have taken that draw pages.
    pub fn drawing_time(&self) -> Result<Duration> {
        let profile = self._profile.path().to_string_lossy().into_owned();
        let mut sum = Duration::ZERO;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has just ended has no arguments any more.
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments);
            let draws = arguments.contains("--type=renderer") || arguments.contains("--type=gpu");
            if draws && arguments.contains(&profile) {
                sum += process::processor_time(pid)?;
            }
        }
        ensure!(!sum.is_zero(), "no process of the browser's draws");
        Ok(sum)
    }

    /// What was logged since it was asked last: `browser` is the console, `performance` is the network.
    pub async fn logged(&self, kind: &str) -> Result<Vec<Value>> {
        let said = self.command("se/log", json!({"type": kind})).await?;
        Ok(said.as_array().cloned().unwrap_or_default())
    }

    /// A picture of what is seen, as a PNG, kept where artefacts are.
    pub async fn picture(&self, name: &str) -> Result<PathBuf> {
        let path = format!("/session/{}/screenshot", self.session);
        let said = self.send(Method::GET, &path, Value::Null).await?;
        let image = STANDARD.decode(said.as_str().context("no picture")?)?;
        let place = artefacts().join(format!("{name}.png"));
        std::fs::create_dir_all(artefacts())?;
        std::fs::write(&place, image)?;
        Ok(place)
    }

    /// Ends it in good order.
    pub async fn end(self) -> Result<()> {
        self.send(Method::DELETE, &format!("/session/{}", self.session), Value::Null).await?;
        Ok(())
    }

    async fn command(&self, name: &str, parameters: Value) -> Result<Value> {
        self.ask(&format!("/session/{}/{name}", self.session), parameters).await
    }

    async fn ask(&self, path: &str, parameters: Value) -> Result<Value> {
        self.send(Method::POST, path, parameters).await
    }

    async fn send(&self, method: Method, path: &str, parameters: Value) -> Result<Value> {
        tokio::time::timeout(ANSWER_LIMIT, self.exchange(method, path, parameters))
            .await
            .with_context(|| format!("chromedriver does not answer {path}"))?
    }

    async fn exchange(&self, method: Method, path: &str, parameters: Value) -> Result<Value> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let body = if parameters.is_null() { String::new() } else { parameters.to_string() };
        let body = Bytes::from(body);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("127.0.0.1:{}", self.port))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, body))
        };
        tokio::pin!(answered);
        let (status, body) = tokio::select! {
            answered = &mut answered => answered?,
            ended = connection => { ended?; answered.await? }
        };
        let said: Value = serde_json::from_slice(&body)?;
        let value = said.get("value").cloned().unwrap_or_default();
        ensure!(status.is_success(), "chromedriver says {status} to {path}: {value}");
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = self.driver.id().and_then(|id| i32::try_from(id).ok());
        // The driver is not reaped yet, so that the number is no other's; all may have ended already.
        let _ended = group.map(|group| killpg(Pid::from_raw(group), Signal::SIGKILL));
    }
}

/// Where pictures are kept: named by `HEDDLE_ARTEFACTS`, or beside what was built.
pub fn artefacts() -> PathBuf {
    let named = std::env::var_os("HEDDLE_ARTEFACTS").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let own = std::env::current_exe().unwrap_or_default();
        let folder = own.ancestors().nth(3).map(PathBuf::from).unwrap_or_default();
        folder.join("artefacts")
    })
}

/// It says `... started successfully on port 43121.`
async fn port_in(mut lines: BufReader<tokio::process::ChildStdout>) -> Result<u16> {
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(lines.read_line(&mut line).await? > 0, "chromedriver has ended");
        let port = line.rsplit_once("on port ").map(|(_, rest)| rest.trim().trim_end_matches('.'));
        if let Some(port) = port.filter(|_| line.contains("successfully")) {
            return Ok(port.parse()?);
        }
    }
}

/// A new browser on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// Keys, as WebDriver names them.
pub mod keys {
    /// To what comes next.
    pub const TAB: char = '\u{e004}';
    /// Follows a link.
    pub const ENTER: char = '\u{e007}';
    /// Closes what was opened.
    pub const ESCAPE: char = '\u{e00c}';
    /// Back in time, on a chart.
    pub const LEFT: char = '\u{e012}';
}
