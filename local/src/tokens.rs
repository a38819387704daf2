//! Join tokens: what a proxy shows the control plane to get its first certificate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use heddle_model::identity::PodUid;
use rand::RngCore as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::manifests::pod::PodPlan;
use crate::mirror::write_atomically;
use crate::state_directory::StateDirectory;

/// The tokens of this world. It keeps their hashes; each token itself is only in its own file.
#[derive(Debug)]
pub struct Tokens {
    state: StateDirectory,
    by_hash: BTreeMap<String, Holder>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Holder {
    namespace: String,
    service_account: String,
    pod_uid: String,
}

impl Tokens {
    /// No tokens yet.
    pub fn new(state: StateDirectory) -> io::Result<Self> {
        let tokens = Self { state, by_hash: BTreeMap::new() };
        tokens.write()?;
        Ok(tokens)
    }

    /// Makes a token for a pod's proxy, and lets the control plane know its hash.
    pub fn mint(&mut self, pod: &PodPlan) -> io::Result<()> {
        let mut token = [0_u8; TOKEN_BYTES];
        rand::rng().fill_bytes(&mut token);
        let token = hexadecimal(&token);
        let holder = Holder {
            namespace: pod.name.namespace.clone(),
            service_account: pod.service_account.clone(),
            pod_uid: pod.uid.to_string(),
        };
        // A pod whose file names its UID may follow another one with the same; what that one's proxy had is void.
        self.by_hash.retain(|_, holder| holder.pod_uid != pod.uid.as_str());
        self.by_hash.insert(hexadecimal(&Sha256::digest(&token)), holder);
        self.write()?;
        write_atomically(&self.token_file(&pod.uid), token.as_bytes())
    }

    /// Forgets the tokens of a pod that is gone.
    pub fn revoke(&mut self, uid: &PodUid) -> io::Result<()> {
        self.by_hash.retain(|_, holder| holder.pod_uid != uid.as_str());
        self.write()
    }

    fn token_file(&self, uid: &PodUid) -> PathBuf {
        self.state.workload(uid.as_str(), "token")
    }

    fn write(&self) -> io::Result<()> {
        write_atomically(&self.state.join_tokens(), &serde_json::to_vec_pretty(&self.by_hash)?)
    }
}

/// A pod UID for a pod that names none: a random UUID (RFC 9562, version 4).
pub fn new_uid() -> PodUid {
    let mut bytes = [0_u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    let bits = u128::from_be_bytes(bytes);
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let text = format!("{bits:032x}");
    let part = |range| text.get(range).unwrap_or_default();
    let uuid = [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-");
    #[expect(
        clippy::expect_used,
        reason = "36 hexadecimal digits and dashes are a DNS label; tested"
    )]
    uuid.parse().expect("a UUID is a DNS label")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// 256 bits: nobody guesses it.
const TOKEN_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_uid_is_a_random_uuid() {
        for _ in 0..1000 {
            let uid = new_uid().to_string();
            assert_eq!(uid.len(), 36, "{uid}");
            assert_eq!(uid.as_bytes()[14], b'4', "{uid}");
            assert!(b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
        }
        assert_ne!(new_uid(), new_uid());
    }

    #[test]
    fn hashes_are_of_the_text_in_the_file() {
        // The control plane hashes the token as the proxy sends it, which is the file's text.
        assert_eq!(
            hexadecimal(&Sha256::digest("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_pod_that_follows_another_with_its_uid_voids_that_ones_token() {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(temporary.path());
        let text = "kind: Pod\nmetadata: {name: a, uid: fixed}\nspec: {containers: [{name: m, command: [x]}]}\n";
        let files = [(PathBuf::from("a.yaml"), text.as_bytes().to_vec())].into();
        let mut manifests =
            crate::manifests::Manifests::new(crate::manifests::addresses::Families::V4);
        let pod = manifests.read(&files, new_uid).pods.remove(0);
        std::fs::create_dir_all(state.workload("fixed", "")).unwrap();
        let mut tokens = Tokens::new(state.clone()).unwrap();
        let mut minted = || {
            tokens.mint(&pod).unwrap();
            hexadecimal(&Sha256::digest(std::fs::read(state.workload("fixed", "token")).unwrap()))
        };
        let (first, second) = (minted(), minted());
        let known = std::fs::read_to_string(state.join_tokens()).unwrap();
        assert!(known.contains(&second) && !known.contains(&first), "{known}");
    }
}
