//! SIP credential lists, and the credentials in them.
//!
//! - `POST …/SIP/CredentialLists.json`
//! - `POST` and `GET …/CredentialLists/{CL}/Credentials.json`
//! - `POST`, `GET` and `DELETE …/Credentials/{CR}.json`
//!
//! A password is never shown. It has 12 characters at least, with a digit and letters of both cases, or is refused
//! with 21240.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::carrier::{Request, made_up};
use super::{Refused, Reply, Twilio};

/// A list of credentials.
#[derive(Debug)]
pub(super) struct CredentialList {
    pub(super) sid: String,
    pub(super) credentials: Vec<SipCredential>,
}

/// A username, which cannot be changed, and its one password.
#[derive(Debug)]
pub(super) struct SipCredential {
    pub(super) sid: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) update_time: Timestamp,
}

impl Twilio {
    /// A request for what lies below `…/SIP` of an account that it opens.
    pub(super) fn sip(
        &mut self,
        request: &Request,
        account_sid: &str,
        rest: &[&str],
        now: Timestamp,
    ) -> Reply {
        let number = self.next_number();
        let made = |kind: &str| format!("{kind}{}", made_up(kind, number));
        let account = self.accounts.get_mut(account_sid).ok_or(404_u16)?;
        let lists = &mut account.credential_lists;
        let method = request.method.as_str();
        if let ("POST", ["CredentialLists.json"]) = (method, rest) {
            let name = request.form("FriendlyName").filter(|name| name.len() <= 64);
            let name = name.ok_or(400_u16)?;
            let list = CredentialList { sid: made("CL"), credentials: Vec::new() };
            let body = json!({"sid": list.sid, "account_sid": account_sid, "friendly_name": name});
            lists.push(list);
            return Ok((201, body));
        }
        let ["CredentialLists", list_sid, rest @ ..] = rest else { return Err(404.into()) };
        let list = lists.iter_mut().find(|it| it.sid == *list_sid).ok_or(404_u16)?;
        let shown = |it: &SipCredential| it.resource(account_sid, list_sid);
        match (method, rest) {
            ("GET", ["Credentials.json"]) => {
                let credentials = list.credentials.iter().map(shown).collect::<Vec<_>>();
                Ok((200, json!({"credentials": credentials, "next_page_uri": null})))
            }
            ("POST", ["Credentials.json"]) => {
                let username = request.form("Username").filter(|it| (1..=32).contains(&it.len()));
                let username = username.ok_or(Refused { status: 400, code: Some(21_240) })?;
                if list.credentials.iter().any(|it| it.username == username) {
                    return Err(Refused { status: 400, code: Some(21_240) });
                }
                let (sid, password) = (made("CR"), password(request)?);
                let credential = SipCredential { sid, username, password, update_time: now };
                let body = shown(&credential);
                list.credentials.push(credential);
                Ok((201, body))
            }
            (_, ["Credentials", sid]) => {
                let sid = sid.strip_suffix(".json").ok_or(404_u16)?;
                let found = list.credentials.iter().position(|it| it.sid == sid);
                let found = found.ok_or(404_u16)?;
                if method == "DELETE" {
                    list.credentials.remove(found);
                    return Ok((204, Value::Null));
                }
                let credential = list.credentials.get_mut(found).ok_or(404_u16)?;
                if method == "POST" {
                    credential.password = password(request)?;
                    credential.update_time = now;
                }
                Ok((200, shown(credential)))
            }
            _ => Err(404.into()),
        }
    }
}

impl SipCredential {
    fn resource(&self, account_sid: &str, list_sid: &str) -> Value {
        let time = self.update_time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
        let list = format!("/2010-04-01/Accounts/{account_sid}/SIP/CredentialLists/{list_sid}");
        json!({
            "sid": self.sid, "account_sid": account_sid, "credential_list_sid": list_sid,
            "username": self.username, "date_created": time, "date_updated": time,
            "uri": format!("{list}/Credentials/{}.json", self.sid),
        })
    }
}

fn password(request: &Request) -> Result<String, Refused> {
    let good = |it: &String| {
        it.chars().count() >= 12
            && it.contains(|c: char| c.is_ascii_digit())
            && it.contains(|c: char| c.is_ascii_lowercase())
            && it.contains(|c: char| c.is_ascii_uppercase())
    };
    request.form("Password").filter(good).ok_or(Refused { status: 400, code: Some(21_240) })
}
