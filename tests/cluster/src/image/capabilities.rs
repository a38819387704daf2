//! Capabilities that a program in an image may have whoever starts it, as the kernel keeps them with a file.

use std::str::FromStr;

use anyhow::{Context as _, Result};

/// A set of capabilities that are permitted to the program, which makes them effective when it needs them. Were they
/// effective from the start, the kernel would refuse to start it where its bounding set lacks one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// The value of the attribute `security.capability`: `struct vfs_cap_data` of linux/capability.h, second revision.
    pub fn to_bytes(self) -> Vec<u8> {
        let low = u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or_default();
        let high = u32::try_from(self.0 >> 32).unwrap_or_default();
        let words = [REVISION_2, low, 0, high, 0];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

impl FromStr for Capabilities {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bits = 0;
        for name in text.split(',') {
            let (_, number) = KNOWN
                .iter()
                .find(|(known, _)| *known == name)
                .with_context(|| format!("no capability {name:?}; known are {}", known()))?;
            bits |= 1 << number;
        }
        Ok(Self(bits))
    }
}

fn known() -> String {
    KNOWN.map(|(name, _)| name).join(", ")
}

const REVISION_2: u32 = 0x0200_0000;
/// Those that concern the network. Source: linux/capability.h.
const KNOWN: [(&str, u32); 3] =
    [("cap_net_bind_service", 10), ("cap_net_admin", 12), ("cap_net_raw", 13)];
