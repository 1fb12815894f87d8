//! What is read of Twilio's answers. Everything else in them is ignored, and nothing in them is echoed.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Said;
use crate::provider::twilio::ApiKeySid;
use crate::provider::{Refusal, is_lower_hex};
use crate::secret::SecretText;
use crate::upstream::Outage;
use crate::upstream::json::{DEEPEST, nested_deeper_than, parse, secret};

/// The Account resource.
#[derive(Deserialize)]
pub(super) struct Account {
    /// An account without a SID is not the one that was asked for.
    sid: Option<String>,
    status: String,
}

impl Account {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Outage> {
        parse(body)
    }

    pub(super) fn judge(&self, asked: &str) -> Result<Said, Outage> {
        Ok(match self.status.as_str() {
            _ if self.sid.as_deref() != Some(asked) => Said::No(Refusal::SidMismatch),
            "active" => Said::Yes,
            "suspended" | "closed" => Said::YesButInactive,
            _ => return Err(Outage::Protocol),
        })
    }
}

/// An error body. The classic one, the newer one (`httpStatusCode`) and problem+json (RFC 9457) have `code` in
/// common; what is not JSON has none.
#[derive(Deserialize)]
pub(super) struct ErrorBody {
    code: Code,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Number(u32),
    Text(String),
}

impl ErrorBody {
    /// Twilio's own error code.
    pub(super) fn code(body: &[u8]) -> Option<u32> {
        match serde_json::from_slice::<Self>(body).ok()?.code {
            Code::Number(code) => Some(code),
            Code::Text(code) => code.parse().ok(),
        }
    }
}

/// The Trunk resource.
#[derive(Deserialize)]
pub(super) struct Trunk {
    sid: String,
    pub(super) account_sid: Option<String>,
    pub(super) domain_name: Option<String>,
    pub(super) transfer_mode: Option<String>,
    /// `IP_ACL`, `CREDENTIAL_LIST`, both with a comma, or empty.
    pub(super) auth_type: Option<String>,
}

impl Trunk {
    /// The trunk that was asked for.
    pub(super) fn parse(body: &[u8], asked: &str) -> Result<Self, Outage> {
        let trunk: Self = parse(body)?;
        if trunk.sid == asked { Ok(trunk) } else { Err(Outage::Protocol) }
    }
}

/// A credential list as it is attached to a trunk.
#[derive(Deserialize)]
pub(super) struct CredentialList {
    sid: String,
}

impl CredentialList {
    /// Whether the answer is of the list that was asked for: any other proves nothing.
    pub(super) fn confirm(body: &[u8], asked: &str) -> Result<(), Outage> {
        let list: Self = parse(body)?;
        if list.sid == asked { Ok(()) } else { Err(Outage::Protocol) }
    }
}

/// A SIP credential of a list.
#[derive(Deserialize)]
pub(super) struct SipCredential {
    sid: String,
    pub(super) username: String,
}

impl SipCredential {
    /// The credential that was asked for.
    pub(super) fn parse(body: &[u8], asked: &str) -> Result<Self, Outage> {
        let credential: Self = parse(body)?;
        if credential.sid == asked { Ok(credential) } else { Err(Outage::Protocol) }
    }
}

/// The secondary Auth Token, said once.
#[derive(Deserialize)]
pub(super) struct SecondaryToken {
    account_sid: String,
    #[serde(deserialize_with = "secret")]
    secondary_auth_token: SecretText,
}

impl SecondaryToken {
    /// The token, if it is this account's and can be one.
    pub(super) fn parse(body: &[u8], account: &str) -> Result<SecretText, Outage> {
        let Self { account_sid, secondary_auth_token } = parse(body)?;
        if account_sid == account && is_lower_hex(secondary_auth_token.expose(), 32) {
            Ok(secondary_auth_token)
        } else {
            Err(Outage::Protocol)
        }
    }
}

/// The answer to a promotion, with the token that is the primary one by now.
#[derive(Deserialize)]
pub(super) struct Promotion {
    account_sid: String,
    #[serde(deserialize_with = "secret")]
    auth_token: SecretText,
}

impl Promotion {
    /// Whether the answer is of this account, and this token was promoted.
    pub(super) fn confirm(body: &[u8], account: &str, token: &SecretText) -> Result<(), Outage> {
        let promotion: Self = parse(body)?;
        let is_it = promotion.auth_token.expose() == token.expose();
        if promotion.account_sid == account && is_it { Ok(()) } else { Err(Outage::Protocol) }
    }
}

/// A new API key, whose secret is said once.
#[derive(Deserialize)]
pub(super) struct NewKey {
    pub(super) sid: ApiKeySid,
    #[serde(deserialize_with = "secret")]
    pub(super) secret: SecretText,
}

impl NewKey {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Outage> {
        parse(body)
    }
}

/// A page of API keys.
#[derive(Deserialize)]
pub(super) struct KeyPage {
    pub(super) keys: Vec<Key>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) sid: String,
    pub(super) friendly_name: Option<String>,
}

impl KeyPage {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Outage> {
        parse(body)
    }

    /// The query of the next page. Only that is taken from the answer: the token goes to no other host or path.
    pub(super) fn next(&self, path: &str) -> Result<Option<&str>, Outage> {
        let Some(next) = &self.next_page_uri else { return Ok(None) };
        match next.split_once('?') {
            Some((next_path, query)) if next_path == path => Ok(Some(query)),
            _ => Err(Outage::Protocol),
        }
    }
}

/// A page of phone numbers, counted while it is read: a page cut off in the middle counts what it has.
#[derive(Debug)]
pub(super) struct NumberPage<'a> {
    account: &'a str,
    trunk: Option<&'a str>,
    /// How many there are.
    pub(super) numbers: u64,
    /// How many of them are assigned to the trunk; all, if none is given.
    pub(super) counted: u64,
    /// Path and query of the next page.
    pub(super) next: Option<String>,
    of_another_account: bool,
    has_list: bool,
}

#[derive(Deserialize)]
struct Number {
    account_sid: Option<String>,
    trunk_sid: Option<String>,
}

impl<'a> NumberPage<'a> {
    fn new(account: &'a str, trunk: Option<&'a str>) -> Self {
        let (numbers, counted, next) = (0, 0, None);
        Self { account, trunk, numbers, counted, next, of_another_account: false, has_list: false }
    }

    /// A whole page.
    pub(super) fn parse(
        body: &[u8],
        account: &'a str,
        trunk: Option<&'a str>,
    ) -> Result<Self, Outage> {
        if nested_deeper_than(body, DEEPEST) {
            return Err(Outage::Protocol);
        }
        let mut page = Self::new(account, trunk);
        let mut json = serde_json::Deserializer::from_slice(body);
        json.deserialize_map(Fields(&mut page))
            .and_then(|()| json.end())
            .map_err(|_| Outage::Protocol)?;
        if page.has_list { Ok(page) } else { Err(Outage::Protocol) }
    }

    /// The beginning of a page that is too long to be read to its end.
    pub(super) fn parse_beginning(
        body: &[u8],
        account: &'a str,
        trunk: Option<&'a str>,
    ) -> Result<Self, Outage> {
        let mut page = Self::new(account, trunk);
        // The error that the cut makes says nothing; what came before it is in the page.
        serde_json::Deserializer::from_slice(body).deserialize_map(Fields(&mut page)).ok();
        if page.has_list { Ok(page) } else { Err(Outage::Protocol) }
    }

    pub(super) fn judge(&self) -> Said {
        if self.of_another_account { Said::No(Refusal::SidMismatch) } else { Said::Yes }
    }
}

/// Fills a page while it is parsed, so that an error loses nothing of what came before it.
struct Fields<'a, 'b>(&'a mut NumberPage<'b>);

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of phone numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "incoming_phone_numbers" if self.0.has_list => {
                    return Err(serde::de::Error::duplicate_field("incoming_phone_numbers"));
                }
                "incoming_phone_numbers" => {
                    self.0.has_list = true;
                    map.next_value_seed(Numbers(self.0))?;
                }
                "next_page_uri" => self.0.next = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Numbers<'a, 'b>(&'a mut NumberPage<'b>);

impl<'de> serde::de::DeserializeSeed<'de> for Numbers<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Numbers<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("phone numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<(), A::Error> {
        while let Some(number) = numbers.next_element::<Number>()? {
            let page = &mut *self.0;
            page.numbers += 1;
            if page.trunk.is_none() || number.trunk_sid.as_deref() == page.trunk {
                page.counted += 1;
            }
            page.of_another_account |= number.account_sid.is_some_and(|sid| sid != page.account);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_shape_tells_its_code() {
        for (body, code) in [
            (
                r#"{"code":20003,"message":"Authenticate","more_info":"x","status":401}"#,
                Some(20_003),
            ),
            (
                r#"{"code":20003,"message":"x","httpStatusCode":401,"params":{"twilioErrorCodeUrl":"x"},"userError":true}"#,
                Some(20_003),
            ),
            (r#"{"type":"x","title":"Unauthorized","status":401,"code":20003}"#, Some(20_003)),
            (r#"{"code":"20005"}"#, Some(20_005)),
            (r#"{"code":null}"#, None),
            (r#"{"code":-1}"#, None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(ErrorBody::code(body.as_bytes()), code, "{body}");
        }
    }

    #[test]
    fn a_page_that_is_cut_off_counts_what_it_has() {
        let page = r#"{"page":0,"incoming_phone_numbers":[
            {"sid":"PN1","account_sid":"AC1","trunk_sid":"TK1","capabilities":{"voice":true}},
            {"sid":"PN2","account_sid":"AC1","trunk_sid":null}],"next_page_uri":"/x?Page=1"}"#;
        let parse = |body: &[u8], account, trunk| {
            NumberPage::parse(body, account, trunk)
                .map(|page| (page.numbers, page.counted, page.next.clone(), page.judge()))
        };
        let next = Some("/x?Page=1".to_owned());
        let body = page.as_bytes();
        assert_eq!(parse(body, "AC1", Some("TK1")), Ok((2, 1, next.clone(), Said::Yes)));
        let other = Said::No(Refusal::SidMismatch);
        assert_eq!(parse(body, "AC2", None), Ok((2, 2, next, other)));

        let beginning = |length: usize| {
            let (cut, _) = body.split_at(length);
            assert!(parse(cut, "AC1", None).is_err());
            NumberPage::parse_beginning(cut, "AC1", None).map(|page| page.numbers)
        };
        for length in 0..page.len() {
            assert!(beginning(length).is_ok_and(|numbers| numbers <= 2) || length < 40);
        }
        assert_eq!(beginning(page.find("PN2").unwrap()), Ok(1));
        let twice = r#"{"incoming_phone_numbers":[],"incoming_phone_numbers":[]}"#;
        assert!(parse(twice.as_bytes(), "AC1", None).is_err());
        for nonsense in ["[]", "{}", "null", "{\"incoming_phone_numbers\":{}}"] {
            assert!(parse(nonsense.as_bytes(), "AC1", None).is_err(), "{nonsense}");
        }
        for nonsense in ["<html>", "{\"page\":0", ""] {
            assert!(
                NumberPage::parse_beginning(nonsense.as_bytes(), "AC1", None).is_err(),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn only_this_accounts_token_of_the_right_form_is_one() {
        let digits = "0a".repeat(16);
        let says = |account: &str, token: &str| {
            let body = serde_json::json!({"account_sid": account, "secondary_auth_token": token});
            SecondaryToken::parse(body.to_string().as_bytes(), "AC1")
                .map(|token| token.expose().to_owned())
        };
        assert_eq!(says("AC1", &digits).as_ref(), Ok(&digits));
        assert_eq!(says("AC2", &digits), Err(Outage::Protocol));
        for bad in ["", &digits[1..], &digits.to_uppercase(), &format!("{digits}0")] {
            assert_eq!(says("AC1", bad), Err(Outage::Protocol), "{bad}");
        }
        for (body, good) in [
            (r#"{"account_sid":"AC1","auth_token":"x"}"#, true),
            (r#"{"account_sid":"AC2"}"#, false),
            (r#"{"account_sid":"AC1","auth_token":"y"}"#, false),
            (r#"{"account_sid":"AC1"}"#, false),
            (r#"{"auth_token":"x"}"#, false),
            ("", false),
        ] {
            let token = SecretText::new("x".to_owned());
            let confirmed = Promotion::confirm(body.as_bytes(), "AC1", &token);
            assert_eq!(confirmed.is_ok(), good, "{body}");
        }
    }

    #[test]
    fn a_page_of_keys_leads_to_no_other_path() {
        let next = |next: &str| {
            let body = format!(r#"{{"keys":[],"next_page_uri":{next}}}"#);
            let page = KeyPage::parse(body.as_bytes()).map_err(|_| Outage::Tls)?;
            page.next("/a/Keys.json").map(|query| query.map(str::to_owned))
        };
        assert_eq!(next("null"), Ok(None));
        assert_eq!(next(r#""/a/Keys.json?Page=1""#), Ok(Some("Page=1".to_owned())));
        for bad in [r#""/b/Keys.json?Page=1""#, r#""https://x/a/Keys.json?Page=1""#, r#""""#] {
            assert_eq!(next(bad), Err(Outage::Protocol), "{bad}");
        }
        let sid = format!("SK{}", "0".repeat(32));
        let key = format!(r#"{{"sid":"{sid}","secret":"s","friendly_name":null}}"#);
        assert!(NewKey::parse(key.as_bytes()).is_ok_and(|key| key.sid.as_str() == sid));
        for bad in [key.replace("SK", "AC"), key.replace("secret", "x"), key.replace('0', "../")] {
            assert!(NewKey::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
