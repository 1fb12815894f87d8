//! Phone numbers, page after page.

use serde_json::{Value, json};

use super::super::carrier::Request;

/// The phone numbers of an account.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The trunk of each, if it is on one.
    trunks: Vec<Option<String>>,
    /// How many bytes longer each is.
    pub(super) padding: usize,
}

impl Numbers {
    pub(super) fn add(&mut self, count: usize, trunk_sid: Option<&str>) {
        self.trunks.extend((0..count).map(|_| trunk_sid.map(str::to_owned)));
    }

    /// A page of the phone numbers. There is no total: the last page has no next one.
    pub(super) fn page(&self, sid: &str, request: &Request) -> Result<Value, u16> {
        let size = request.number("PageSize", 50)?.clamp(1, 1000);
        let page = request.number("Page", 0)?;
        let path = format!("/2010-04-01/Accounts/{sid}/IncomingPhoneNumbers.json?PageSize={size}");
        // A page is found by its token, which has the last number before it. The index is for show.
        let token = |page: usize| format!("PA{}", number_sid((page * size).saturating_sub(1)));
        let uri = |page: usize| match page {
            0 => format!("{path}&Page=0"),
            _ => format!("{path}&Page={page}&PageToken={}", token(page)),
        };
        let start = page.checked_mul(size).ok_or(400_u16)?;
        if page > 0 && request.query("PageToken") != Some(&token(page)) {
            return Err(400);
        }
        let rows = self.trunks.iter().enumerate().skip(start).take(size);
        let rows = rows.map(|(i, trunk_sid)| self.number(sid, i, trunk_sid.as_deref()));
        let rows = rows.collect::<Vec<_>>();
        let end = start + rows.len();
        Ok(json!({
            "page": page, "page_size": size, "start": start, "end": end.saturating_sub(1),
            "uri": uri(page), "first_page_uri": uri(0),
            "previous_page_uri": page.checked_sub(1).map(uri),
            "next_page_uri": (end < self.trunks.len()).then(|| uri(page + 1)),
            "incoming_phone_numbers": rows,
        }))
    }

    fn number(&self, account_sid: &str, i: usize, trunk_sid: Option<&str>) -> Value {
        let sid = number_sid(i);
        let path = format!("/2010-04-01/Accounts/{account_sid}/IncomingPhoneNumbers");
        json!({
            "sid": sid, "account_sid": account_sid, "trunk_sid": trunk_sid,
            "phone_number": format!("+1415{i:07}"), "friendly_name": format!("Number {i}"),
            "origin": "twilio", "beta": false, "status": "in-use", "api_version": "2010-04-01",
            "capabilities": {"voice": true, "sms": false, "mms": false, "fax": false},
            "address_requirements": "none", "address_sid": null,
            "bundle_sid": null, "identity_sid": null,
            "emergency_status": "Inactive", "emergency_address_status": "unregistered",
            "emergency_address_sid": null,
            "sms_application_sid": null, "sms_method": "POST", "sms_url": null,
            "sms_fallback_method": "POST", "sms_fallback_url": null,
            "status_callback": null, "status_callback_method": "POST",
            "voice_application_sid": null, "voice_caller_id_lookup": false,
            "voice_receive_mode": "voice", "voice_method": "POST",
            "voice_url": format!("https://example.com/{}", "x".repeat(self.padding)),
            "voice_fallback_method": "POST", "voice_fallback_url": null,
            "date_created": "Thu, 30 Jul 2015 23:19:04 +0000",
            "date_updated": "Thu, 30 Jul 2015 23:19:04 +0000",
            "uri": format!("{path}/{sid}.json"),
        })
    }
}

fn number_sid(i: usize) -> String {
    format!("PN{i:032x}")
}
