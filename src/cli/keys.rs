//! Key pairs of recipients in files: one line of base64, the form of `wg genkey` and `wg pubkey` (X25519 as well).

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _, stdin};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::secret_in;
use crate::crypto::delivery::PrivateKey;
use crate::grpc::proto::SealedSecret;
use crate::recipient::PublicKey;
use crate::rotation::{Delivery, Parent};
use crate::secret::SecretText;

/// The longest file of a public key that is looked at.
const MOST: u64 = 1024;

/// What `--key-file` takes.
pub(super) const FORM: &str = "one line of base64, 44 characters, as \
     `credvault recipient-keys create --generate FILE` writes it";

/// A private key from a file that is its owner's alone.
pub(super) fn private(file: &Path) -> anyhow::Result<PrivateKey> {
    let text = secret_in(file)?;
    from_text(&text).with_context(|| format!("{} holds no private key: {FORM}", file.display()))
}

/// A private key from its line.
#[expect(clippy::disallowed_methods, reason = "a key goes from its owner's file into its use")]
pub(super) fn from_text(text: &SecretText) -> Option<PrivateKey> {
    // Not with its error, which tells a character of it.
    let bytes = STANDARD.decode(text.expose().trim()).ok()?;
    Some(PrivateKey::from_bytes(bytes.try_into().ok()?))
}

/// A private key as its line.
pub(super) fn to_text(key: &PrivateKey) -> SecretText {
    SecretText::new(STANDARD.encode(key.as_bytes()))
}

/// A public key as its line.
pub(super) fn public_text(key: &PublicKey) -> String {
    STANDARD.encode(key.as_bytes())
}

/// A public key from a file; `-`: from standard input.
pub(super) fn public(file: &Path) -> anyhow::Result<PublicKey> {
    let context = || format!("cannot read the public key in {}", file.display());
    let mut text = String::new();
    let read = if file == Path::new("-") {
        stdin().take(MOST).read_to_string(&mut text)
    } else {
        File::open(file).with_context(context)?.take(MOST).read_to_string(&mut text)
    };
    read.with_context(context)?;
    let key = STANDARD.decode(text.trim()).ok().and_then(|bytes| PublicKey::parse(&bytes).ok());
    key.with_context(|| {
        format!(
            "{} holds no public key: one line of base64, 44 characters, as `wg pubkey` writes it",
            file.display()
        )
    })
}

/// Writes a private key to a new file, for its owner alone.
#[expect(clippy::disallowed_methods, reason = "puts a new key where its owner wants it")]
pub(super) fn write_private(file: &Path, key: &PrivateKey) -> anyhow::Result<()> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut made = open.with_context(|| {
        format!("cannot make {}; name another file with --generate", file.display())
    })?;
    let written = writeln!(made, "{}", to_text(key).expose()).and_then(|()| made.sync_all());
    written.and_then(|()| sync_folder(file)).with_context(|| {
        fs::remove_file(file).ok();
        format!("cannot write {}", file.display())
    })
}

/// Brings the names in a file's folder to the disk.
pub(super) fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens a sealed secret.
pub(super) fn open(sealed: &SealedSecret, key: &PrivateKey) -> anyhow::Result<SecretText> {
    use crate::crypto::delivery::Delivered;
    use crate::grpc::client::time;

    const NOT_WHOLE: &str = "it is not a whole sealed secret, as the vault gave it";
    let mine = key.public_key()?.fingerprint();
    if sealed.public_key_sha256 != mine {
        bail!(
            "it is sealed for another key: its public_key_sha256 is {}, and that of this key {mine}; \
             `credvault recipient-keys list` shows whose that is",
            super::terminal::harmless(&sealed.public_key_sha256)
        );
    }
    let name = Parent::parse(&sealed.credential).context(NOT_WHOLE)?;
    let version = u64::try_from(sealed.version).context(NOT_WHOLE)?;
    let delivery = Delivery {
        request_id: sealed.request_id.clone(),
        key_fingerprint: mine,
        expire_time: time(sealed.expire_time).context(NOT_WHOLE)?,
    };
    let encapsulated = sealed.encapsulated_key.as_slice().try_into().context(NOT_WHOLE)?;
    let delivered =
        Delivered { encapsulated_key: encapsulated, ciphertext: sealed.ciphertext.clone() };
    key.open(&delivered, &delivery.aad(&name, version)).context(
        "it does not open: something in it is not as the vault gave it; \
         `credvault rotations show ROTATION --output json` has it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_line_of_base64_and_nothing_else() {
        let key = PrivateKey::generate().unwrap();
        let again = from_text(&to_text(&key)).unwrap();
        assert_eq!(again.as_bytes(), key.as_bytes());
        for bad in ["", "AAAA", &"0".repeat(64), &"A".repeat(44)] {
            assert!(from_text(&SecretText::new(bad.to_owned())).is_none(), "{bad}");
        }
        // The pair in the documentation of `wg`.
        let key =
            from_text(&SecretText::new("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=".to_owned()));
        let public = public_text(&key.unwrap().public_key().unwrap());
        assert_eq!(public, "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=");
    }
}
