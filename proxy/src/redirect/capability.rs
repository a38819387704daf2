//! The one capability that programming the rules takes, where it was given but is not in force: a process of
//! an ordinary user gets it from its binary's file capability `cap_net_admin+p`, which leaves it to the
//! process to use it. A binary that put it in force by itself could not be started without it, as the
//! proxy is.

use rustix::io;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Puts CAP_NET_ADMIN in force for this thread, if it may be; whether it is shows in what the kernel says
/// to the rules.
pub(super) fn raise() {
    // A failure is told by the kernel's refusal, with what would do.
    let _ = try_raise();
}

fn try_raise() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    let wanted = CapabilitySet::NET_ADMIN;
    if sets.permitted.contains(wanted) && !sets.effective.contains(wanted) {
        sets.effective |= wanted;
        set_capabilities(None, sets)?;
    }
    Ok(())
}
