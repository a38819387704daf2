//! The redirect against a real kernel: rules, connections, original destinations. Every test starts
//! itself again in a fresh user and network namespace (a workload's), with a second one behind a
//! veth pair (a peer's), so that nothing of the host is touched and no root is needed. Where that
//! is forbidden the tests say so; under `CI=true` they then fail.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "whatever goes wrong here fails the test"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

use clap::Parser;
use futures_util::TryStreamExt;
use heddle_proxy::original_dst::{OriginalDestinationError, original_destination};
use heddle_proxy::redirect::command::{RedirectArguments, run};
use heddle_proxy::redirect::plan::{ADMIN_PORT, PROBE_PORT};
use heddle_proxy::redirect::probe::{ProbeError, probe};
use heddle_proxy::redirect::{RedirectError, netlink};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use socket2::{Domain, Socket, Type};

const MARK: NonZeroU32 = NonZeroU32::new(0x1e).unwrap();

#[test]
fn what_a_workload_opens_comes_to_the_outbound_port_with_its_destination() {
    in_own_world("what_a_workload_opens_comes_to_the_outbound_port_with_its_destination", |_| {
        let proxy = Proxy::start();
        proxy.redirect(&["--exempt-mark", "0x1e"]);
        for (case, destination) in [
            ("a peer", "10.9.9.9:80"),
            ("a service that is no host at all", "10.43.0.7:8080"),
            ("its own pod address", "10.9.0.2:8080"),
            ("a peer over IPv6", "[fd09:9::9]:80"),
            ("a service over IPv6", "[fd43::7]:65535"),
            ("its own pod address over IPv6", "[fd09::2]:1"),
        ] {
            let mut client = connect(destination).unwrap();
            let (mut stream, original) = arrival(&proxy.outbound);
            assert_eq!(original.unwrap(), address(destination), "case: {case}");
            talk(&mut client, &mut stream);
        }
    });
}

#[test]
fn what_a_peer_opens_comes_to_the_inbound_port_with_its_destination() {
    in_own_world("what_a_peer_opens_comes_to_the_inbound_port_with_its_destination", |world| {
        let proxy = Proxy::start();
        proxy.redirect(&["--exempt-mark", "0x1e"]);
        for destination in ["10.9.0.2:8080", "[fd09::2]:8080", "10.9.0.2:15199"] {
            let mut client = world.peer(move || connect(destination)).unwrap();
            let (mut stream, original) = arrival(&proxy.inbound);
            assert_eq!(original.unwrap(), address(destination), "case: {destination}");
            talk(&mut client, &mut stream);
        }
    });
}

#[test]
fn an_ipv4_only_listener_learns_the_destination_too() {
    in_own_world("an_ipv4_only_listener_learns_the_destination_too", |_| {
        let (inbound, outbound) = (listen("0.0.0.0:0"), listen("0.0.0.0:0"));
        let proxy = Proxy { inbound, outbound };
        proxy.redirect(&["--exempt-mark", "0x1e"]);
        let _client = connect("10.43.0.7:80").unwrap();
        assert_eq!(arrival(&proxy.outbound).1.unwrap(), address("10.43.0.7:80"));
    });
}

#[test]
fn sockets_with_the_mark_go_where_they_want() {
    in_own_world("sockets_with_the_mark_go_where_they_want", |world| {
        let proxy = Proxy::start();
        proxy.redirect(&["--exempt-mark", "0x1e"]);
        let far = world.peer(|| listen("[::]:0"));
        let application = listen("[::]:0");
        for ip in ["10.9.9.9", "fd09:9::9"] {
            let mut client = connect_marked(at(ip, &far), MARK.get()).unwrap();
            talk(&mut client, &mut arrival(&far).0);
            // Another mark is no excuse.
            let _client = connect_marked(at(ip, &far), 7).unwrap();
            assert_eq!(arrival(&proxy.outbound).1.unwrap(), at(ip, &far));
        }
        // The inbound side's own way to the application.
        for ip in ["10.9.0.2", "fd09::2"] {
            let mut client = connect_marked(at(ip, &application), MARK.get()).unwrap();
            talk(&mut client, &mut arrival(&application).0);
        }
    });
}

#[test]
fn sockets_of_the_user_go_where_they_want() {
    in_own_world("sockets_of_the_user_go_where_they_want", |world| {
        let proxy = Proxy::start();
        let far = world.peer(|| listen("[::]:0"));
        proxy.redirect(&["--exempt-uid", "0"]);
        let mut client = connect(at("10.9.9.9", &far)).unwrap();
        talk(&mut client, &mut arrival(&far).0);
        proxy.redirect(&["--exempt-uid", "15100"]);
        let _client = connect(at("10.9.9.9", &far)).unwrap();
        assert_eq!(arrival(&proxy.outbound).1.unwrap(), at("10.9.9.9", &far));
    });
}

#[test]
fn loopback_and_udp_are_left_alone() {
    in_own_world("loopback_and_udp_are_left_alone", |world| {
        let proxy = Proxy::start();
        proxy.redirect(&["--exempt-mark", "0x1e"]);
        let application = listen("[::]:0");
        for ip in ["127.0.0.1", "127.9.9.9", "::1"] {
            let mut client = connect(at(ip, &application)).unwrap();
            talk(&mut client, &mut arrival(&application).0);
        }
        let far = world.peer(|| UdpSocket::bind("10.9.9.9:0")).unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let near = UdpSocket::bind("0.0.0.0:0").unwrap();
        near.send_to(b"datagram", far.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 16];
        let (length, _) = far.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"datagram");
    });
}

#[test]
fn skipped_ports_and_networks_pass() {
    in_own_world("skipped_ports_and_networks_pass", |world| {
        let proxy = Proxy::start();
        let application = listen("[::]:0");
        let admin = listen(&format!("[::]:{ADMIN_PORT}"));
        let far = world.peer(|| listen("[::]:0"));
        let (inbound, outbound) =
            (port(&application).to_string(), format!("9,{0}-{0}", port(&far)));
        proxy.redirect(&[
            "--exempt-mark",
            "30",
            "--skip-inbound-ports",
            &inbound,
            "--skip-outbound-ports",
            &outbound,
        ]);
        for ip in ["10.9.0.2", "fd09::2"] {
            for listener in [&application, &admin] {
                let destination = at(ip, listener);
                let mut client = world.peer(move || connect(destination)).unwrap();
                talk(&mut client, &mut arrival(listener).0);
            }
        }
        for ip in ["10.9.9.9", "fd09:9::9"] {
            let mut client = connect(at(ip, &far)).unwrap();
            talk(&mut client, &mut arrival(&far).0);
        }
        proxy.redirect(&[
            "--exempt-mark",
            "30",
            "--skip-outbound-networks",
            "10.9.8.0/23,fd09:9::/64",
        ]);
        for ip in ["10.9.9.9", "fd09:9::9"] {
            let mut client = connect(at(ip, &far)).unwrap();
            talk(&mut client, &mut arrival(&far).0);
        }
        let _client = connect("10.9.0.1:80").unwrap();
        assert_eq!(arrival(&proxy.outbound).1.unwrap(), address("10.9.0.1:80"));
    });
}

#[test]
fn the_proxys_own_ports_are_no_relay() {
    in_own_world("the_proxys_own_ports_are_no_relay", |world| {
        let proxy = Proxy::start();
        proxy.redirect(&["--exempt-mark", "0x1e"]);
        for listener in [&proxy.inbound, &proxy.outbound] {
            for ip in ["10.9.0.2", "fd09::2"] {
                let destination = at(ip, listener);
                let _client = world.peer(move || connect(destination)).unwrap();
                assert_refused(&arrival(listener).1);
            }
            for ip in ["127.0.0.1", "::1"] {
                let _client = connect(at(ip, listener)).unwrap();
                assert_refused(&arrival(listener).1);
            }
            // What the outbound side would dial if the workload named the proxy's own port by its
            // pod address.
            let _client = connect_marked(at("10.9.0.2", listener), MARK.get()).unwrap();
            assert_refused(&arrival(listener).1);
        }
    });
}

#[test]
fn repeating_replaces_the_rules_and_removing_leaves_nothing() {
    in_own_world("repeating_replaces_the_rules_and_removing_leaves_nothing", |world| {
        let far = world.peer(|| listen("[::]:0"));
        assert!(!netlink::is_installed().unwrap());
        let (before, after) = (Proxy::start(), Proxy::start());
        before.redirect(&["--exempt-mark", "0x1e"]);
        for _ in 0..2 {
            after.redirect(&["--exempt-mark", "0x1e"]);
            assert!(netlink::is_installed().unwrap());
            let _client = connect(at("10.9.9.9", &far)).unwrap();
            assert_eq!(arrival(&after.outbound).1.unwrap(), at("10.9.9.9", &far));
        }
        for _ in 0..2 {
            assert_eq!(redirect(&["--remove"]).unwrap(), "the redirect is removed\n");
            assert!(!netlink::is_installed().unwrap());
        }
        let mut client = connect(at("10.9.9.9", &far)).unwrap();
        talk(&mut client, &mut arrival(&far).0);
        let application = listen("[::]:0");
        let destination = at("fd09::2", &application);
        let mut client = world.peer(move || connect(destination)).unwrap();
        talk(&mut client, &mut arrival(&application).0);
    });
}

#[test]
fn a_dry_run_or_a_bad_flag_changes_nothing() {
    in_own_world("a_dry_run_or_a_bad_flag_changes_nothing", |_| {
        let text = redirect(&["--exempt-mark", "1", "--dry-run"]).unwrap();
        assert!(text.contains("redirect to :15101"), "{text}");
        let refused = redirect(&["--exempt-mark", "1", "--outbound-port", "0"]);
        assert!(matches!(refused, Err(RedirectError::Settings(_))), "{refused:?}");
        assert!(!netlink::is_installed().unwrap());
    });
}

#[test]
fn the_longest_lists_fit_into_one_batch() {
    in_own_world("the_longest_lists_fit_into_one_batch", |_| {
        let proxy = Proxy::start();
        let ports: Vec<String> =
            (0..128).map(|index| format!("{0}-{1}", 100 * index + 1, 100 * index + 50)).collect();
        let networks: Vec<String> = (0..128).map(|index| format!("fd00:{index:x}::/33")).collect();
        let (ports, networks) = (ports.join(","), networks.join(","));
        proxy.redirect(&[
            "--exempt-mark",
            "0x1e",
            "--skip-inbound-ports",
            &ports,
            "--skip-outbound-ports",
            &ports,
            "--skip-outbound-networks",
            &networks,
        ]);
        let _client = connect("10.43.0.7:65000").unwrap();
        assert_eq!(arrival(&proxy.outbound).1.unwrap(), address("10.43.0.7:65000"));
    });
}

#[test]
fn the_check_at_start_finds_out_whether_the_rules_fit_this_proxy() {
    in_own_world("the_check_at_start_finds_out_whether_the_rules_fit_this_proxy", |_| {
        let proxy = Proxy::start();
        assert_missing(&check(Some(MARK.get())));
        proxy.redirect(&["--exempt-mark", "0x1e"]);
        check(Some(MARK.get())).unwrap();
        for _ in 0..2 {
            let original = arrival(&proxy.outbound).1;
            assert!(matches!(original, Err(OriginalDestinationError::Probe)), "{original:?}");
        }
        // Rules for another mark would redirect the proxy's own connections to itself.
        assert_missing(&check(Some(7)));
        assert_missing(&check(None));
        proxy.redirect(&["--exempt-uid", "0"]);
        check(None).unwrap();
        // Nobody listens where these rules lead to.
        drop(proxy);
        assert_missing(&check(None));
        redirect(&["--remove"]).unwrap();
        assert_missing(&check(None));
        // The workload's own use of that port is its own business.
        let application = listen(&format!("127.0.0.1:{PROBE_PORT}"));
        let proxy = Proxy::start();
        proxy.redirect(&["--exempt-mark", "0x1e"]);
        let mut client = connect(application.local_addr().unwrap()).unwrap();
        talk(&mut client, &mut arrival(&application).0);
    });
}

#[test]
fn without_the_capability_the_error_says_what_is_needed() {
    in_own_world("without_the_capability_the_error_says_what_is_needed", |_| {
        // Since Linux 5.17 CAP_NET_RAW, too, is enough to set a mark.
        for capability in [caps::Capability::CAP_NET_ADMIN, caps::Capability::CAP_NET_RAW] {
            caps::drop(None, caps::CapSet::Effective, capability).unwrap();
            caps::drop(None, caps::CapSet::Permitted, capability).unwrap();
        }
        for arguments in [&["--exempt-mark", "1"][..], &["--remove"][..]] {
            let error = redirect(arguments).unwrap_err();
            assert!(matches!(error, RedirectError::NotPermitted { .. }), "{error:?}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        }
        assert!(matches!(netlink::is_installed(), Err(RedirectError::NotPermitted { .. })));
        assert!(matches!(check(Some(1)), Err(ProbeError::Unchecked { .. })));
    });
}

#[test]
fn a_capability_that_is_permitted_is_put_in_force() {
    in_own_world("a_capability_that_is_permitted_is_put_in_force", |_| {
        // As a binary with the file capability `cap_net_admin+p` begins, when an ordinary user starts it.
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap();
        assert!(matches!(netlink::is_installed(), Err(RedirectError::NotPermitted { .. })));
        redirect(&["--exempt-uid", "15100"]).unwrap();
        assert!(netlink::is_installed().unwrap());
        redirect(&["--remove"]).unwrap();
    });
}

/// A listener for each direction, in the place of the proxy.
struct Proxy {
    inbound: TcpListener,
    outbound: TcpListener,
}

impl Proxy {
    /// Takes IPv4 and IPv6 on the same ports, as the proxy does.
    fn start() -> Self {
        Self { inbound: listen("[::]:0"), outbound: listen("[::]:0") }
    }

    fn redirect(&self, flags: &[&str]) {
        let (inbound, outbound) =
            (port(&self.inbound).to_string(), port(&self.outbound).to_string());
        let ports = ["--inbound-port", &inbound, "--outbound-port", &outbound];
        redirect(&[&ports, flags].concat()).unwrap();
    }
}

/// `heddle-proxy redirect` with these flags.
fn redirect(flags: &[&str]) -> Result<String, RedirectError> {
    #[derive(Parser)]
    struct Redirect {
        #[command(flatten)]
        arguments: RedirectArguments,
    }
    let arguments = Redirect::try_parse_from([&["redirect"], flags].concat()).unwrap().arguments;
    let mut output = Vec::new();
    run(arguments, &mut output)?;
    Ok(String::from_utf8(output).unwrap())
}

fn check(mark: Option<u32>) -> Result<(), ProbeError> {
    runtime().block_on(probe(mark))
}

fn assert_missing(checked: &Result<(), ProbeError>) {
    assert!(matches!(checked, Err(ProbeError::NotRedirected { .. })), "{checked:?}");
}

fn assert_refused(original: &Result<SocketAddr, OriginalDestinationError>) {
    assert!(
        matches!(original, Err(OriginalDestinationError::NotRedirected { .. })),
        "{original:?}"
    );
}

/// How long anything here may take before the test fails; none of it waits for time to pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener of this thread's network namespace that gives up accepting after `PATIENCE`.
fn listen(address: &str) -> TcpListener {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

fn arrival(listener: &TcpListener) -> (TcpStream, Result<SocketAddr, OriginalDestinationError>) {
    let (stream, _) = listener.accept().expect("a connection should have come here");
    let original = original_destination(&stream);
    (stream, original)
}

fn connect(destination: impl ToString) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address(&destination.to_string()), PATIENCE)
}

fn connect_marked(destination: SocketAddr, mark: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None)?;
    socket.set_mark(mark)?;
    socket.connect_timeout(&destination.into(), PATIENCE)?;
    Ok(socket.into())
}

/// Says something in both directions: replies must come back translated.
fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    for stream in [&*client, &*server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut heard = [0; 4];
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"pong");
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

fn at(ip: &str, listener: &TcpListener) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port(listener))
}

/// A workload's network namespace, which all threads are in but one: the peer's.
struct World {
    peer: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl World {
    /// Runs something in the peer's network namespace.
    fn peer<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        self.peer.send(Box::new(move || sender.send(work()).unwrap())).unwrap();
        receiver.recv().unwrap()
    }
}

const WORLD: &str = "HEDDLE_TEST_WORLD";

/// Starts the test again in a world of its own, or, when there, runs it.
fn in_own_world(name: &str, test: fn(&World)) {
    if env::var_os(WORLD).is_some() {
        return test(&build_world());
    }
    let namespaces = ["--user", "--map-root-user", "--net", "--"];
    let possible = Command::new("unshare").args(namespaces).arg("true").output();
    if !matches!(&possible, Ok(output) if output.status.success()) {
        eprintln!(
            "NOT TESTED: {name}: `unshare --user --map-root-user --net` does not work here: {possible:?}"
        );
        assert!(
            env::var_os("CI").is_none_or(|value| value != "true"),
            "CI must be able to test the redirect"
        );
        return;
    }
    let output = Command::new("unshare")
        .args(namespaces)
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(WORLD, "1")
        .output()
        .unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{complained}");
}

fn build_world() -> World {
    let (work, works) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let (namespace, namespaces) = mpsc::channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        namespace.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
        works.into_iter().for_each(|work| work());
    });
    let peer = namespaces.recv().unwrap();
    with_network(async |network| {
        let pair = LinkVeth::new("eth0", "peer0").build();
        network.link().add(pair).execute().await.unwrap();
        let other = LinkUnspec::new_with_name("peer0").setns_by_fd(peer.as_raw_fd()).build();
        network.link().set(other).execute().await.unwrap();
        equip(&network, "eth0", &["10.9.0.2/24", "fd09::2/64"]).await;
        equip(&network, "lo", &[]).await;
    });
    let world = World { peer: work };
    world.peer(|| {
        with_network(async |network| {
            equip(&network, "peer0", &["10.9.0.1/24", "fd09::1/64"]).await;
            equip(&network, "lo", &["10.9.9.9/32", "fd09:9::9/128"]).await;
        });
    });
    with_network(async |network| {
        for (everything, gateway) in [("0.0.0.0", "10.9.0.1"), ("::", "fd09::1")] {
            let route = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(everything.parse().unwrap(), 0);
            let route = route.unwrap().gateway(gateway.parse().unwrap()).unwrap().build();
            network.route().add(route).execute().await.unwrap();
        }
    });
    world
}

/// Runs something with a netlink connection to this thread's network namespace.
fn with_network(work: impl AsyncFnOnce(Handle)) {
    runtime().block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::select! {
            () = connection => panic!("the netlink connection ended"),
            () = work(handle) => {}
        }
    });
}

async fn equip(network: &Handle, interface: &str, addresses: &[&str]) {
    let mut links = network.link().get().match_name(interface.to_owned()).execute();
    let index = links.try_next().await.unwrap().unwrap().header.index;
    for text in addresses {
        let (address, length) = text.split_once('/').unwrap();
        let mut request =
            network.address().add(index, address.parse().unwrap(), length.parse().unwrap());
        // Nobody else can have the address, and looking for somebody takes a second.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.unwrap();
    }
    network.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
