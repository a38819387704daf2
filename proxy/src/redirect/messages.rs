//! Rules → netfilter netlink messages: one batch that the kernel takes as a whole or not at all.
//! Sends nothing: see netlink.rs. Numbers are those of Linux'
//! `include/uapi/linux/netfilter/nf_tables.h`; `nft --debug=netlink` shows the same expressions for
//! the text of render.rs.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage,
};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions,
    Hook, Immediate, InetHookNumber, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator,
    Payload, Register, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
    Verdict as NfVerdict, VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use crate::redirect::plan::{Condition, INBOUND_CHAIN, OUTBOUND_CHAIN, Plan, Rule, TABLE, Verdict};
use crate::redirect::render;
use crate::redirect::settings::{Exemption, PortRange};

/// One message of a batch, and what it is there for.
pub(super) struct Step {
    pub(super) kind: StepKind,
    /// Completes "cannot ...".
    pub(super) attempted: String,
    pub(super) message: NetlinkMessage<NetfilterMessage>,
}

/// What a message asks for; the kernel's errors mean different things for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepKind {
    Batch,
    Table,
    Chain,
    PassRule,
    RedirectRule,
}

/// Replaces whatever was there: making a table that exists is no error, so that deleting it cannot
/// fail.
pub(super) fn install(plan: &Plan) -> Vec<Step> {
    let mut steps = deletion();
    steps.push(table("make the table", NfTablesMessage::NewTable, NLM_F_CREATE));
    for (name, hook, rules) in [
        (INBOUND_CHAIN, InetHookNumber::PreRouting, &plan.inbound),
        (OUTBOUND_CHAIN, InetHookNumber::LocalOut, &plan.outbound),
    ] {
        steps.push(chain(name, hook));
        steps.extend(rules.iter().map(|line| rule(name, line)));
    }
    batch(steps)
}

/// Removes the table and all in it, if there is one.
pub(super) fn remove() -> Vec<Step> {
    batch(deletion())
}

/// Asks for the table.
pub(super) fn find() -> Step {
    let mut step = table("find the table", NfTablesMessage::GetTable, 0);
    step.message.finalize();
    step
}

fn deletion() -> Vec<Step> {
    vec![
        table("make the table", NfTablesMessage::NewTable, NLM_F_CREATE),
        table("delete the old table", NfTablesMessage::DeleteTable, 0),
    ]
}

/// Frames the steps and numbers them. Only the last one asks for an answer: the kernel answers in
/// order, and always answers what it refuses, while an answer to each rule of a long list would not
/// fit the socket's buffer.
fn batch(mut steps: Vec<Step>) -> Vec<Step> {
    if let Some(last) = steps.last_mut() {
        last.message.header.flags |= NLM_F_ACK;
    }
    steps.insert(0, boundary("begin a batch", ControlMessage::BatchBegin));
    steps.push(boundary("end a batch", ControlMessage::BatchEnd));
    for (number, step) in (0..).zip(steps.iter_mut()) {
        step.message.header.sequence_number = number;
        step.message.finalize();
    }
    steps
}

fn boundary(attempted: &str, control: ControlMessage) -> Step {
    // The resource id names the subsystem of the batch: NFNL_SUBSYS_NFTABLES.
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 10);
    step(
        StepKind::Batch,
        format!("{attempted} of nftables rules"),
        0,
        NetfilterMessage::new(header, control),
    )
}

fn table(attempted: &str, kind: fn(TableMessage) -> NfTablesMessage, flags: u16) -> Step {
    let message = kind(TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] });
    step(StepKind::Table, format!("{attempted} `inet {TABLE}`"), flags, inet(message))
}

fn chain(name: &str, hook: InetHookNumber) -> Step {
    const PRIORITY: i32 = -100; // NF_IP_PRI_NAT_DST
    const ACCEPT: u32 = 1; // NF_ACCEPT
    let message = NfTablesMessage::NewChain(ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(name.to_owned()),
            ChainAttribute::Hook(vec![
                Hook::Number(hook.into()),
                Hook::Priority(PRIORITY.cast_unsigned()),
            ]),
            ChainAttribute::Policy(ACCEPT),
            ChainAttribute::Type("nat".to_owned()),
        ],
    });
    let attempted = format!("make the nat chain `{name}` in table `inet {TABLE}`");
    step(StepKind::Chain, attempted, NLM_F_CREATE, inet(message))
}

fn rule(chain: &str, rule: &Rule) -> Step {
    let mut expressions: Vec<Expressions> = rule.conditions.iter().flat_map(condition).collect();
    expressions.extend(verdict(rule.verdict));
    let message = NfTablesMessage::NewRule(RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(
                expressions.into_iter().map(ListAttribute::<ExpressionAttribute>::from).collect(),
            ),
            RuleAttribute::UserData(comment(rule.reason)),
        ],
    });
    let kind = match rule.verdict {
        Verdict::Pass => StepKind::PassRule,
        Verdict::Redirect(_) => StepKind::RedirectRule,
    };
    let attempted = format!("add the rule `{}` to chain `{chain}`", render::rule(rule));
    step(kind, attempted, NLM_F_CREATE | NLM_F_APPEND, inet(message))
}

fn inet(message: NfTablesMessage) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0);
    NetfilterMessage::new(header, NetfilterMessageInner::NfTables(message))
}

fn step(kind: StepKind, attempted: String, flags: u16, message: NetfilterMessage) -> Step {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    Step { kind, attempted, message }
}

/// A comment as `nft` keeps it: type (0), length, text with its final zero (libnftnl's `udata.h`).
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len().saturating_add(1)).unwrap_or(u8::MAX);
    let kept = text.bytes().take(usize::from(length).saturating_sub(1));
    [0, length].into_iter().chain(kept).chain([0]).collect()
}

fn condition(condition: &Condition) -> Vec<Expressions> {
    const TCP: u8 = 6;
    match condition {
        Condition::Tcp => meta(MetaKey::L4Proto, vec![TCP]),
        Condition::DestinationPort(range) => {
            let mut expressions = meta(MetaKey::L4Proto, vec![TCP]);
            expressions.extend(destination_port(*range));
            expressions
        }
        Condition::Destination(network) => destination(*network),
        Condition::FromLoopback => meta(MetaKey::Iifname, interface_name("lo")),
        // Both are numbers of this host, not of the network: in its own byte order.
        Condition::Exempt(Exemption::Mark(mark)) => {
            meta(MetaKey::Mark, mark.get().to_ne_bytes().to_vec())
        }
        Condition::Exempt(Exemption::User(user)) => {
            meta(MetaKey::SocketUserId, user.to_ne_bytes().to_vec())
        }
    }
}

fn meta(key: MetaKey, value: Vec<u8>) -> Vec<Expressions> {
    vec![
        Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]),
        compare(Operator::Equal, value),
    ]
}

/// Interface names are compared with their padding (IFNAMSIZ).
fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn destination_port(range: PortRange) -> Vec<Expressions> {
    const TRANSPORT_HEADER: u32 = 2;
    let load = payload(TRANSPORT_HEADER, 2, 2);
    let first = range.first().number().to_be_bytes().to_vec();
    let last = range.last().number().to_be_bytes().to_vec();
    if first == last {
        return vec![load, compare(Operator::Equal, first)];
    }
    vec![load, compare(Operator::GreatherThanEqual, first), compare(Operator::LessThanEqual, last)]
}

fn destination(network: IpNet) -> Vec<Expressions> {
    const NETWORK_HEADER: u32 = 1;
    let family = match network {
        IpNet::V4(_) => NetfilterProtoFamily::IPv4,
        IpNet::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let mut expressions = meta(MetaKey::Nfproto, vec![family.into()]);
    if network.prefix_len() == 0 {
        return expressions;
    }
    let (offset, length) = match network {
        IpNet::V4(_) => (16, 4),
        IpNet::V6(_) => (24, 16),
    };
    expressions.push(payload(NETWORK_HEADER, offset, length));
    if network.prefix_len() < network.max_prefix_len() {
        expressions.push(mask(octets(network.netmask()), length));
    }
    expressions.push(compare(Operator::Equal, octets(network.network())));
    expressions
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn payload(base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn mask(mask: Vec<u8>, length: u32) -> Expressions {
    let nothing = vec![0; mask.len()];
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(length),
        Bitwise::Mask(DataAttribute::Value(mask)),
        Bitwise::Xor(DataAttribute::Value(nothing)),
    ])
}

fn compare(operator: Operator, value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

fn verdict(verdict: Verdict) -> Vec<Expressions> {
    const ACCEPT: NfVerdict = NfVerdict::Other(1); // NF_ACCEPT
    const PROTO_MIN: u16 = 1; // NFTA_REDIR_REG_PROTO_MIN
    match verdict {
        Verdict::Pass => vec![Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(ACCEPT)])),
        ])],
        Verdict::Redirect(port) => vec![
            Expressions::Immediate(vec![
                Immediate::DestinationRegister(Register::Reg1),
                Immediate::Data(DataAttribute::Value(port.number().to_be_bytes().to_vec())),
            ]),
            Expressions::Other {
                expression_type: "redir".to_owned(),
                attributes: vec![DefaultNla::new(
                    PROTO_MIN,
                    u32::from(Register::Reg1).to_be_bytes().to_vec(),
                )],
            },
        ],
    }
}
