//! Vectors of the record format, what must not open, and Wycheproof.

use aes_gcm::aead::{Aead as _, Payload};
use proptest::prelude::*;

use super::*;

const VAULT: Uid = Uid::from_bytes([1; 16]);
const PLACE: Place = Place {
    account: Uid::from_bytes([2; 16]),
    resource: Uid::from_bytes([3; 16]),
    field: Field::Password,
    version: 7,
};

/// Sealed by this code at format v1 with KEK version 1 = 32 × 0x11. If it ever stops opening, the format
/// changed and every stored secret with it.
const VECTOR: &str = include_str!("vectors/record_v1.hex");

fn keyring() -> Keyring {
    Keyring::new(vec![Kek::new(1, &[0x11; 32]), Kek::new(2, &[0x22; 32])]).unwrap()
}

fn sealer() -> Sealer {
    let root = Sealer::create_root(&keyring(), VAULT).unwrap();
    Sealer::open_vault(keyring(), VAULT, &root).ok().unwrap()
}

fn open_fails(sealer: &Sealer, place: &Place, sealed: &Sealed) -> bool {
    sealer.open(place, sealed).is_err()
}

#[test]
fn the_stored_format_is_pinned() {
    let record = Sealed::from_bytes(hex::decode(VECTOR.trim()).unwrap()).unwrap();
    assert_eq!(sealer().open(&PLACE, &record).ok().unwrap().expose(), "correct horse battery");
}

#[test]
fn what_was_sealed_opens_at_its_place_only() {
    let sealer = sealer();
    let sealed = sealer.seal(&PLACE, &SecretText::new("s3cret-pass".to_owned())).unwrap();
    assert_eq!(sealer.open(&PLACE, &sealed).ok().unwrap().expose(), "s3cret-pass");

    let elsewhere = [
        Place { account: Uid::from_bytes([9; 16]), ..PLACE },
        Place { resource: Uid::from_bytes([9; 16]), ..PLACE },
        Place { field: Field::Token, ..PLACE },
        Place { field: Field::Root, ..PLACE },
        Place { version: 8, ..PLACE },
    ];
    for place in elsewhere {
        assert!(open_fails(&sealer, &place, &sealed), "{place:?}");
    }
    let other_vault = Uid::from_bytes([9; 16]);
    assert!(envelope::open(&keyring(), other_vault, &PLACE, &sealed).is_err());
    let other_key = Keyring::new(vec![Kek::new(2, &[0x33; 32])]).unwrap();
    assert!(envelope::open(&other_key, VAULT, &PLACE, &sealed).is_err());
    let older_key = Keyring::new(vec![Kek::new(1, &[0x11; 32])]).unwrap();
    assert!(matches!(
        envelope::open(&older_key, VAULT, &PLACE, &sealed),
        Err(Error::UnknownKey(2))
    ));
}

#[test]
fn every_flipped_bit_and_every_length_is_refused() {
    let sealer = sealer();
    let sealed = sealer.seal(&PLACE, &SecretText::new("s3cret-pass".to_owned())).unwrap();
    let good = sealed.as_bytes();
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let opened = Sealed::from_bytes(bad).and_then(|bad| sealer.open(&PLACE, &bad));
        assert!(opened.is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        let opened =
            Sealed::from_bytes(good[..length].to_vec()).and_then(|bad| sealer.open(&PLACE, &bad));
        assert!(opened.is_err(), "length {length}");
    }
}

#[test]
fn a_rewrapped_dek_leaves_the_data_untouched_but_a_foreign_commitment_does_not_open() {
    let sealer = sealer();
    let one = sealer.seal(&PLACE, &SecretText::new("one-secret".to_owned())).unwrap();
    let two = sealer.seal(&PLACE, &SecretText::new("two-secret".to_owned())).unwrap();
    // The wrapped DEK of one record with the data of another, at the very same place.
    let mut mixed = one.as_bytes()[..68].to_vec();
    mixed.extend_from_slice(&two.as_bytes()[68..]);
    assert!(open_fails(&sealer, &PLACE, &Sealed::from_bytes(mixed).unwrap()));
}

#[test]
fn nonces_and_keys_never_repeat() {
    let sealer = sealer();
    let secret = SecretText::new("same-secret".to_owned());
    let mut seen = std::collections::HashSet::new();
    for _ in 0..10_000 {
        let sealed = sealer.seal(&PLACE, &secret).unwrap();
        assert!(seen.insert(sealed.as_bytes()[8..20].to_vec()), "wrap nonce");
        assert!(seen.insert(sealed.as_bytes()[100..112].to_vec()), "data nonce");
    }
}

#[test]
fn a_vault_opens_with_its_own_keyring_only() {
    let root = Sealer::create_root(&keyring(), VAULT).unwrap();
    let other = Keyring::new(vec![Kek::new(2, &[0x33; 32])]).unwrap();
    assert!(Sealer::open_vault(other, VAULT, &root).is_err());
    let one = Sealer::open_vault(keyring(), VAULT, &root).ok().unwrap();
    let again = Sealer::open_vault(keyring(), VAULT, &root).ok().unwrap();
    assert_eq!(one.token_hash(&[5; 32]), again.token_hash(&[5; 32]), "stable across restarts");
    assert_ne!(one.token_hash(&[5; 32]), one.request_fingerprint(&[5; 32]), "labels separate keys");
}

#[test]
fn page_tokens_fit_their_list_only() {
    let (sealer, other_root) = (sealer(), sealer()); // each call makes a new root
    let token = sealer.seal_page_token(b"list a", "desk-7").unwrap();
    assert_eq!(sealer.open_page_token(b"list a", &token).as_deref(), Some("desk-7"));
    assert_eq!(sealer.open_page_token(b"list b", &token), None);
    assert_eq!(other_root.open_page_token(b"list a", &token), None, "another vault's token");
    for garbage in ["", "x", "AAAA", "not base64!", &"A".repeat(5000), &token[..token.len() - 1]] {
        assert_eq!(sealer.open_page_token(b"list a", garbage), None, "{garbage:?}");
    }
    let longest = "p".repeat(514);
    let token = sealer.seal_page_token(b"list a", &longest).unwrap();
    assert_eq!(sealer.open_page_token(b"list a", &token), Some(longest));
}

proptest! {
    #[test]
    fn any_secret_survives_the_round_trip(text in "[ -~]{1,128}", version in any::<u64>()) {
        let sealer = sealer();
        let place = Place { version, ..PLACE };
        let sealed = sealer.seal(&place, &SecretText::new(text.clone())).unwrap();
        let opened = sealer.open(&place, &sealed).ok().unwrap();
        prop_assert_eq!(opened.expose(), &text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let opened = Sealed::from_bytes(bytes).and_then(|sealed| sealer().open(&PLACE, &sealed));
        prop_assert!(opened.is_err());
    }
}

/// Google's Wycheproof vectors for AES-GCM. This code uses 256-bit keys and 96-bit nonces only; the
/// other vectors are counted, so that a change in their number shows.
#[test]
fn wycheproof_aes_gcm() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut run, mut other_sizes) = (0, 0);
    for group in set.test_groups {
        if group.key_size != 256 || group.nonce_size != 96 || group.tag_size != 128 {
            other_sizes += group.tests.len();
            continue;
        }
        for test in group.tests {
            let key = Aes256Gcm::new_from_slice(&test.key).unwrap();
            let nonce: [u8; 12] = test.nonce[..].try_into().unwrap();
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let opened = envelope::decrypt(&key, &nonce, &sealed, &test.aad);
            if test.result.must_fail() {
                assert!(opened.is_err(), "test {}", test.tc_id);
            } else {
                assert_eq!(opened.ok().unwrap().as_slice(), &test.pt[..], "test {}", test.tc_id);
                assert_eq!(envelope::encrypt(&key, &nonce, &test.pt, &test.aad), sealed);
                let payload = Payload { msg: &test.pt[..], aad: &[] };
                let without_aad = key.encrypt(&nonce.into(), payload).unwrap();
                assert!(test.aad.is_empty() || without_aad != sealed, "test {}", test.tc_id);
            }
            run += 1;
        }
    }
    assert_eq!((run, other_sizes), (66, 250));
}
