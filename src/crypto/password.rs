//! Generated SIP passwords.
//!
//! - Base58 (no `0 O I l`): safe in SIP URIs, digest headers, shells and every configuration format.
//! - At least one lower-case letter, one upper-case letter and one digit: Twilio refuses others (error 21240).
//! - 24 characters: 140.6 bits, so a captured MD5 digest cannot be searched.
//! - No modulo bias: a byte of 232 or more is thrown away; a password without all three classes is
//!   thrown away whole, so the rest stays uniform.

use zeroize::Zeroizing;

use super::random;
use crate::secret::{Password, PasswordLength, SecretText};

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Generates a password.
pub fn generate(length: PasswordLength) -> Result<Password, random::Error> {
    loop {
        let mut password = draw(length.characters())?;
        let has = |class: fn(&u8) -> bool| password.as_bytes().iter().any(class);
        if has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit) {
            return Ok(Password::from_generated(SecretText::new(std::mem::take(&mut *password))));
        }
    }
}

/// `length` characters, each uniform over the alphabet.
fn draw(length: usize) -> Result<Zeroizing<String>, random::Error> {
    let mut password = Zeroizing::new(String::with_capacity(length));
    while password.len() < length {
        // One system call nearly always suffices: of 96 bytes, 87 are expected to be below 232.
        let random = Zeroizing::new(random::bytes::<96>()?);
        let fair = random.iter().filter(|byte| **byte < 232);
        let missing = length - password.len();
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(byte % 58)));
        password.extend(letters.take(missing).map(|letter| char::from(*letter)));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_passwords_keep_every_promise() {
        let mut seen = std::collections::HashSet::new();
        let mut counts = [0_u32; 256];
        for _ in 0..100_000 {
            let password = generate(PasswordLength::parse(0).unwrap()).unwrap();
            let text = password.as_text().expose();
            assert_eq!(text.len(), 24);
            assert!(text.bytes().all(|b| ALPHABET.contains(&b)));
            assert!(text.bytes().any(|b| b.is_ascii_lowercase()));
            assert!(text.bytes().any(|b| b.is_ascii_uppercase()));
            assert!(text.bytes().any(|b| b.is_ascii_digit()));
            text.bytes().for_each(|b| counts[usize::from(b)] += 1);
            assert!(seen.insert(text.to_owned()));
        }
        // 57 degrees of freedom over 2.4 million letters. The class constraint lifts digits by 1.6 %,
        // which a χ² over all letters would see, so each class is tested against its own mean.
        for class in [&ALPHABET[..9], &ALPHABET[9..33], &ALPHABET[33..]] {
            let observed: Vec<f64> =
                class.iter().map(|b| f64::from(counts[usize::from(*b)])).collect();
            let mean =
                observed.iter().sum::<f64>() / f64::from(u32::try_from(class.len()).unwrap());
            let chi2: f64 = observed.iter().map(|n| (n - mean).powi(2) / mean).sum();
            // p = 0.00001 at 24 degrees of freedom is 66; `% 58` without rejection gives thousands.
            assert!(chi2 < 70.0, "χ² = {chi2}");
        }
    }
}
