//! JSON of strangers.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::Outage;
use crate::secret::SecretText;

/// Nothing that a carrier means to say is nested more than this.
pub(super) const DEEPEST: usize = 64;

/// What a carrier's answer says, if it has this form.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Outage> {
    if nested_deeper_than(body, DEEPEST) {
        return Err(Outage::Protocol);
    }
    serde_json::from_slice(body).map_err(|_| Outage::Protocol)
}

/// A field of an answer that is a secret.
pub(super) fn secret<'de, D: Deserializer<'de>>(field: D) -> Result<SecretText, D::Error> {
    String::deserialize(field).map(SecretText::new)
}

/// Whether arrays and objects lie in one another more than `most` deep. A parser that skips a field
/// does not count there, and nothing that a carrier means to say is deep.
pub(super) fn nested_deeper_than(json: &[u8], most: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > most {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!nested_deeper_than(nested(64).as_bytes(), 64));
        assert!(nested_deeper_than(nested(65).as_bytes(), 64));
        assert!(nested_deeper_than(br#"{"a": {"b": [0]}}"#, 2));
        assert!(!nested_deeper_than(br#"[{}, {}, [], "[[[ \"[[[ \\"]"#, 2));
        assert!(nested_deeper_than(br#"["\\", [[]]]"#, 2));
        assert!(!nested_deeper_than(b"]]][[", 2));
        assert!(!nested_deeper_than(b"", 0));
    }
}
