//! Which ports something listens on, asked of the kernel (`sock_diag(7)`) without making a connection that would wake the
//! application. The tables below `/proc/net` tell as well, but to read them the kernel goes through all there could be of
//! connections: 5 ms each time, in which nothing else runs on that processor.

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagMessage, inet};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use nix::errno::Errno;

/// The addresses that are listened on in the network namespace of the current thread.
pub fn listening() -> io::Result<Vec<SocketAddr>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    // The kernel has its answer, or the next part of it, before it lets go of the question: there is nothing to wait for.
    socket.set_non_blocking(true)?;
    let mut addresses = Vec::new();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        send(&socket, family, any)?;
        match receive(&mut socket, &mut addresses) {
            // No IPv6 on this machine.
            Err(error)
                if error.raw_os_error() == Some(Errno::ENOENT as i32) && family == AF_INET6 => {}
            received => received?,
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

fn send(socket: &Socket, family: u8, socket_id: SocketId) -> io::Result<()> {
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    socket.send_to(&octets, &NetlinkAddress::new(0, 0), 0).map(drop)
}

/// Reads an answer to its end.
fn receive(socket: &mut Socket, addresses: &mut Vec<SocketAddr>) -> io::Result<()> {
    loop {
        match socket.recv_from_full() {
            Ok((datagram, _kernel)) => {
                if read(&datagram, addresses)? {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads all messages of one datagram, each padded to four octets; whether the last one is among them.
fn read(datagram: &[u8], addresses: &mut Vec<SocketAddr>) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                addresses.push(address(&response.header));
            }
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            // Also how it is told that there is no answer (`netlink_dump_done`).
            NetlinkPayload::Done(done) if done.code < 0 => {
                return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::InnerMessage(_) | NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => {
            }
            // The enum is open: a kind that a later release adds tells nothing of sockets.
            _ => {}
        }
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(1);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn address(header: &inet::InetResponseHeader) -> SocketAddr {
    SocketAddr::new(header.socket_id.source_address, header.socket_id.source_port)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn listeners_are_told_by_who_reaches_them() {
        let listen = |address: &str| TcpListener::bind(address).unwrap();
        let open = listen("0.0.0.0:0");
        let own = listen("127.0.0.1:0");
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let connection = TcpStream::connect(("127.0.0.1", port(&own))).unwrap();
        let from = connection.local_addr().unwrap().port();
        let addresses = listening().unwrap();
        for (case, port, expected) in [
            ("wildcard", port(&open), Listener::Reachable),
            ("loopback", port(&own), Listener::LoopbackOnly),
            ("a connection", from, Listener::Nobody),
            ("nothing", 0, Listener::Nobody),
        ] {
            assert_eq!(listener(&addresses, port), expected, "case: {case}");
        }
        // Where there is IPv6.
        if let Ok(own) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            assert_eq!(listener(&listening().unwrap(), port(&own)), Listener::LoopbackOnly);
            let open = listen("[::]:0");
            assert_eq!(listener(&listening().unwrap(), port(&open)), Listener::Reachable);
        }
    }

    #[test]
    fn many_listeners_are_all_found() {
        // More than the kernel tells at once.
        let listeners: Vec<TcpListener> =
            (0..300).map(|_number| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listening().unwrap();
        for one in listeners {
            assert!(addresses.contains(&one.local_addr().unwrap()));
        }
    }

    #[test]
    fn an_answer_that_there_is_none_is_an_error() {
        let refused = [20, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff];
        let error = read(&refused, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn half_an_answer_is_an_error_and_not_a_panic() {
        let whole = [20, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(read(&whole, &mut Vec::new()).unwrap());
        for length in 1..whole.len() {
            assert!(read(&whole[..length], &mut Vec::new()).is_err(), "case: {length} octets");
        }
    }
}
