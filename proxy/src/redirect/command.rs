//! `heddle-proxy redirect`: its flags, and what it does with them. What the flags mean is in
//! `settings`.

use std::io::Write;

use crate::redirect::RedirectError;
use crate::redirect::capability;
use crate::redirect::netlink;
use crate::redirect::plan::Plan;
use crate::redirect::render;
use crate::redirect::settings::{Exemption, Request, Settings};

// The flags are text here, so that every bad one is reported at once; what follows is their help.
/// Sends the TCP connections of this network namespace through the proxy, by nftables rules.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = SCOPE)]
pub struct RedirectArguments {
    /// The port on which the proxy takes connections to the workload.
    #[arg(long, env = "HEDDLE_INBOUND_PORT", value_name = "PORT", default_value = "15106")]
    pub inbound_port: String,
    /// The port on which the proxy takes connections from the workload.
    #[arg(long, env = "HEDDLE_OUTBOUND_PORT", value_name = "PORT", default_value = "15101")]
    pub outbound_port: String,
    /// Leaves sockets with this mark (SO_MARK) alone: those of the proxy, run with the same
    /// `--mark`.
    #[arg(long, env = "HEDDLE_EXEMPT_MARK", value_name = "N")]
    pub exempt_mark: Option<String>,
    /// Leaves sockets of this user alone: the one that only the proxy runs as.
    #[arg(long, env = "HEDDLE_EXEMPT_UID", value_name = "N")]
    pub exempt_uid: Option<String>,
    /// Ports of the workload that peers reach past the proxy, such as `22,9000-9010`.
    #[arg(long, env = "HEDDLE_SKIP_INBOUND_PORTS", value_name = "LIST", default_value = "")]
    pub skip_inbound_ports: String,
    /// Ports that the workload reaches past the proxy, such as `25,4000-4100`.
    #[arg(long, env = "HEDDLE_SKIP_OUTBOUND_PORTS", value_name = "LIST", default_value = "")]
    pub skip_outbound_ports: String,
    /// Networks that the workload reaches past the proxy, such as `169.254.169.254,fd00:ec2::/32`.
    #[arg(long, env = "HEDDLE_SKIP_OUTBOUND_NETWORKS", value_name = "LIST", default_value = "")]
    pub skip_outbound_networks: String,
    /// Prints the rules as `nft -f` would take them, and changes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Removes the rules; no error if there are none. The other flags are not looked at.
    #[arg(long)]
    pub remove: bool,
}

/// Does what the flags ask for, and writes what was done to `output`. May be repeated: the rules of
/// before are replaced in the same instant. Blocks for as long as the kernel takes, which is well
/// below a second.
pub fn run(arguments: RedirectArguments, output: &mut impl Write) -> Result<(), RedirectError> {
    let text = match Request::try_from(&arguments)? {
        Request::Install(settings) => {
            let plan = Plan::new(&settings);
            if arguments.dry_run {
                render::install(&plan)
            } else {
                capability::raise();
                netlink::install(&plan)?;
                done(&settings)
            }
        }
        Request::Remove if arguments.dry_run => render::remove(),
        Request::Remove => {
            capability::raise();
            netlink::remove()?;
            "the redirect is removed\n".to_owned()
        }
    };
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(RedirectError::Output)
}

fn done(settings: &Settings) -> String {
    let exempt = match settings.exemption {
        Exemption::Mark(mark) => format!("mark {mark}"),
        Exemption::User(user) => format!("user {user}"),
    };
    format!(
        "the redirect is in place: inbound to {}, outbound to {}, but for sockets of {exempt}\n",
        settings.inbound_port, settings.outbound_port
    )
}

const SCOPE: &str = "\
Takes effect at once on all TCP traffic of the network namespace it is run in; run as root outside
of a pod or namespace, that is the whole machine's. See first with --dry-run; undo with --remove.";

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(change: impl FnOnce(&mut RedirectArguments)) -> String {
        let mut arguments = RedirectArguments {
            inbound_port: "15106".to_owned(),
            outbound_port: "15101".to_owned(),
            dry_run: true,
            ..RedirectArguments::default()
        };
        change(&mut arguments);
        let mut output = Vec::new();
        match run(arguments, &mut output) {
            Ok(()) => String::from_utf8(output).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_dry_run_prints_the_rules_and_touches_nothing() {
        insta::assert_snapshot!(printed(|arguments| {
            arguments.exempt_mark = Some("0x1e".to_owned());
            arguments.skip_inbound_ports = "22, 9000-9010,9011".to_owned();
            arguments.skip_outbound_ports = "4000-4100".to_owned();
            arguments.skip_outbound_networks =
                "169.254.169.254,10.96.0.0/12,fd00:ec2::/32".to_owned();
        }));
    }

    #[test]
    fn a_dry_run_with_a_uid_and_other_ports_prints_them() {
        insta::assert_snapshot!(printed(|arguments| {
            arguments.inbound_port = "16000".to_owned();
            arguments.outbound_port = "17000".to_owned();
            arguments.exempt_uid = Some("15100".to_owned());
        }));
    }

    #[test]
    fn a_dry_run_of_a_removal_names_only_the_own_table() {
        insta::assert_snapshot!(printed(|arguments| arguments.remove = true), @r"
        table inet heddle
        delete table inet heddle
        ");
    }

    #[test]
    fn every_bad_flag_is_reported_at_once() {
        insta::assert_snapshot!(printed(|arguments| {
            arguments.inbound_port = "0".to_owned();
            arguments.outbound_port = "http".to_owned();
            arguments.exempt_mark = Some("0".to_owned());
            arguments.skip_inbound_ports = "22,,70000,9-3".to_owned();
            arguments.skip_outbound_networks = "10.0.0.1/8,nowhere".to_owned();
        }));
    }
}
