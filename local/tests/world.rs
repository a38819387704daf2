//! A world with real processes in real namespaces, but without a mesh: the mesh itself is tested where its programs are.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy does not see that the functions beside the tests are test code too"
)]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use heddle_local::mesh::{Binaries, ControlPlane, Mesh, MeshConfig, StartError};
use heddle_local::protocol::{BRIDGE, Signal, Target};
use heddle_local::state_directory::{Occupant, StateDirectory};
use heddle_local::status::WorkloadStatus;

const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
    - name: web
      command: [/usr/bin/python3, -m, http.server, "80", --bind, "::", --directory, MARKER]
      ports: [{containerPort: 80}]
"#;

const CLIENT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: other}
spec:
  securityContext: {runAsUser: 1234}
  containers:
    - {name: client, command: [sleep, infinity]}
"#;

/// A directory for YAML, one for state, and a text that only processes of this test have in their arguments.
struct Place {
    _temporary: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().to_owned();
        // Applications run as other users.
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(root.join("yaml")).unwrap();
        std::fs::write(root.join("hello"), "hello from the web").unwrap();
        Self { _temporary: temporary, root }
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let place = Self::new();
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    fn write(&self, name: &str, text: &str) {
        let text = text.replace("MARKER", &self.marker());
        std::fs::write(self.root.join("yaml").join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.root.join("yaml").join(name)).unwrap();
    }

    fn marker(&self) -> String {
        self.root.to_str().unwrap().to_owned()
    }

    fn config(&self) -> MeshConfig {
        config(&self.root)
    }

    /// `None` where this machine does not allow it, which is said, and is a failure in CI.
    async fn start(&self) -> Option<Mesh> {
        permitted(Mesh::start(self.config()).await)
    }
}

fn config(root: &Path) -> MeshConfig {
    let built = Path::new(env!("CARGO_BIN_EXE_heddle-local")).parent().unwrap().to_owned();
    let copied = root.join("bin");
    MeshConfig {
        state_directory: root.join("state"),
        binaries: Binaries { directory: if copied.exists() { copied } else { built } },
        control_plane: ControlPlane::None,
        ready_within: Duration::from_secs(30),
        ..MeshConfig::new("test", root.join("yaml")).unwrap()
    }
}

fn permitted(outcome: Result<Mesh, StartError>) -> Option<Mesh> {
    match outcome {
        Ok(mesh) => Some(mesh),
        Err(error @ StartError::Forbidden { .. }) => {
            eprintln!("NOT TESTED: {error}");
            let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!ci, "CI must be able to make namespaces");
            None
        }
        Err(error) => panic!("{error}\n{error:?}"),
    }
}

/// Processes of this machine that have `marker` in their arguments.
fn processes(marker: &str) -> BTreeSet<u32> {
    let pids = std::fs::read_dir("/proc").unwrap();
    pids.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).contains(marker)
        })
        .collect()
}

/// The network namespaces of these processes.
fn networks(pids: &BTreeSet<u32>) -> BTreeSet<PathBuf> {
    pids.iter().filter_map(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()).collect()
}

fn all_processes() -> BTreeSet<u32> {
    processes("")
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn curl(mesh: &Mesh, from: &str, url: &str) -> (i32, String) {
    let argv = ["curl", "--silent", "--show-error", "--max-time", "5", url];
    let output = mesh.run(from, &argv, Vec::new()).await.unwrap();
    (output.code, output.stdout_text() + &output.stderr_text())
}

async fn workload(mesh: &Mesh, name: &str) -> Option<WorkloadStatus> {
    mesh.status().await.unwrap().workload(name).cloned()
}

fn hello() -> (i32, String) {
    (0, "hello from the web".to_owned())
}

#[tokio::test]
async fn pods_reach_each_other_by_address_and_by_name_over_both_families() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    let web = workload(&mesh, "web").await.unwrap();
    assert!(web.ready, "{web:?}");
    for address in &web.addresses {
        let url = match address {
            std::net::IpAddr::V4(address) => format!("http://{address}/hello"),
            std::net::IpAddr::V6(address) => format!("http://[{address}]/hello"),
        };
        assert_eq!(curl(&mesh, "client", &url).await, hello(), "{url}");
        assert_eq!(curl(&mesh, BRIDGE, &url).await, hello(), "{url} from the bridge");
    }
    assert!(web.addresses.len() == 2 || !Path::new("/proc/sys/net/ipv6").exists());
    for name in ["web.default", "web.default.svc", "web.default.svc.cluster.local"] {
        assert_eq!(curl(&mesh, "other/client", &format!("http://{name}/hello")).await, hello());
    }
    let answer = mesh.http_get("web", 80, "/hello").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello from the web"));
    mesh.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_unknown_name_and_a_virtual_address_without_a_proxy_fail_at_once() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    let started = tokio::time::Instant::now();
    assert_eq!(curl(&mesh, "client", "http://nobody.default/").await.0, 6, "no such host");
    let service = mesh.status().await.unwrap().service("web").unwrap().addresses[0];
    assert_eq!(curl(&mesh, "client", &format!("http://{service}/")).await.0, 7, "no connection");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_application_can_change_nothing_of_its_world() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    for workload in ["web", "client"] {
        let run = async |argv: &[&str]| mesh.run(workload, argv, Vec::new()).await.unwrap();
        let status = run(&["cat", "/proc/self/status"]).await.stdout_text();
        let sets: Vec<_> = status.lines().filter(|line| line.starts_with("Cap")).collect();
        assert_eq!(sets.len(), 5, "{status}");
        for set in sets {
            assert!(set.ends_with("0000000000000000"), "{workload}: {set}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert_ne!(run(&["ip", "link", "set", "eth0", "down"]).await.code, 0);
        let mark = "import socket; socket.socket().setsockopt(socket.SOL_SOCKET, 36, 1)";
        assert_ne!(run(&["/usr/bin/python3", "-c", mark]).await.code, 0, "SO_MARK");
        let state = run(&["ls", "-A", mesh.state_directory().to_str().unwrap()]).await;
        assert_eq!((state.code, state.stdout_text()), (0, String::new()), "keys and tokens");
        let peek = format!("ls -d /proc/[0-9]*/root{}/lock", mesh.state_directory().display());
        let peek = run(&["sh", "-c", &peek]).await;
        assert_eq!(peek.stdout_text(), "", "{workload} sees them as another process does");
    }
    let user = mesh.run("client", &["id", "-u"], Vec::new()).await.unwrap();
    assert_eq!(user.stdout_text(), "1234\n");
    let allowed = mesh.run_privileged("web", &["ip", "link", "show", "eth0"], Vec::new()).await;
    assert_eq!(allowed.unwrap().code, 0);
}

#[tokio::test]
async fn a_run_takes_input_and_tells_both_outputs_and_the_code() {
    let place = Place::with(&[("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    let script = "cat; echo wrong >&2; exit 3";
    let output = mesh.run("client", &["sh", "-c", script], b"in\0put".to_vec()).await.unwrap();
    assert_eq!((output.code, output.stdout.as_slice()), (3, &b"in\0put"[..]));
    assert_eq!(output.stderr_text(), "wrong\n");
    let missing = mesh.run("client", &["/no/such/program"], Vec::new()).await.unwrap();
    assert_eq!(missing.code, 127);
    assert!(missing.stderr_text().contains("/no/such/program"), "{missing:?}");
    let endless = mesh.run("client", &["cat", "/dev/zero"], Vec::new()).await.unwrap_err();
    assert!(endless.to_string().contains("more than 67108864 bytes"), "{endless}");
    let nobody = mesh.run("nobody", &["true"], Vec::new()).await.unwrap_err();
    assert_eq!(nobody.to_string(), "there is no workload nobody");
}

#[tokio::test]
async fn a_run_whose_caller_hangs_up_is_killed() {
    let place = Place::with(&[("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    let marker = format!("echo {}; sleep 1000", place.marker());
    let argv = ["sh", "-c", marker.as_str()];
    let run = mesh.run("client", &argv, Vec::new());
    let seen = eventually("it runs", async || !processes(&marker).is_empty());
    tokio::select! {
        output = run => panic!("{output:?}"),
        () = seen => {}
    }
    eventually("it is gone", async || processes(&marker).is_empty()).await;
}

#[tokio::test]
async fn the_directory_is_followed() {
    let place = Place::with(&[("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    place.write("web.yaml", WEB);
    assert!(mesh.wait_ready(Duration::from_secs(20)).await.unwrap().is_empty());
    let first = workload(&mesh, "web").await.unwrap();
    assert_eq!(curl(&mesh, "client", "http://web.default/hello").await, hello());
    let slice = mesh.files().manifests().join(".generated/endpoint-slices/default_web.yaml");
    assert!(std::fs::read_to_string(&slice).unwrap().contains("ready: true"));

    place.write(
        "web.yaml",
        &WEB.replace("\"80\"", "\"8080\"")
            .replace("containerPort: 80", "containerPort: 8080")
            .replace("{port: 80}", "{port: 80, targetPort: 8080}"),
    );
    eventually("the new pod is ready and the old one is gone", async || {
        let status = mesh.status().await.unwrap();
        let pods: Vec<_> = status.workloads.iter().filter(|it| it.name == "web").collect();
        matches!(pods.as_slice(), [pod] if pod.ready && pod.pod_uid != first.pod_uid)
    })
    .await;
    assert_eq!(curl(&mesh, "client", "http://web.default:8080/hello").await, hello());
    let second = workload(&mesh, "web").await.unwrap();
    assert_ne!(second.addresses, first.addresses);

    place.write("broken.yaml", "kind: [");
    eventually("the error is told", async || !mesh.status().await.unwrap().problems.is_empty())
        .await;
    assert_eq!(curl(&mesh, "client", "http://web.default:8080/hello").await, hello());

    place.remove("web.yaml");
    eventually("the pod is gone", async || workload(&mesh, "web").await.is_none()).await;
    assert!(!slice.exists());
    let server = format!("http.server\08080\0--bind\0::\0--directory\0{}", place.marker());
    assert_eq!(processes(&server), BTreeSet::new());
    assert_eq!(
        curl(&mesh, "client", "http://web.default:8080/").await.0,
        6,
        "the name is gone too"
    );
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_followed_on() {
    let place = Place::with(&[("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    let first = workload(&mesh, "client").await.unwrap();
    std::fs::rename(place.root.join("yaml"), place.root.join("aside")).unwrap();
    eventually("it is said", async || !mesh.status().await.unwrap().problems.is_empty()).await;
    assert_eq!(workload(&mesh, "client").await.unwrap().pod_uid, first.pod_uid, "it goes on");
    std::fs::create_dir(place.root.join("yaml")).unwrap();
    place.write("web.yaml", WEB);
    let pods = async || {
        let status = mesh.status().await.unwrap();
        status.workloads.iter().map(|it| it.name.clone()).collect::<Vec<_>>()
    };
    eventually("the new one counts", async || pods().await == ["web"]).await;
    place.remove("web.yaml");
    eventually("it is watched", async || pods().await.is_empty()).await;
}

#[tokio::test]
async fn a_change_is_copied_within_a_moment() {
    let place = Place::with(&[("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    let copy = mesh.files().manifests().join("deep/split.yaml");
    let text = "apiVersion: split.smi-spec.io/v1alpha1\nkind: TrafficSplit\nmetadata: {name: a} # a comment\n";
    std::fs::create_dir(place.root.join("yaml/deep")).unwrap();
    std::fs::write(place.root.join("yaml/deep/split.yaml"), text).unwrap();
    eventually("it is copied", async || copy.exists()).await;
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), text);
    let started = tokio::time::Instant::now();
    let changed = text.replace("{name: a}", "{name: b}");
    std::fs::write(place.root.join("yaml/deep/split.yaml"), &changed).unwrap();
    eventually("the change is copied", async || std::fs::read_to_string(&copy).unwrap() == changed)
        .await;
    // Half a second here, since this test shares two processors with others; 100 ms is what it takes alone.
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_crash_is_followed_by_a_new_start_and_a_stop_is_not() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    let pid = workload(&mesh, "web").await.unwrap().processes[0].pid.unwrap();
    mesh.run_privileged(BRIDGE, &["kill", "-9", &pid.to_string()], Vec::new()).await.unwrap();
    eventually("it runs again", async || {
        let web = workload(&mesh, "web").await.unwrap();
        web.ready && web.processes[0].restarts == 1
    })
    .await;
    assert_eq!(curl(&mesh, "client", "http://web.default/hello").await, hello());

    let target = || Target::Application("web".to_owned());
    mesh.stop(target(), Signal::Kill).await.unwrap();
    eventually("it is stopped", async || {
        workload(&mesh, "web").await.unwrap().processes[0].state == "stopped"
    })
    .await;
    assert!(!workload(&mesh, "web").await.unwrap().ready);
    mesh.start_again(target()).await.unwrap();
    eventually("it is ready", async || workload(&mesh, "web").await.unwrap().ready).await;
    assert_eq!(curl(&mesh, "client", "http://web.default/hello").await, hello());
}

#[tokio::test]
async fn a_pod_that_is_never_ready_is_named_with_its_log() {
    let place = Place::with(&[(
        "bad.yaml",
        "kind: Pod\nmetadata: {name: bad}\nspec:\n  containers:\n  - {name: main, command: [sh, -c, 'echo I cannot; exit 3']}\n",
    )]);
    let config = MeshConfig { ready_within: Duration::from_millis(500), ..place.config() };
    match Mesh::start(config).await {
        Err(StartError::NotReady(waiting)) => {
            let text = waiting.to_string();
            assert!(text.contains("default/bad") && text.contains("I cannot"), "{text}");
            assert!(text.contains("exited with code 3"), "{text}");
        }
        other => drop(permitted(other)),
    }
    assert_nothing_left(&place, &BTreeSet::new()).await;
}

#[tokio::test]
async fn a_control_plane_that_does_not_answer_is_waited_for_without_any_workload() {
    let place = Place::new();
    let programs = place.root.join("bin");
    std::fs::create_dir(&programs).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_heddle-local"), programs.join("heddle-local")).unwrap();
    for name in ["heddle-proxy", "heddle-control-plane"] {
        let program = programs.join(name);
        std::fs::write(&program, "#!/bin/sh\necho I do not listen\nexec sleep 1000\n").unwrap();
        std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let config = MeshConfig {
        control_plane: ControlPlane::Run,
        ready_within: Duration::from_secs(2),
        ..place.config()
    };
    match Mesh::start(config).await {
        Err(StartError::NotReady(waiting)) => {
            let text = waiting.to_string();
            assert!(text.contains("control-plane: running, but does not answer at"), "{text}");
            assert!(text.contains("I do not listen"), "{text}");
        }
        other => drop(permitted(other)),
    }
}

#[tokio::test]
async fn what_is_missing_is_said_with_the_command_that_builds_it() {
    let place = Place::new();
    let binaries = Binaries { directory: place.root.clone() };
    let error =
        Mesh::start(MeshConfig { binaries, ..place.config() }).await.unwrap_err().to_string();
    assert!(error.contains("cargo build -p heddle-local"), "{error}");
    let directory = place.root.join("nowhere");
    let error =
        Mesh::start(MeshConfig { directory, ..place.config() }).await.unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
}

async fn assert_nothing_left(place: &Place, worlds_networks: &BTreeSet<PathBuf>) {
    eventually("every process is gone", async || processes(&place.marker()).is_empty()).await;
    assert!(networks(&all_processes()).is_disjoint(worlds_networks));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&place.marker()), "{mounts}");
    let state = place.root.join("state");
    eventually("the state directory is gone", async || !state.exists()).await;
}

#[tokio::test]
async fn nothing_is_left_of_a_world_that_was_dropped() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    let Some(mesh) = place.start().await else { return };
    let networks = networks(&processes(&place.marker()));
    assert!(networks.len() >= 2, "{networks:?}");
    drop(mesh);
    assert!(!place.root.join("state").exists(), "it is gone when the drop returns");
    assert_nothing_left(&place, &networks).await;
}

/// Not a test by itself: the process that the tests below kill, or run as another user.
#[tokio::test]
async fn holds_a_world_for_another_test() {
    let Some(root) = std::env::var_os("HEDDLE_TEST_WORLD") else { return };
    let root = PathBuf::from(root);
    let Some(mesh) = permitted(Mesh::start(config(&root)).await) else {
        println!("world: not permitted");
        return;
    };
    let answer = curl(&mesh, "client", "http://web.default/hello").await;
    let user = mesh.run("client", &["id", "-u"], Vec::new()).await.unwrap().stdout_text();
    println!("\nworld: {answer:?} as {}", user.trim());
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

/// Starts this program again, to hold a world, and waits until the world is there. `None`: not permitted.
fn hold(place: &Place, prefix: &[&str]) -> Option<std::process::Child> {
    let program = std::env::current_exe().unwrap();
    let mut words = prefix.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", "holds_a_world_for_another_test", "--nocapture"])
        .env("HEDDLE_TEST_WORLD", &place.root)
        .env("HOME", "/")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let line = output
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with("world: "))
        .expect("it says how it went");
    if line == "world: not permitted" {
        child.wait().unwrap();
        return None;
    }
    assert_eq!(line, format!("world: {:?} as 1234", hello()));
    Some(child)
}

#[tokio::test]
async fn nothing_is_left_of_a_world_whose_owner_was_killed() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    let Some(mut owner) = hold(&place, &[]) else { return };
    let networks = networks(&processes(&place.marker()));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_nothing_left(&place, &networks).await;
}

#[tokio::test]
async fn nothing_runs_on_when_all_of_the_outer_processes_are_killed_and_the_remains_are_replaced() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    let Some(mut owner) = hold(&place, &[]) else { return };
    let outermost: Vec<_> = processes("heddle-local\0world")
        .intersection(&processes(&place.marker()))
        .copied()
        .collect();
    assert_eq!(outermost.len(), 1);
    owner.kill().unwrap();
    assert!(
        Command::new("kill").args(["-9", &outermost[0].to_string()]).status().unwrap().success()
    );
    owner.wait().unwrap();
    eventually("every process is gone", async || processes(&place.marker()).is_empty()).await;
    let mesh = place.start().await.expect("it was permitted before");
    assert_eq!(curl(&mesh, "client", "http://web.default/hello").await, hello());
}

#[tokio::test]
async fn a_user_without_rights_has_a_world_too() {
    if !is_root() {
        eprintln!("every other test runs without rights already");
        return;
    }
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    // What root has built may be where nobody else can look.
    let copy = place.root.join("bin/heddle-local");
    std::fs::create_dir(copy.parent().unwrap()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_heddle-local"), &copy).unwrap();
    let chown = ["-R", "1000:1000", place.root.to_str().unwrap()];
    assert!(Command::new("chown").args(chown).status().unwrap().success());
    let prefix = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    let Some(mut owner) = hold(&place, &prefix) else { return };
    let networks = networks(&processes(&place.marker()));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_nothing_left(&place, &networks).await;
}

#[tokio::test]
async fn where_namespaces_are_forbidden_it_says_how_to_allow_them() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    // A user namespace that allows none below it, and in it a root without rights.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
        exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_world_for_another_test", "--nocapture"])
        .env("HEDDLE_TEST_WORLD", &place.root)
        .env_remove("CI")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("unshare:") {
        eprintln!("NOT TESTED: {errors}");
        return;
    }
    assert!(errors.contains("cannot make a user namespace: No space left on device"), "{errors}");
    assert!(errors.contains("sysctl -w user.max_user_namespaces=15000"), "{errors}");
    assert_nothing_left(&place, &BTreeSet::new()).await;
}

#[tokio::test]
async fn a_daemon_that_left_its_process_group_ends_with_its_pod() {
    let place = Place::new();
    let script = "setsid sleep 1000 MARKER & exec sleep 1000"
        .replace("sleep 1000 MARKER", "sh -c ': MARKER; sleep 1000'");
    let pod = format!(
        "kind: Pod\nmetadata: {{name: forks}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: main, command: [sh, -c, \"{script}\"]}}\n"
    );
    place.write("forks.yaml", &pod);
    let Some(mesh) = place.start().await else { return };
    let daemon = format!(": {}; sleep 1000", place.marker());
    eventually("it runs", async || !processes(&daemon).is_empty()).await;
    place.remove("forks.yaml");
    eventually("the pod is gone", async || workload(&mesh, "forks").await.is_none()).await;
    eventually("the daemon is gone", async || processes(&daemon).is_empty()).await;
}

#[tokio::test]
async fn a_detached_world_goes_on_and_can_be_found_and_ended() {
    let place = Place::with(&[("web.yaml", WEB), ("client.yaml", CLIENT)]);
    let config = MeshConfig { detach: true, ..place.config() };
    let Some(mesh) = permitted(Mesh::start(config).await) else { return };
    let state = mesh.state_directory().to_owned();
    drop(mesh);
    let again = Mesh::start(place.config()).await;
    assert!(matches!(again, Err(StartError::AlreadyRunning(_))), "{again:?}");
    let mesh = Mesh::attach(&state).await.unwrap();
    assert_eq!(curl(&mesh, "client", "http://web.default/hello").await, hello());
    mesh.shutdown().await.unwrap();
    assert!(matches!(StateDirectory::new(&state).occupant().unwrap(), Occupant::Nobody));
    assert_nothing_left(&place, &BTreeSet::new()).await;
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t")
}
