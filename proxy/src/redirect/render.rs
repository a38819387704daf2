//! Rules → the text that `nft -f` takes, for `--dry-run`. The kernel is told by messages.rs, not by
//! this text.

use std::fmt::Write;

use ipnet::IpNet;

use crate::redirect::plan::{Condition, INBOUND_CHAIN, OUTBOUND_CHAIN, Plan, Rule, TABLE, Verdict};
use crate::redirect::settings::Exemption;

/// The rules, in a form that replaces those of before.
pub fn install(plan: &Plan) -> String {
    let mut text = remove();
    let _ = writeln!(text, "table inet {TABLE} {{");
    chain(&mut text, INBOUND_CHAIN, "prerouting", &plan.inbound);
    text.push('\n');
    chain(&mut text, OUTBOUND_CHAIN, "output", &plan.outbound);
    text.push_str("}\n");
    text
}

/// The removal; naming the table first makes it, so that it is no error if there is none.
pub fn remove() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// One rule, such as `tcp dport 22 accept`, without its reason.
pub fn rule(rule: &Rule) -> String {
    let mut words: Vec<String> = rule.conditions.iter().map(condition).collect();
    words.push(match rule.verdict {
        Verdict::Pass => "accept".to_owned(),
        Verdict::Redirect(port) => format!("redirect to :{port}"),
    });
    words.join(" ")
}

// Writing to a String cannot fail, which is why the results are not looked at.
fn chain(text: &mut String, name: &str, hook: &str, rules: &[Rule]) {
    let _ = writeln!(text, "\tchain {name} {{");
    let _ = writeln!(text, "\t\ttype nat hook {hook} priority -100; policy accept;");
    for line in rules {
        let _ = writeln!(text, "\t\t{} comment \"{}\"", rule(line), line.reason);
    }
    text.push_str("\t}\n");
}

fn condition(condition: &Condition) -> String {
    match condition {
        Condition::Tcp => "meta l4proto tcp".to_owned(),
        Condition::DestinationPort(range) if range.first() == range.last() => {
            format!("tcp dport {}", range.first())
        }
        Condition::DestinationPort(range) => {
            format!("tcp dport {}-{}", range.first(), range.last())
        }
        Condition::Destination(IpNet::V4(network)) => match network.prefix_len() {
            0 => "meta nfproto ipv4".to_owned(),
            32 => format!("ip daddr {}", network.addr()),
            _ => format!("ip daddr {network}"),
        },
        Condition::Destination(IpNet::V6(network)) => match network.prefix_len() {
            0 => "meta nfproto ipv6".to_owned(),
            128 => format!("ip6 daddr {}", network.addr()),
            _ => format!("ip6 daddr {network}"),
        },
        Condition::FromLoopback => "iifname \"lo\"".to_owned(),
        Condition::Exempt(Exemption::Mark(mark)) => format!("meta mark {mark:#x}"),
        Condition::Exempt(Exemption::User(user)) => format!("meta skuid {user}"),
    }
}
