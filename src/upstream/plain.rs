//! What carriers have in common that publish neither the form of their tokens nor a read of an account's status:
//! a read that only the token opens decides.

use jiff::Timestamp;

use super::Misfit;
use crate::name::Invalid;
use crate::provider::{Check, CheckStatus, Refusal, Token, TokenKind, Verdict, check_name};

/// Whether a token is one that may be sent: these carriers have one kind, and say nothing of its form.
pub(super) fn check_format(token: &Token) -> Result<(), Misfit> {
    const KIND: Invalid = Invalid("is for Twilio only: send auth_token");
    const SECRET: Invalid = Invalid("must be 8 to 256 printable ASCII characters without spaces");
    if token.kind != TokenKind::AuthToken {
        return Err(Misfit::Kind(KIND));
    }
    let secret = token.secret.expose();
    let printable = secret.bytes().all(|b| b.is_ascii_graphic());
    if printable && (8..=256).contains(&secret.len()) {
        Ok(())
    } else {
        Err(Misfit::Secret(SECRET))
    }
}

/// What a carrier said of account and token, and what to tell an operator of it.
pub(super) enum Said {
    Yes(String),
    No(Refusal, &'static str),
}

/// The verdict of `carrier`, which said this at `now`.
pub(super) fn verdict(carrier: &str, said: Said, now: Timestamp) -> Verdict {
    use CheckStatus::{Failed, Passed, Skipped};
    let told = str::to_owned;
    let (refusal, credentials, active) = match said {
        Said::Yes(accepted) => {
            let serves = format!("{carrier} serves this account (it publishes no status of one)");
            (None, (Passed, accepted), (Passed, serves))
        }
        // Its answer does not say whether it looked at the token.
        Said::No(refusal @ Refusal::AccountInactive, why) => {
            let unknown = "not checked, since the account may not be read";
            (Some(refusal), (Skipped, told(unknown)), (Failed, told(why)))
        }
        Said::No(refusal, why) => {
            let unknown = "not checked, since the credentials failed";
            (Some(refusal), (Failed, told(why)), (Skipped, told(unknown)))
        }
    };
    let check = |name, (status, message)| Check::new(name, status, message, now);
    let checks = vec![
        check(check_name::CREDENTIALS, credentials),
        check(check_name::ACCOUNT_ACTIVE, active),
    ];
    Verdict { refusal, checks }
}

/// A SIP username as a carrier tells it. None: it cannot be one, or repeats what was just sent.
pub(super) fn username(text: String, token: &Token) -> Option<String> {
    let shaped = (1..=256).contains(&text.len()) && !text.contains(char::is_control);
    (shaped && !text.contains(token.secret.expose())).then_some(text)
}

/// So many of something, in words.
pub(super) fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretText;

    #[test]
    fn a_username_repeats_no_token() {
        let secret = SecretText::new("a-token-of-24-characters".to_owned());
        let token = Token { kind: TokenKind::AuthToken, secret };
        let longest = "x".repeat(256);
        for good in ["agent-prod-01", "ä b", &longest] {
            assert_eq!(username(good.to_owned(), &token).as_deref(), Some(good));
        }
        for bad in ["", "a\nb", "is a-token-of-24-characters", &"x".repeat(257)] {
            assert_eq!(username(bad.to_owned(), &token), None, "{bad:?}");
        }
    }
}
