//! Certificates for the systems that have no control plane: one authority, and a certificate for each side.
//! ECDSA P-256, as Heddle's are.

use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};

use crate::system::Side;

/// Writes `authority.pem`, and for each side `<side>.pem` with its certificate, `<side>.key`, and `<side>-both.pem` with
/// the two, as HAProxy wants them.
pub fn write(folder: &Path) -> Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = parameters("the benchmark's authority", Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    put(folder, "authority.pem", &parameters.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(parameters, key);
    for side in Side::BOTH {
        let name = side.name();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = self::parameters(name, vec![server_name(side)])?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = parameters.signed_by(&key, &issuer)?.pem();
        let key = key.serialize_pem();
        put(folder, &format!("{name}.pem"), &certificate)?;
        put(folder, &format!("{name}.key"), &key)?;
        put(folder, &format!("{name}-both.pem"), &format!("{certificate}{key}"))?;
    }
    Ok(())
}

/// The name in a side's certificate.
pub fn server_name(side: Side) -> String {
    format!("{}.bench.internal", side.name())
}

fn parameters(common_name: &str, names: Vec<String>) -> Result<CertificateParams> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    (parameters.not_before, parameters.not_after) =
        (now - Duration::hours(1), now + Duration::days(1));
    Ok(parameters)
}

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::write(folder.join(name), text).with_context(|| format!("write {name}"))
}
