//! How large a test is: sizes that its machine can bear by default, and others where somebody wants to know.

use std::env;

use anyhow::{Context as _, Result};

/// The number in an environment variable, or the default where it is not set; fails if it is no number.
pub fn number(name: &str, default: u64) -> Result<u64> {
    match env::var_os(name) {
        None => Ok(default),
        Some(value) => {
            let value = value.to_string_lossy();
            value.parse().with_context(|| format!("{name}={value:?} is no number"))
        }
    }
}
