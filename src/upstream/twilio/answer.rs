//! What is read of Twilio's answers. Everything else in them is ignored, and nothing in them is echoed.

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Said;
use crate::provider::Refusal;
use crate::upstream::Outage;
use crate::upstream::json::nested_deeper_than;

/// Nothing that Twilio means to say is nested more than this.
const DEEPEST: usize = 64;

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

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Outage> {
    if nested_deeper_than(body, DEEPEST) {
        return Err(Outage::Protocol);
    }
    serde_json::from_slice(body).map_err(|_| Outage::Protocol)
}

/// A page of phone numbers, read only as far as it goes: a page cut off in the middle counts what it has.
#[derive(Debug, Default)]
pub(super) struct NumberPage {
    /// The trunk of each number.
    pub(super) trunks: Vec<Option<String>>,
    /// The accounts of the numbers, where they are said.
    accounts: Vec<String>,
    /// Path and query of the next page.
    pub(super) next: Option<String>,
    has_list: bool,
}

#[derive(Deserialize)]
struct Number {
    account_sid: Option<String>,
    trunk_sid: Option<String>,
}

impl NumberPage {
    /// A whole page.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Outage> {
        if nested_deeper_than(body, DEEPEST) {
            return Err(Outage::Protocol);
        }
        let mut page = Self::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        json.deserialize_map(Fields(&mut page))
            .and_then(|()| json.end())
            .map_err(|_| Outage::Protocol)?;
        if page.has_list { Ok(page) } else { Err(Outage::Protocol) }
    }

    /// The beginning of a page that is too long to be read to its end.
    pub(super) fn parse_beginning(body: &[u8]) -> Result<Self, Outage> {
        let mut page = Self::default();
        // The error that the cut makes says nothing; what came before it is in the page.
        serde_json::Deserializer::from_slice(body).deserialize_map(Fields(&mut page)).ok();
        if page.has_list { Ok(page) } else { Err(Outage::Protocol) }
    }

    pub(super) fn judge(&self, asked: &str) -> Said {
        let other = self.accounts.iter().any(|sid| sid != asked);
        if other { Said::No(Refusal::SidMismatch) } else { Said::Yes }
    }
}

/// Fills a page while it is parsed, so that an error loses nothing of what came before it.
struct Fields<'a>(&'a mut NumberPage);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of phone numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
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

struct Numbers<'a>(&'a mut NumberPage);

impl<'de> serde::de::DeserializeSeed<'de> for Numbers<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Numbers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("phone numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<(), A::Error> {
        while let Some(number) = numbers.next_element::<Number>()? {
            self.0.trunks.push(number.trunk_sid);
            self.0.accounts.extend(number.account_sid);
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
        let whole = NumberPage::parse(page.as_bytes()).unwrap();
        assert_eq!(whole.trunks, [Some("TK1".to_owned()), None]);
        assert_eq!(whole.next.as_deref(), Some("/x?Page=1"));
        assert_eq!(whole.judge("AC1"), Said::Yes);
        assert_eq!(whole.judge("AC2"), Said::No(Refusal::SidMismatch));

        for length in 0..page.len() {
            let (cut, _) = page.as_bytes().split_at(length);
            assert!(NumberPage::parse(cut).is_err());
            assert!(
                NumberPage::parse_beginning(cut).is_ok_and(|page| page.trunks.len() <= 2)
                    || length < 40
            );
        }
        let (cut, _) = page.as_bytes().split_at(page.find("PN2").unwrap());
        assert_eq!(NumberPage::parse_beginning(cut).unwrap().trunks.len(), 1);
        for nonsense in ["[]", "{}", "null", "{\"incoming_phone_numbers\":{}}"] {
            assert!(NumberPage::parse(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
        for nonsense in ["<html>", "{\"page\":0", ""] {
            assert!(NumberPage::parse_beginning(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
