//! Finds secrets in bytes, however they are written there.

use std::collections::{HashMap, HashSet};
use std::fmt;

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};

/// Shorter patterns than this would be found by chance.
const SHORTEST: usize = 8;

/// How a secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Hex,
    Base64,
    Percent,
    Utf16,
    DebugBytes,
    DebugText,
}

/// A secret that was found.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) place: String,
    pub(super) what: String,
    pub(super) encoding: Encoding,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {:?} in {}", self.what, self.encoding, self.place)
    }
}

/// Patterns to look for.
#[derive(Default)]
pub(super) struct Scanner {
    patterns: Vec<(String, Encoding, Vec<u8>)>,
    known: HashSet<Vec<u8>>,
    /// Patterns by their first bytes.
    by_start: HashMap<[u8; 4], Vec<usize>>,
}

impl Scanner {
    /// Looks for `secret` in every encoding from now on.
    pub(super) fn add(&mut self, what: &str, secret: &[u8]) {
        assert!(secret.len() >= SHORTEST, "{what} is too short to look for");
        for (encoding, pattern) in encodings(secret) {
            if self.known.insert(pattern.clone()) {
                let start = *pattern.first_chunk().unwrap();
                self.by_start.entry(start).or_default().push(self.patterns.len());
                self.patterns.push((what.to_owned(), encoding, pattern));
            }
        }
    }

    /// Everything that is found in `bytes`.
    pub(super) fn scan(&self, place: &str, bytes: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        for (at, start) in bytes.windows(4).enumerate() {
            for number in self.by_start.get(start).into_iter().flatten() {
                let (what, encoding, pattern) = &self.patterns[*number];
                if bytes[at..].starts_with(pattern) {
                    let (place, what) = (place.to_owned(), what.clone());
                    hits.push(Hit { place, what, encoding: *encoding });
                }
            }
        }
        hits
    }
}

fn encodings(secret: &[u8]) -> Vec<(Encoding, Vec<u8>)> {
    let mut found = vec![
        (Encoding::Raw, secret.to_vec()),
        (Encoding::Hex, hex::encode(secret).into_bytes()),
        (Encoding::Hex, hex::encode_upper(secret).into_bytes()),
    ];
    for before in 0..3 {
        // What stands before the secret shifts its digits, and those at its ends are not its alone.
        let shifted = [vec![0; before], secret.to_vec()].concat();
        let own = (before * 8).div_ceil(6)..shifted.len() * 8 / 6;
        for text in
            [BASE64_STANDARD_NO_PAD.encode(&shifted), BASE64_URL_SAFE_NO_PAD.encode(&shifted)]
        {
            found.push((Encoding::Base64, text.as_bytes()[own.clone()].to_vec()));
        }
    }
    for plain in [|_: u8| false, |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)]
    {
        for digits in [hex::encode_upper::<[u8; 1]>, hex::encode] {
            let percent = |byte: &u8| match Some(char::from(*byte)).filter(|_| plain(*byte)) {
                Some(letter) => letter.to_string(),
                None => format!("%{}", digits([*byte])),
            };
            let text: String = secret.iter().map(percent).collect();
            found.push((Encoding::Percent, text.into_bytes()));
        }
    }
    found.push((Encoding::Utf16, secret.iter().flat_map(|byte| [*byte, 0]).collect()));
    let bytes = format!("{secret:?}");
    found.push((Encoding::DebugBytes, bytes.as_bytes()[1..bytes.len() - 1].to_vec()));
    if let Ok(text) = std::str::from_utf8(secret) {
        let text = format!("{text:?}");
        found.push((Encoding::DebugText, text.as_bytes()[1..text.len() - 1].to_vec()));
    }
    found
}

#[test]
fn the_scanner_finds_a_secret_in_every_encoding() {
    let secret = "Kq7!vX+/2&mZ\"t~9_=Wp";
    let mut scanner = Scanner::default();
    scanner.add("a secret", secret.as_bytes());
    let utf16: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let noise = "some text before ".to_owned();
    for (encoding, written) in [
        (Encoding::Raw, secret.as_bytes().to_vec()),
        (Encoding::Hex, hex::encode(secret).into_bytes()),
        (Encoding::Hex, hex::encode(secret).to_uppercase().into_bytes()),
        (Encoding::Base64, BASE64_STANDARD_NO_PAD.encode(secret).into_bytes()),
        (Encoding::Base64, BASE64_STANDARD_NO_PAD.encode(format!("a{secret}b")).into_bytes()),
        (Encoding::Base64, BASE64_STANDARD_NO_PAD.encode(format!("ab{secret}cd")).into_bytes()),
        (Encoding::Base64, BASE64_URL_SAFE_NO_PAD.encode(format!("abc{secret}d")).into_bytes()),
        (Encoding::Base64, BASE64_URL_SAFE_NO_PAD.encode(format!("abcd{secret}")).into_bytes()),
        (Encoding::Percent, b"Kq7%21vX%2B%2F2%26mZ%22t~9_%3DWp".to_vec()),
        (Encoding::Percent, b"Kq7%21vX%2b%2f2%26mZ%22t~9_%3dWp".to_vec()),
        (Encoding::Utf16, utf16),
        (Encoding::DebugBytes, format!("{:?}", secret.as_bytes()).into_bytes()),
        (Encoding::DebugText, serde_json::to_vec(&format!("x{secret}y")).unwrap()),
    ] {
        let text = [noise.as_bytes(), &written, b" and after"].concat();
        let hits = scanner.scan("a buffer", &text);
        assert!(hits.iter().any(|hit| hit.encoding == encoding), "{encoding:?}: {hits:?}");
    }
    assert!(scanner.scan("a buffer", noise.as_bytes()).is_empty());
    let most = &secret.as_bytes()[..secret.len() - 1];
    assert!(scanner.scan("a buffer", most).is_empty(), "a part is no hit");
}
