//! Writes PEM as every other tool does: lines of 64, ended by LF.

use pem::{EncodeConfig, LineEnding, Pem};

/// The label of a certificate.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

/// One section.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(label, der), config)
}
