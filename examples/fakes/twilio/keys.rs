//! API keys, as they are made, listed and deleted.
//!
//! - `POST /v1/Keys` (iam)
//! - `GET /2010-04-01/Accounts/{AC}/Keys.json`, page after page, and `DELETE …/Keys/{SK}.json`
//!
//! By a token of the account, or by a Main key, of which there are those that [`add_main_key`] added: all that are
//! made here are Standard keys, which may do none of it. What they are told is not documented, and can be chosen.
//!
//! [`add_main_key`]: super::FakeTwilio::add_main_key

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::carrier::{Request, made_up};
use super::account::{Account, Credential, CredentialKind::Key};
use super::{Refused, Reply, Twilio, region_of};

impl Twilio {
    /// A request for what lies at `…/Keys` of an account that it opens.
    pub(super) fn keys(
        &mut self,
        request: &Request,
        account_sid: &str,
        rest: &[&str],
        now: Timestamp,
    ) -> Reply {
        let refused = self.keys_refused;
        let account = self.accounts.get_mut(account_sid).ok_or(404_u16)?;
        check(account, request, now, refused)?;
        match (request.method.as_str(), rest) {
            ("GET", ["Keys.json"]) => Ok((200, page(account, account_sid, request, now)?)),
            ("DELETE", ["Keys", key]) => {
                let key = key.strip_suffix(".json").ok_or(404_u16)?;
                if account.drop_key(key) { Ok((204, Value::Null)) } else { Err(404.into()) }
            }
            _ => Err(404.into()),
        }
    }

    pub(super) fn create_key(&mut self, request: &Request, now: Timestamp) -> Reply {
        let (number, refused) = (self.next_number(), self.keys_refused);
        let (sid, secret) = (format!("SK{}", made_up("key", number)), made_up("secret", number));
        let account_sid = request.form("AccountSid").ok_or(400_u16)?;
        let account = self.accounts.get_mut(&account_sid).ok_or(401_u16)?;
        check(account, request, now, refused)?;
        let region = region_of(request).ok_or(401_u16)?;
        let name = request.form("FriendlyName").unwrap_or_default();
        if name.chars().count() > 64 {
            return Err(400.into());
        }
        account.add(region, &sid, &secret, Key, now);
        account.name_key(&sid, &name);
        Ok((
            201,
            json!({
                "sid": sid, "friendly_name": name, "secret": secret, "policy": null,
                "date_created": rfc2822(now), "date_updated": rfc2822(now),
            }),
        ))
    }
}

fn check(
    account: &Account,
    request: &Request,
    now: Timestamp,
    refused: u16,
) -> Result<(), Refused> {
    match account.may_touch_keys(request, now) {
        Some(true) => Ok(()),
        Some(false) => Err(refused.into()),
        None => Err(401.into()),
    }
}

/// A page of keys. There is no total: the last page has no next one.
fn page(
    account: &Account,
    account_sid: &str,
    request: &Request,
    now: Timestamp,
) -> Result<Value, u16> {
    let size = request.number("PageSize", 50)?.clamp(1, 1000);
    let page = request.number("Page", 0)?;
    let start = page.checked_mul(size).ok_or(400_u16)?;
    let shown = |key: &Credential| {
        json!({
            "sid": key.user, "friendly_name": key.name,
            "date_created": rfc2822(now), "date_updated": rfc2822(now),
        })
    };
    let keys = account.keys().skip(start).take(size).map(shown).collect::<Vec<_>>();
    let path = format!("/2010-04-01/Accounts/{account_sid}/Keys.json?PageSize={size}");
    let more = account.keys().nth(start.saturating_add(size)).is_some();
    Ok(json!({
        "page": page, "page_size": size, "uri": format!("{path}&Page={page}"),
        "next_page_uri": more.then(|| format!("{path}&Page={}&PageToken=x", page + 1)),
        "keys": keys,
    }))
}

fn rfc2822(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
