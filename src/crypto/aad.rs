//! What a ciphertext is bound to: the identity of the one place where it may lie.
//!
//! The bytes are rebuilt from the record's own identity each time and never stored, so a ciphertext that
//! is moved anywhere else does not open.

use sha2::{Digest as _, Sha256};

use crate::defect::{Defect, planted};
use crate::name::Uid;

/// The field of a record that a ciphertext stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The vault's root key.
    Root,
    /// A credential's SIP password.
    Password,
    /// A provider's token.
    Token,
}

/// The place of one secret version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The account that owns it.
    pub account: Uid,
    /// The credential or provider.
    pub resource: Uid,
    /// Which field of it.
    pub field: Field,
    /// The secret version.
    pub version: u64,
}

/// The layer of the envelope that is sealed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layer {
    /// The DEK, under the KEK of this version.
    Wrap { kek_version: u32 },
    /// The secret, under its DEK.
    Data,
}

impl Place {
    /// The place of the vault's root key.
    pub(super) const fn root() -> Self {
        Self { account: Uid::ZERO, resource: Uid::ZERO, field: Field::Root, version: 1 }
    }

    /// SHA-256 of the additional authenticated data of one layer:
    ///
    /// ```text
    /// "credvault\0record\0v1" | layer u8 (1 wrap, 2 data) | suite u8 | vault 16 | account 16
    ///   | resource 16 | field u8 | version u64 BE | KEK version u32 BE (0 in the data layer)
    /// ```
    ///
    /// Fixed width, so no two places share an encoding. The KEK version stands in the wrap layer only: a
    /// re-wrap leaves the data layer untouched.
    pub(super) fn aad(&self, vault: Uid, suite: u8, layer: Layer) -> [u8; 32] {
        let (layer, kek_version) = match layer {
            Layer::Wrap { kek_version } => (1_u8, kek_version),
            Layer::Data => (2, 0),
        };
        let field: u8 = match self.field {
            Field::Root => 1,
            Field::Password => 2,
            Field::Token => 3,
        };
        let unbound = planted(Defect::UnboundCiphertext);
        let resource = if unbound { Uid::ZERO } else { self.resource };
        Sha256::new()
            .chain_update(b"credvault\0record\0v1")
            .chain_update([layer, suite])
            .chain_update(vault.as_bytes())
            .chain_update(self.account.as_bytes())
            .chain_update(resource.as_bytes())
            .chain_update([field])
            .chain_update(self.version.to_be_bytes())
            .chain_update(kek_version.to_be_bytes())
            .finalize()
            .into()
    }
}
