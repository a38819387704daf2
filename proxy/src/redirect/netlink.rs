//! Hands the rules to the kernel and reads its answer. Decides nothing: see plan.rs; the bytes come
//! from messages.rs.

use std::io;

use netlink_packet_core::{DecodeError, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::constants::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;

use crate::redirect::RedirectError;
use crate::redirect::messages::{self, Step, StepKind};
use crate::redirect::plan::Plan;

/// Puts the rules in place of those of before, in one instant: no connection meets half of them.
pub fn install(plan: &Plan) -> Result<(), RedirectError> {
    transact(&messages::install(plan))
}

/// Removes the rules. No error if there are none. Connections that were redirected stay so.
pub fn remove() -> Result<(), RedirectError> {
    transact(&messages::remove())
}

/// Whether there is a table of ours in this network namespace. Needs CAP_NET_ADMIN, as everything
/// with nftables does.
pub fn is_installed() -> Result<bool, RedirectError> {
    let step = messages::find();
    let mut socket = open()?;
    send(&socket, std::slice::from_ref(&step))?;
    match receive(&mut socket)?.first() {
        Some(Answer::Table | Answer::Done(_)) => Ok(true),
        Some(Answer::Refused(_, Errno::NOENT)) => Ok(false),
        Some(Answer::Refused(_, errno)) => Err(explain(&step, *errno)),
        None => Err(no_answer()),
    }
}

/// What the kernel said, with the number of the message it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done(u32),
    Refused(u32, Errno),
    Table,
}

fn transact(steps: &[Step]) -> Result<(), RedirectError> {
    let mut socket = open()?;
    send(&socket, steps)?;
    settle(steps, &receive(&mut socket)?)
}

/// The first refusal is the cause; those after it follow from it, such as rules for a chain that
/// could not be made.
fn settle(steps: &[Step], answers: &[Answer]) -> Result<(), RedirectError> {
    let refused = answers.iter().find_map(|answer| match answer {
        Answer::Refused(number, errno) => Some((*number, *errno)),
        Answer::Done(_) | Answer::Table => None,
    });
    if let Some((number, errno)) = refused {
        let step = steps.iter().find(|step| step.message.header.sequence_number == number);
        return Err(step.map_or_else(no_answer, |step| explain(step, errno)));
    }
    if answers.iter().any(|answer| matches!(answer, Answer::Done(_))) {
        Ok(())
    } else {
        Err(no_answer())
    }
}

fn explain(step: &Step, errno: Errno) -> RedirectError {
    let attempted = step.attempted.clone();
    let source = io::Error::from(errno);
    if errno == Errno::PERM {
        return RedirectError::NotPermitted { attempted };
    }
    let unsupported =
        matches!(errno, Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT);
    let missing = match step.kind {
        StepKind::Batch if unsupported => Some("nftables (module nf_tables, CONFIG_NF_TABLES)"),
        StepKind::Table if unsupported => Some("nftables for inet (CONFIG_NF_TABLES_INET)"),
        StepKind::Chain if unsupported || errno == Errno::NOENT => {
            Some("nat chains for inet (module nft_chain_nat, CONFIG_NFT_NAT; Linux 5.2 or newer)")
        }
        StepKind::RedirectRule if unsupported || errno == Errno::NOENT => {
            Some("the nftables redirect expression (module nft_redir, CONFIG_NFT_REDIR)")
        }
        StepKind::Batch
        | StepKind::Table
        | StepKind::Chain
        | StepKind::PassRule
        | StepKind::RedirectRule => None,
    };
    match missing {
        Some(missing) => RedirectError::Unsupported { attempted, missing, source },
        None => RedirectError::Refused { attempted, source },
    }
}

fn no_answer() -> RedirectError {
    RedirectError::Answer { reason: "none came".to_owned() }
}

fn open() -> Result<Socket, RedirectError> {
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(|source| {
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => RedirectError::Unsupported {
                attempted: "open a netlink socket to netfilter".to_owned(),
                missing: "netfilter over netlink (module nfnetlink, CONFIG_NETFILTER_NETLINK)",
                source,
            },
            Some(_) | None => RedirectError::Netlink(source),
        }
    })?;
    prepare(&mut socket).map_err(RedirectError::Netlink)?;
    Ok(socket)
}

fn prepare(socket: &mut Socket) -> io::Result<()> {
    socket.bind_auto()?;
    // The kernel does all its work, answers included, while the batch is being sent: there is
    // nothing to wait for.
    socket.set_non_blocking(true)?;
    // An answer repeats the header of what it answers, not all of it; and if there are too many,
    // those that do fit are the first ones, which are the ones that matter.
    socket.set_cap_ack(true)?;
    socket.set_no_enobufs(true)
}

fn send(socket: &Socket, steps: &[Step]) -> Result<(), RedirectError> {
    let mut bytes = Vec::new();
    for step in steps {
        let mut message = vec![0; step.message.buffer_len()];
        step.message.serialize(&mut message);
        bytes.append(&mut message);
    }
    let kernel = SocketAddr::new(0, 0);
    socket.send_to(&bytes, &kernel, 0).map(drop).map_err(RedirectError::Netlink)
}

fn receive(socket: &mut Socket) -> Result<Vec<Answer>, RedirectError> {
    let mut answers = Vec::new();
    loop {
        match socket.recv_from_full() {
            Ok((datagram, _)) => answers.extend(read(&datagram)?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answers),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(RedirectError::Netlink(error)),
        }
    }
}

/// Reads all messages of one datagram; each is padded to four bytes.
fn read(datagram: &[u8]) -> Result<Vec<Answer>, RedirectError> {
    let mut answers = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let unreadable = |error: DecodeError| RedirectError::Answer { reason: error.to_string() };
        let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(unreadable)?;
        answers.extend(answer(&message));
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(1);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(answers)
}

fn answer(message: &NetlinkMessage<NetfilterMessage>) -> Option<Answer> {
    let number = message.header.sequence_number;
    match &message.payload {
        NetlinkPayload::Error(error) => Some(match error.code {
            None => Answer::Done(number),
            Some(code) => {
                Answer::Refused(number, Errno::from_raw_os_error(code.get().saturating_abs()))
            }
        }),
        NetlinkPayload::InnerMessage(_) => Some(Answer::Table),
        NetlinkPayload::Done(_) | NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => None,
        // The enum is open: a kind that a later release adds answers nothing of ours.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn steps() -> Vec<Step> {
        messages::remove()
    }

    fn refused(kind: StepKind, errno: Errno) -> String {
        let mut steps = steps();
        steps[1].kind = kind;
        steps[1].attempted = "do this".to_owned();
        let error = settle(&steps, &[Answer::Refused(1, errno), Answer::Done(2)]).unwrap_err();
        match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        for (kind, errno, expected) in [
            (StepKind::Table, Errno::PERM, "CAP_NET_ADMIN"),
            (StepKind::Batch, Errno::OPNOTSUPP, "nf_tables"),
            (StepKind::Table, Errno::OPNOTSUPP, "CONFIG_NF_TABLES_INET"),
            (StepKind::Chain, Errno::NOENT, "nft_chain_nat"),
            (StepKind::RedirectRule, Errno::NOENT, "nft_redir"),
            (
                StepKind::PassRule,
                Errno::INVAL,
                "cannot do this: the kernel refused: Invalid argument",
            ),
            (
                StepKind::Table,
                Errno::BUSY,
                "cannot do this: the kernel refused: Device or resource busy",
            ),
        ] {
            let text = refused(kind, errno);
            assert!(text.contains(expected), "case: {kind:?} {errno:?}: {text}");
        }
    }

    #[test]
    fn only_an_answer_to_the_last_message_without_a_refusal_is_success() {
        let steps = steps();
        assert!(settle(&steps, &[Answer::Done(2)]).is_ok());
        assert!(settle(&steps, &[]).is_err());
        assert!(settle(&steps, &[Answer::Refused(1, Errno::BUSY), Answer::Done(2)]).is_err());
    }

    #[test]
    fn the_first_refusal_is_the_one_reported() {
        let answers = [Answer::Refused(2, Errno::PERM), Answer::Refused(1, Errno::BUSY)];
        assert!(matches!(settle(&steps(), &answers), Err(RedirectError::NotPermitted { .. })));
    }

    #[test]
    fn half_an_answer_is_an_error_and_not_a_panic() {
        let whole = [36, 0, 0, 0, 2, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
        for length in 1..whole.len() {
            assert!(read(&whole[..length]).is_err(), "case: {length} bytes");
        }
    }
}
