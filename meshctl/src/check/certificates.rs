//! Reads the times of certificates in PEM. Whether they are good certificates is not decided here.

use std::time::{Duration, SystemTime};

use x509_parser::pem::Pem;
use x509_parser::time::ASN1Time;

use crate::check::facts::Certificate;

/// All certificates in the text, in its order; fails with a sentence when one cannot be read, or when there is none.
pub fn read(text: &[u8]) -> Result<Vec<Certificate>, String> {
    let mut certificates = Vec::new();
    for pem in Pem::iter_from_buffer(text) {
        let pem = pem.map_err(|error| format!("it is no PEM: {error}"))?;
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let certificate =
            pem.parse_x509().map_err(|error| format!("a certificate cannot be read: {error}"))?;
        let validity = certificate.validity();
        certificates.push(Certificate {
            subject: certificate.subject().to_string(),
            from: time(validity.not_before)?,
            until: time(validity.not_after)?,
        });
    }
    if certificates.is_empty() {
        Err("there is no certificate in it".to_owned())
    } else {
        Ok(certificates)
    }
}

fn time(time: ASN1Time) -> Result<SystemTime, String> {
    let seconds = u64::try_from(time.timestamp());
    let seconds = seconds.map_err(|_| "a certificate's time is before 1970".to_owned())?;
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or_else(|| "a certificate's time is too late".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        for (case, text) in [
            ("nothing", ""),
            ("no certificate", "-----BEGIN X-----\nYQ==\n-----END X-----\n"),
            ("a broken one", "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"),
        ] {
            assert!(read(text.as_bytes()).is_err(), "case: {case}");
        }
    }
}
