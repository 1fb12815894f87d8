//! The vault's own SIP nonces: what one says, and how often it was used.
//!
//! A nonce is stored nowhere. It says itself when it was made, and a tag shows that the vault said so:
//!
//! ```text
//! base64url( form u8 | offer u8 | time u64 | order u64 | boot 8 | tag 16 )        integers big-endian
//! form  = 1, or 2 if it is bound to where the challenge went
//! offer = number of the algorithm | 0x40 if auth | 0x80 if auth-int
//! time  = when it was made, in milliseconds;   order = microseconds, but no two of a process are the same
//! tag   = HMAC-SHA256(nonce key, "credvault/v1/sip-nonce" | all before it | account 16 | realm [| 0 | network]), its
//!         first 16 bytes
//! ```
//!
//! What is remembered is which nonce counts were used: of nonces only that a right response came with, so that nobody
//! without a password fills the memory. It has a bound, and what falls out of it fails safe
//! (docs/adr/0040): everything that was made up to there and is not remembered is stale from then on.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};

use crate::crypto::Sealer;
use crate::defect::{Defect, planted};
use crate::digest::{Algorithm, Qop};
use crate::name::Uid;

/// How long a nonce is good. A phone that registers once a minute needs a new one for every fifth time.
pub(super) const LIFETIME: SignedDuration = SignedDuration::from_mins(5);

/// Parts of the memory, each behind a lock of its own.
const SHARDS: usize = 16;

/// Nonces that are remembered in each: 262,144 in all, in about 15 MB.
const EACH: usize = 16_384;

/// A nonce for whoever has it.
const FORM: u8 = 1;

/// A nonce for one network.
const BOUND_FORM: u8 = 2;

/// What a challenge offers, and its responses keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer(u8);

impl Offer {
    pub(super) fn new(algorithm: Algorithm, qop: &[Qop]) -> Self {
        let bits = qop.iter().fold(0, |bits, qop| bits | Self::bit(*qop));
        Self(algorithm.number() | bits)
    }

    /// Whether a response of this kind answers the challenge: nobody makes it weaker on the way.
    fn includes(self, algorithm: Algorithm, qop: Qop) -> bool {
        self.0 & 0x3f == algorithm.number() && self.0 & Self::bit(qop) != 0
    }

    fn bit(qop: Qop) -> u8 {
        match qop {
            Qop::Auth => 0x40,
            Qop::AuthInt => 0x80,
        }
    }
}

/// A nonce of the vault's own, for the account and realm that it was shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnNonce {
    /// Whether it is bound to a network.
    bound: bool,
    offer: Offer,
    /// Milliseconds since 1970.
    time: u64,
    order: u64,
    boot: [u8; 8],
}

impl OwnNonce {
    /// What it says, as bytes.
    fn says(self) -> [u8; 26] {
        let mut says = [0; 26];
        let form = if self.bound { BOUND_FORM } else { FORM };
        let parts = [form, self.offer.0].into_iter();
        let parts = parts.chain(self.time.to_be_bytes()).chain(self.order.to_be_bytes());
        says.iter_mut().zip(parts.chain(self.boot)).for_each(|(slot, byte)| *slot = byte);
        says
    }

    fn read(text: &str, sealer: &Sealer, place: Place<'_>) -> Option<Self> {
        let bytes: [u8; 42] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (says, tag) = bytes.split_first_chunk::<26>()?;
        let ([form, offer], rest) = says.split_first_chunk::<2>()?;
        let bound = *form == BOUND_FORM;
        let network = if bound { Some(place.network?) } else { None };
        if !sealer.is_sip_nonce_tag(&covered(says, Place { network, ..place }), tag.first_chunk()?)
        {
            return None;
        }
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (order, boot) = rest.split_first_chunk::<8>()?;
        let (time, order) = (u64::from_be_bytes(*time), u64::from_be_bytes(*order));
        Some(Self { bound, offer: Offer(*offer), time, order, boot: boot.try_into().ok()? })
    }
}

/// Where a nonce is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) account: Uid,
    pub(super) realm: &'a str,
    /// Where the request came from, if the edge says so. A nonce that was made for one network is good from there only, and
    /// one that was made for none from everywhere.
    pub(super) network: Option<&'a str>,
}

/// What the tag covers: all of fixed length but what comes last. There is no byte 0 in a realm.
fn covered(says: &[u8; 26], place: Place<'_>) -> Vec<u8> {
    let (separator, network) = place.network.map_or(("", ""), |network| ("\0", network));
    let last = [place.realm, separator, network].map(str::as_bytes);
    [&b"credvault/v1/sip-nonce"[..], says, place.account.as_bytes(), &last.concat()].concat()
}

/// What became of the use of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It was good, and this count is used from now on.
    Fresh,
    /// It is too old, or of another process, or forgotten.
    Stale,
    /// The count was used before, or nobody knows any more whether it was.
    Replayed,
}

/// Makes nonces, and knows which counts of them were used.
#[derive(Debug)]
pub(super) struct SipNonces {
    /// Of this process: the next one knows nothing of what was used, so what this one made is stale there. None: there
    /// were no random bytes, and there are no nonces.
    boot: Option<[u8; 8]>,
    /// The order of the newest one.
    newest: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
    /// Nobody can choose nonces of one shard.
    hasher: RandomState,
}

impl SipNonces {
    pub(super) fn new(boot: Option<[u8; 8]>) -> Self {
        let (newest, hasher) = (AtomicU64::new(0), RandomState::new());
        Self { boot, newest, shards: Default::default(), hasher }
    }

    /// A new nonce as text. None: there were no random bytes at the start.
    pub(super) fn make(
        &self,
        sealer: &Sealer,
        place: Place<'_>,
        offer: Offer,
        now: Timestamp,
    ) -> Option<String> {
        let boot = self.boot?;
        let time = millis(now);
        // Goes up whatever the clock does, and says no more than the time: not how many there were.
        let micros = u64::try_from(now.as_microsecond()).unwrap_or_default();
        let next = |newest: u64| micros.max(newest.saturating_add(1));
        let before = self
            .newest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |newest| Some(next(newest)));
        let order = next(before.unwrap_or_else(|newest| newest));
        let says = OwnNonce { bound: place.network.is_some(), offer, time, order, boot }.says();
        let tag = sealer.sip_nonce_tag(&covered(&says, place));
        Some(URL_SAFE_NO_PAD.encode([&says[..], &tag].concat()))
    }

    /// A nonce that the vault made for this place, algorithm and qop; None: it did not.
    pub(super) fn read(
        text: &str,
        sealer: &Sealer,
        place: Place<'_>,
        (algorithm, qop): (Algorithm, Qop),
    ) -> Option<OwnNonce> {
        OwnNonce::read(text, sealer, place).filter(|nonce| nonce.offer.includes(algorithm, qop))
    }

    /// Uses a nonce, with this count, for a response that was right. Of copies that come at once, one is good.
    pub(super) fn take(&self, nonce: OwnNonce, count: u32, now: Timestamp) -> Use {
        let now = millis(now);
        // What is from the future was made before the clock was set back, and would live too long.
        if self.boot != Some(nonce.boot) || nonce.time > now || expiry(nonce.time) <= now {
            return Use::Stale;
        }
        let shard = usize::try_from(self.hasher.hash_one(nonce.order)).unwrap_or_default() % SHARDS;
        let Some(shard) = self.shards.get(shard) else { return Use::Stale };
        shard.lock().unwrap_or_else(PoisonError::into_inner).take(nonce, count, now, EACH)
    }
}

/// The nonces that were used, in the order in which they were made.
#[derive(Debug, Default)]
struct Shard {
    used: BTreeMap<u64, Counts>,
    /// Up to here, what is not in `used` may have been, and is stale.
    forgotten: u64,
}

impl Shard {
    fn take(&mut self, nonce: OwnNonce, count: u32, now: u64, most: usize) -> Use {
        while let Some(oldest) = self.used.first_entry().filter(|it| it.get().expiry <= now) {
            self.forgotten = self.forgotten.max(*oldest.key());
            oldest.remove();
        }
        if let Some(counts) = self.used.get_mut(&nonce.order) {
            let good = counts.take(count) || planted(Defect::ReplayNonce);
            return if good { Use::Fresh } else { Use::Replayed };
        }
        if nonce.order <= self.forgotten {
            return Use::Stale;
        }
        let Some(counts) = Counts::beginning(count, expiry(nonce.time)) else {
            return Use::Replayed;
        };
        self.used.insert(nonce.order, counts);
        if self.used.len() > most
            && let Some((oldest, _)) = self.used.pop_first()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        Use::Fresh
    }
}

/// Which counts of a nonce were used: the highest, and of the 64 below it each one. Requests overtake each other on
/// their way; what is further behind is refused, since nobody knows.
#[derive(Debug)]
struct Counts {
    expiry: u64,
    highest: u32,
    /// Bit n: `highest - 1 - n` was used.
    below: u64,
}

impl Counts {
    /// None: counts begin with 1 (RFC 7616 §3.4).
    fn beginning(count: u32, expiry: u64) -> Option<Self> {
        (count > 0).then_some(Self { expiry, highest: count, below: 0 })
    }

    /// Whether a count was not used before; it is from now on.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let ahead = count - self.highest;
            let highest = 1_u64.checked_shl(ahead - 1).unwrap_or_default();
            self.below = self.below.checked_shl(ahead).unwrap_or_default() | highest;
            self.highest = count;
            return true;
        }
        let behind = (self.highest - count).checked_sub(1);
        let Some(bit) = behind.and_then(|behind| 1_u64.checked_shl(behind)) else { return false };
        let unused = count > 0 && self.below & bit == 0;
        if unused {
            self.below |= bit;
        }
        unused
    }
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or_default()
}

/// When a nonce of this time is stale.
fn expiry(time: u64) -> u64 {
    let lifetime = u64::try_from(LIFETIME.as_millis()).unwrap_or_default();
    time.saturating_add(lifetime)
}

#[cfg(test)]
mod tests;
