//! Which ports something listens on, read from the kernel's table without making a connection that would wake the
//! application.

use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses that are listened on in the network namespace of the current thread.
pub fn listening() -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        match std::fs::File::open(table) {
            Ok(file) => read_table(BufReader::new(file), &mut addresses)?,
            // No IPv6 on this machine.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(addresses)
}

/// What is known of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Others can connect to it.
    Reachable,
    /// Something listens, but only for processes of the same workload.
    LoopbackOnly,
    /// Nothing listens.
    Nobody,
}

/// Whether others can connect to `port`.
pub fn listener(addresses: &[SocketAddr], port: u16) -> Listener {
    let mut found = Listener::Nobody;
    for address in addresses.iter().filter(|address| address.port() == port) {
        if address.ip().to_canonical().is_loopback() {
            found = Listener::LoopbackOnly;
        } else {
            return Listener::Reachable;
        }
    }
    found
}

/// Stops at the first line of a connection: the kernel lists the listeners first (`tcp4_seq_show`), and there may be many
/// thousand connections.
fn read_table(table: impl BufRead, addresses: &mut Vec<SocketAddr>) -> io::Result<()> {
    for line in table.lines().skip(1) {
        match parse_line(&line?) {
            Some((address, LISTEN)) => addresses.push(address),
            Some(_) | None => break,
        }
    }
    Ok(())
}

/// `  sl  local_address rem_address   st ...`, each word of an address in the byte order of the machine.
fn parse_line(line: &str) -> Option<(SocketAddr, u8)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let bytes = |range| Some(u32::from_str_radix(address.get(range)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(bytes(0..8)?)),
        32 => {
            let words = [bytes(0..8)?, bytes(8..16)?, bytes(16..24)?, bytes(24..32)?];
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
        }
        _ => return None,
    };
    Some((SocketAddr::new(ip, port), state))
}

/// `TCP_LISTEN` in the kernel's `tcp_states.h`.
const LISTEN: u8 = 10;

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   2: 0200420A:1F91 0100420A:A0F2 01 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   3: 00000000:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
";
    const TABLE_6: &str =
        "  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:1F93 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000001000000:1F94 00000000000000000000000000000000:0000 0A
";

    #[test]
    fn listeners_are_told_by_who_reaches_them() {
        let mut addresses = Vec::new();
        read_table(TABLE.as_bytes(), &mut addresses).unwrap();
        read_table(TABLE_6.as_bytes(), &mut addresses).unwrap();
        for (case, port, expected) in [
            ("wildcard", 8080, Listener::Reachable),
            ("loopback", 80, Listener::LoopbackOnly),
            ("a connection", 8081, Listener::Nobody),
            ("after the first connection", 8082, Listener::Nobody),
            ("IPv6 wildcard", 8083, Listener::Reachable),
            ("IPv6 loopback", 8084, Listener::LoopbackOnly),
            ("nothing", 9, Listener::Nobody),
        ] {
            assert_eq!(listener(&addresses, port), expected, "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(line in "\\PC{0,80}", words in "[ :0-9A-F]{0,120}") {
            let _ = (parse_line(&line), parse_line(&words));
        }
    }
}
