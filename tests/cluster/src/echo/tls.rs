//! The certificate of the ports that speak TLS: one from files, or one that is made at start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Where a certificate may be. The image that this stands in for brings files; ours need not.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Files {
    /// Certificates in PEM; without the file, a certificate of its own is made
    #[arg(long)]
    pub crt: Option<PathBuf>,
    /// The first certificate's key in PEM
    #[arg(long)]
    pub key: Option<PathBuf>,
}

/// Answers handshakes, for HTTP of both versions. Fails if there is but one of two files, or one that
/// cannot be read.
pub(super) fn acceptor(files: &Files) -> Result<TlsAcceptor> {
    let present = |path: &Option<PathBuf>| path.clone().filter(|path| path.exists());
    let (chain, key) = match (present(&files.crt), present(&files.key)) {
        (Some(crt), Some(key)) => read(&crt, &key)?,
        (None, None) => own()?,
        (Some(one), None) | (None, Some(one)) => {
            bail!("{} is there, but not the other of --crt and --key", one.display())
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and its key")?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

type Certificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(crt: &Path, key: &Path) -> Result<Certificate> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(crt)
        .and_then(Iterator::collect)
        .with_context(|| crt.display().to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
    Ok((chain, key))
}

fn own() -> Result<Certificate> {
    let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned))?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow!("the key that was made cannot be read: {error}"))?;
    Ok((vec![made.cert.der().clone()], key))
}

const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// The services of the suite's pods.
const NAMES: [&str; 3] = ["echo", "echo-v1", "echo-v2"];
