//! That a nonce is good in its place, in its time and once, whatever is forgotten in between.

use proptest::prelude::*;

use super::*;
use crate::crypto::{Kek, Keyring};

const ACCOUNT: Uid = Uid::from_bytes([1; 16]);
const REALM: &str = "sip.test";
const HERE: Place<'_> = Place { account: ACCOUNT, realm: REALM, network: None };
const KIND: (Algorithm, Qop) = (Algorithm::MD5, Qop::Auth);

fn sealer() -> Sealer {
    let keyring = || Keyring::new(vec![Kek::new(1, &[7; 32])]).unwrap();
    let vault = Uid::from_bytes([9; 16]);
    let root = Sealer::create_root(&keyring(), vault).unwrap();
    Sealer::open_vault(keyring(), vault, &root).unwrap()
}

fn now() -> Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

fn nonces() -> SipNonces {
    SipNonces::new(Some([3; 8]))
}

fn offer() -> Offer {
    Offer::new(KIND.0, &[KIND.1])
}

/// A nonce of this time.
fn made(nonces: &SipNonces, sealer: &Sealer, now: Timestamp) -> OwnNonce {
    let text = nonces.make(sealer, HERE, offer(), now).unwrap();
    SipNonces::read(&text, sealer, HERE, KIND).unwrap()
}

#[test]
fn a_nonce_is_read_in_its_place_and_for_its_kind_alone() {
    let (nonces, sealer) = (nonces(), sealer());
    let both = Offer::new(Algorithm::MD5, &[Qop::AuthInt, Qop::Auth]);
    let text = nonces.make(&sealer, HERE, both, now()).unwrap();
    assert_eq!(text.len(), 56);
    let read = |account, realm, kind| {
        SipNonces::read(&text, &sealer, Place { account, realm, network: None }, kind)
    };
    assert!(read(ACCOUNT, REALM, KIND).is_some());
    assert!(read(ACCOUNT, REALM, (Algorithm::MD5, Qop::AuthInt)).is_some());
    assert!(read(Uid::from_bytes([2; 16]), REALM, KIND).is_none());
    assert!(read(ACCOUNT, "sip.tes", KIND).is_none() && read(ACCOUNT, "", KIND).is_none());
    for (algorithm, name) in Algorithm::ALL {
        let found = read(ACCOUNT, REALM, (algorithm, Qop::Auth));
        assert_eq!(found.is_some(), name == "MD5", "{name}");
    }
    let text = nonces.make(&sealer, HERE, offer(), now()).unwrap();
    let kind = (Algorithm::MD5, Qop::AuthInt);
    assert!(SipNonces::read(&text, &sealer, HERE, kind).is_none());
    assert!(SipNonces::read(&text, &self::sealer(), HERE, KIND).is_none());
}

#[test]
fn a_nonce_that_was_made_for_a_network_is_read_from_there_alone() {
    let (nonces, sealer) = (nonces(), sealer());
    let from = |network| Place { network, ..HERE };
    for made_for in [None, Some("192.0.2.1"), Some("2001:db8::")] {
        let text = nonces.make(&sealer, from(made_for), offer(), now()).unwrap();
        assert_eq!(text.len(), 56);
        for network in [None, Some("192.0.2.1"), Some("192.0.2.10"), Some("2001:db8::")] {
            let found = SipNonces::read(&text, &sealer, from(network), KIND).is_some();
            let good = made_for.is_none() || made_for == network;
            assert_eq!(found, good, "{made_for:?} {network:?}");
        }
    }
}

#[test]
fn no_nonce_is_read_of_which_a_bit_was_changed_or_a_character_is_missing() {
    let (nonces, sealer) = (nonces(), sealer());
    let there = Place { network: Some("192.0.2.1"), ..HERE };
    let text = nonces.make(&sealer, there, offer(), now()).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let forged = URL_SAFE_NO_PAD.encode(forged);
        for place in [HERE, there] {
            assert!(SipNonces::read(&forged, &sealer, place, KIND).is_none(), "bit {bit}");
        }
    }
    for length in 0..text.len() {
        let cut = &text[..length];
        assert!(SipNonces::read(cut, &sealer, HERE, KIND).is_none(), "{cut}");
    }
    for longer in
        [format!("{text}="), format!("{text}A"), format!(" {text}"), format!("{text}AAAA")]
    {
        assert!(SipNonces::read(&longer, &sealer, HERE, KIND).is_none(), "{longer}");
    }
}

#[test]
fn a_nonce_is_good_for_its_time_and_not_before_it_was_made() {
    let (nonces, sealer) = (nonces(), sealer());
    let nonce = made(&nonces, &sealer, now());
    let after = |millis| now() + SignedDuration::from_millis(millis);
    assert_eq!(nonces.take(nonce, 1, after(-1)), Use::Stale, "the clock was set back");
    assert_eq!(nonces.take(nonce, 1, after(0)), Use::Fresh);
    assert_eq!(nonces.take(nonce, 2, after(299_999)), Use::Fresh);
    assert_eq!(nonces.take(nonce, 3, after(300_000)), Use::Stale);
    // What was used is forgotten by now; the clock goes back once more, and it is still not new.
    let other = made(&nonces, &sealer, after(300_001));
    for count in 1..100 {
        assert_eq!(nonces.take(other, count, after(300_001)), Use::Fresh);
    }
    assert_ne!(nonces.take(nonce, 1, after(1000)), Use::Fresh);
    assert_ne!(nonces.take(nonce, 2, after(1000)), Use::Fresh);
}

#[test]
fn the_clock_may_go_back_and_new_nonces_are_good_all_the_same() {
    let (nonces, sealer) = (nonces(), sealer());
    let mut time = now();
    for _ in 0..50 {
        let nonce = made(&nonces, &sealer, time);
        assert_eq!(nonces.take(nonce, 1, time), Use::Fresh);
        time -= SignedDuration::from_mins(7);
    }
}

#[test]
fn a_nonce_of_another_process_is_stale() {
    let sealer = sealer();
    let before = made(&nonces(), &sealer, now());
    let after = SipNonces::new(Some([4; 8]));
    assert_eq!(after.take(before, 1, now()), Use::Stale);
    let without = SipNonces::new(None);
    assert_eq!(without.take(before, 1, now()), Use::Stale);
    assert_eq!(without.make(&sealer, HERE, offer(), now()), None);
}

#[test]
fn no_two_nonces_are_the_same() {
    let (nonces, sealer) = (nonces(), sealer());
    let orders: std::collections::BTreeSet<_> =
        (0..10_000).map(|_| made(&nonces, &sealer, now()).order).collect();
    assert_eq!(orders.len(), 10_000);
}

#[test]
fn what_is_forgotten_is_stale_and_never_new() {
    let (nonces, sealer) = (nonces(), sealer());
    let mut shard = Shard::default();
    let all: Vec<_> = (0..100).map(|_| made(&nonces, &sealer, now())).collect();
    let at = millis(now());
    // One was never used before all others were.
    for nonce in &all[1..] {
        assert_eq!(shard.take(*nonce, 1, at, 10), Use::Fresh);
        assert!(shard.used.len() <= 10);
    }
    for nonce in &all[..90] {
        assert_eq!(shard.take(*nonce, 1, at, 10), Use::Stale, "forgotten, or older than that");
        assert_eq!(shard.take(*nonce, 2, at, 10), Use::Stale);
    }
    for nonce in &all[90..] {
        assert_eq!(shard.take(*nonce, 1, at, 10), Use::Replayed, "it is remembered");
        assert_eq!(shard.take(*nonce, 2, at, 10), Use::Fresh);
    }
}

#[test]
fn a_flood_does_not_fill_the_memory() {
    let (nonces, sealer) = (nonces(), sealer());
    let mut first = Vec::new();
    for number in 0..SHARDS * EACH + 60_000 {
        let nonce = made(&nonces, &sealer, now());
        if number < 100 {
            first.push(nonce);
        }
        assert_eq!(nonces.take(nonce, 1, now()), Use::Fresh);
    }
    let used: usize = nonces.shards.iter().map(|it| it.lock().unwrap().used.len()).sum();
    assert!(used <= SHARDS * EACH && used > SHARDS * EACH / 2, "{used}");
    for nonce in first {
        assert_eq!(nonces.take(nonce, 1, now()), Use::Stale);
    }
}

#[test]
fn of_copies_at_once_one_is_good() {
    let (nonces, sealer) = (nonces(), sealer());
    for _ in 0..200 {
        let nonce = made(&nonces, &sealer, now());
        let good = std::thread::scope(|scope| {
            let copies: Vec<_> =
                (0..4).map(|_| scope.spawn(|| nonces.take(nonce, 1, now()))).collect();
            copies
                .into_iter()
                .filter_map(|it| it.join().ok())
                .filter(|it| *it == Use::Fresh)
                .count()
        });
        assert_eq!(good, 1);
    }
}

proptest! {
    /// A count is good at most once, whatever comes in which order; and those that go up are all good.
    #[test]
    fn a_count_is_good_once(counts in proptest::collection::vec(prop_oneof![0..200_u32, any::<u32>()], 1..400)) {
        let mut seen = std::collections::BTreeSet::new();
        let mut known: Option<Counts> = None;
        for count in counts {
            let highest = seen.last().copied().unwrap_or(0);
            let good = if let Some(known) = &mut known {
                known.take(count)
            } else {
                known = Counts::beginning(count, 0);
                known.is_some()
            };
            let expected = count > 0 && !seen.contains(&count) && u64::from(count) + 64 >= u64::from(highest);
            prop_assert_eq!(good, expected, "{} after {}", count, highest);
            if good {
                seen.insert(count);
            }
        }
    }
}
