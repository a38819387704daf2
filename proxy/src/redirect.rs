//! Sends a workload's TCP traffic through its proxy, by nftables rules in the workload's own
//! network namespace. Owns what can go wrong; the parts are: `settings` (as typed → as meant),
//! `plan` (settings → rules), `render` (rules → text), `messages` (rules → netlink), `netlink`
//! (the kernel), `capability` (what the kernel wants for it), `command` (`heddle-proxy redirect`) and
//! `probe` (the proxy's check at start).
//!
//! Only the first packet of a connection meets these rules: the kernel remembers what it did
//! with it. UDP is left alone.

mod capability;
pub mod command;
mod messages;
pub mod netlink;
#[cfg(test)]
mod oracle;
pub mod plan;
pub mod probe;
pub mod render;
pub mod settings;

use std::io;

use crate::redirect::settings::InvalidSettings;

/// Why the rules could not be put in place, removed or printed.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// What was asked for makes no sense; nothing was done.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The kernel lets only the network namespace's administrator change its rules.
    #[error(
        "cannot {attempted}: not permitted; this needs the capability CAP_NET_ADMIN in the network namespace of the \
         workload (run as root, or in a user namespace that owns the network namespace; an init container needs \
         securityContext.capabilities.add: [\"NET_ADMIN\"], and, if it does not run as root, an image whose binary \
         has the file capability cap_net_admin+p)"
    )]
    NotPermitted {
        /// The step that was refused.
        attempted: String,
    },
    /// The running kernel has no such feature, and could not load it.
    #[error("cannot {attempted}: this kernel lacks {missing}")]
    Unsupported {
        /// The step that was refused.
        attempted: String,
        /// The module or kernel option to look for.
        missing: &'static str,
        /// The kernel's own word for it.
        #[source]
        source: io::Error,
    },
    /// The kernel refused for a reason of its own. Nothing was changed: the batch is atomic.
    #[error("cannot {attempted}: the kernel refused")]
    Refused {
        /// The step that was refused.
        attempted: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The netlink socket itself failed.
    #[error("cannot talk to the kernel's netfilter over netlink")]
    Netlink(#[source] io::Error),
    /// The kernel's answer could not be read; whether the rules changed is not known.
    #[error("cannot read the kernel's answer: {reason}")]
    Answer {
        /// What is wrong with it.
        reason: String,
    },
    /// The text could not be written to the output.
    #[error("cannot write the result")]
    Output(#[source] io::Error),
}
