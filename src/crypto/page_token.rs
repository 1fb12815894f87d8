//! Page tokens: where a list goes on, sealed so that callers neither read nor make one.
//!
//! ```text
//! base64url( nonce 12 | AES-256-GCM(page key, nonce, position, aad = list arguments) )
//! ```

use aes_gcm::Aes256Gcm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Error, envelope, random};

/// No token of ours is longer: of all positions, the principals of role bindings have the most characters, 514.
const MAX_TOKEN: usize = 1024;

pub(super) fn seal(key: &Aes256Gcm, arguments: &[u8], position: &str) -> Result<String, Error> {
    let nonce = random::bytes::<12>()?;
    let mut token = nonce.to_vec();
    token.extend(envelope::encrypt(key, &nonce, position.as_bytes(), arguments));
    Ok(URL_SAFE_NO_PAD.encode(token))
}

pub(super) fn open(key: &Aes256Gcm, arguments: &[u8], token: &str) -> Option<String> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let token = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (nonce, ciphertext) = token.split_first_chunk::<12>()?;
    let position = envelope::decrypt(key, nonce, ciphertext, arguments).ok()?;
    std::str::from_utf8(&position).ok().map(str::to_owned)
}
