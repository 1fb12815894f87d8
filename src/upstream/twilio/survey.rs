//! What else must be right at Twilio for calls to work: the trunk, its credential list, the phone numbers.
//!
//! None of it decides whether a token is taken. Each check says what to do when it fails.

use tokio::time::{Instant, timeout_at};

use super::answer::{CredentialList, NumberPage, Trunk as TrunkAnswer};
use super::{Twilio, auth};
use crate::provider::twilio::{Trunk, TwilioAccount};
use crate::provider::{CheckStatus, Facts, Survey, Token, TokenKind, check_name};
use crate::upstream::Outage;
use crate::upstream::http::{Request, Use};

/// Phone numbers are counted over this many pages of a thousand at the most, and this many bytes.
const MAX_PAGES: usize = 20;
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// How a check ended, in words for an operator.
struct Outcome {
    status: CheckStatus,
    message: String,
}

fn passed(message: impl Into<String>) -> Outcome {
    Outcome { status: CheckStatus::Passed, message: message.into() }
}

fn failed(message: impl Into<String>) -> Outcome {
    Outcome { status: CheckStatus::Failed, message: message.into() }
}

impl Twilio {
    pub(super) async fn survey_of(
        &self,
        account: &TwilioAccount,
        token: &Token,
        deadline: Instant,
    ) -> Survey {
        let (mut trunk_facts, mut trunk_is_absent) = (Facts::default(), false);
        let (trunk, list, numbers) = tokio::join!(
            async {
                let trunk = account.trunk.as_ref()?;
                let check =
                    self.sip_trunk(account, token, trunk, &mut trunk_facts, &mut trunk_is_absent);
                Some(timeout_at(deadline, check).await.unwrap_or(Err(Outage::Timeout)))
            },
            async {
                let trunk = account.trunk.as_ref()?;
                let list = trunk.credential_list_sid.as_ref()?;
                let check = self.credential_list(account, token, trunk, list.as_str());
                Some(timeout_at(deadline, check).await.unwrap_or(Err(Outage::Timeout)))
            },
            self.phone_numbers(account, token, deadline),
        );
        let (numbers, phone_number_count) = numbers;
        // Without the trunk, what is said of its list and its numbers would only mislead.
        let of_the_trunk = |outcome| if trunk_is_absent { Ok(no_trunk()) } else { outcome };
        let outcomes = [
            (check_name::SIP_TRUNK, trunk),
            (check_name::CREDENTIAL_LIST, list.map(of_the_trunk)),
            (check_name::PHONE_NUMBERS, Some(of_the_trunk(numbers))),
        ];
        let made = outcomes.into_iter().filter_map(|(name, outcome)| Some((name, outcome?)));
        let checks = made.map(|(name, outcome)| {
            let Outcome { status, message } =
                outcome.unwrap_or_else(|outage| unavailable(name, outage));
            self.check(name, status, message)
        });
        let phone_number_count = phone_number_count.filter(|_| !trunk_is_absent);
        Survey { checks: checks.collect(), facts: Facts { phone_number_count, ..trunk_facts } }
    }

    async fn sip_trunk(
        &self,
        account: &TwilioAccount,
        token: &Token,
        trunk: &Trunk,
        facts: &mut Facts,
        is_absent: &mut bool,
    ) -> Result<Outcome, Outage> {
        let url = self.urls.trunking(account.region).join(&["v1", "Trunks", trunk.sid.as_str()]);
        let answer = self.http.send(Use::Inform, Request::get(url, auth(account, token))).await?;
        match answer.status.as_u16() {
            200 => {}
            401 => return Ok(not_yet()),
            403 => return Ok(not_allowed(token)),
            404 => {
                *is_absent = true;
                let region = account.region.as_str();
                return Ok(failed(format!(
                    "the account has no such trunk in {region}: set twilio.sip_trunk_sid to one that it has, or to none"
                )));
            }
            _ => return Err(Outage::Protocol),
        }
        let found = TrunkAnswer::parse(&answer.body, trunk.sid.as_str())?;
        if found.account_sid.is_some_and(|sid| sid != account.account_sid.as_str()) {
            return Ok(failed(
                "the trunk belongs to another account: set twilio.sip_trunk_sid to one of this account",
            ));
        }
        let transfer = match found.transfer_mode.as_deref() {
            Some("disable-all") | None => false,
            Some("enable-all" | "sip-only") => true,
            Some(_) => return Err(Outage::Protocol),
        };
        let domain = found.domain_name.unwrap_or_default();
        // The one text of theirs that is shown: it must be such a name, and not what was just sent.
        let echoes = domain.contains(token.secret.expose());
        if !domain.is_empty() && (!is_termination_domain(&domain) || echoes) {
            return Err(Outage::Protocol);
        }
        facts.supports_call_transfer = Some(transfer);
        if domain.is_empty() {
            return Ok(failed(
                "the trunk has no termination URI: set one in the Twilio Console under Termination",
            ));
        }
        facts.termination_uri = Some(format!("sip:{domain}"));
        if found.auth_type.unwrap_or_default().is_empty() {
            return Ok(failed(
                "the trunk accepts no calls from you: attach a credential list or an IP access control list to it in \
                 the Twilio Console under Termination",
            ));
        }
        let transfer = if transfer { "on" } else { "off" };
        Ok(passed(format!("calls go to sip:{domain}; call transfer is {transfer}")))
    }

    async fn credential_list(
        &self,
        account: &TwilioAccount,
        token: &Token,
        trunk: &Trunk,
        list: &str,
    ) -> Result<Outcome, Outage> {
        let path = ["v1", "Trunks", trunk.sid.as_str(), "CredentialLists", list];
        let url = self.urls.trunking(account.region).join(&path);
        let answer = self.http.send(Use::Inform, Request::get(url, auth(account, token))).await?;
        match answer.status.as_u16() {
            200 => CredentialList::confirm(&answer.body, list)
                .map(|()| passed("the credential list is attached to the trunk")),
            401 => Ok(not_yet()),
            403 => Ok(not_allowed(token)),
            404 => Ok(failed(
                "the trunk has no such credential list: attach it in the Twilio Console under Termination, or correct \
                 twilio.credential_list_sid",
            )),
            _ => Err(Outage::Protocol),
        }
    }

    /// How many there are is known even where the check could not be finished: "at least" so many.
    async fn phone_numbers(
        &self,
        account: &TwilioAccount,
        token: &Token,
        deadline: Instant,
    ) -> (Result<Outcome, Outage>, Option<u64>) {
        let wanted = account.trunk.as_ref().map(|trunk| trunk.sid.as_str());
        let mut seen = Seen::default();
        let read = self.read_numbers(account, token, wanted, &mut seen);
        let whole = match timeout_at(deadline, read).await.unwrap_or(Err(Outage::Timeout)) {
            Ok(Numbers::All) => true,
            Ok(Numbers::Some) => false,
            Ok(Numbers::NotYet) => return (Ok(not_yet()), None),
            Ok(Numbers::NotAllowed) => return (Ok(not_allowed(token)), None),
            Err(Outage::Timeout) if seen.pages > 0 => false,
            Err(outage) => return (Err(outage), None),
        };
        let count = seen.count;
        let number = match (count, whole) {
            (1, true) => "1 phone number".to_owned(),
            (_, true) => format!("{count} phone numbers"),
            (_, false) => format!("at least {count} phone numbers"),
        };
        let outcome = match (wanted, count, whole) {
            (Some(_), 0, true) => failed(
                "no phone number is assigned to the trunk, so no incoming call reaches it: assign one in the Twilio \
                 Console",
            ),
            (Some(_), 0, false) => {
                let message = format!(
                    "the account has too many phone numbers to read all of them; none of the first {} is assigned \
                     to the trunk",
                    seen.numbers
                );
                return (Ok(Outcome { status: CheckStatus::Unavailable, message }), None);
            }
            (Some(_), 1, true) => passed(format!("{number} is assigned to the trunk")),
            (Some(_), _, _) => passed(format!("{number} are assigned to the trunk")),
            (None, _, _) => passed(format!("the account has {number}")),
        };
        (Ok(outcome), Some(count))
    }

    async fn read_numbers(
        &self,
        account: &TwilioAccount,
        token: &Token,
        wanted: Option<&str>,
        seen: &mut Seen,
    ) -> Result<Numbers, Outage> {
        let sid = account.account_sid.as_str();
        let path = ["2010-04-01", "Accounts", sid, "IncomingPhoneNumbers.json"];
        let mut url = self.urls.api(account.region).join(&path);
        url.set_query(Some("PageSize=1000"));
        let mut bytes_left = MAX_BYTES;
        while seen.pages < MAX_PAGES && bytes_left > 0 {
            let auth = auth(account, token);
            let answer = self.http.get_up_to(url.clone(), auth, bytes_left).await?;
            match answer.status.as_u16() {
                200 => {}
                401 => return Ok(Numbers::NotYet),
                403 => return Ok(Numbers::NotAllowed),
                _ => return Err(Outage::Protocol),
            }
            let page = if answer.complete {
                NumberPage::parse(&answer.body, sid, wanted)?
            } else {
                NumberPage::parse_beginning(&answer.body, sid, wanted)?
            };
            seen.pages += 1;
            seen.numbers += page.numbers;
            seen.count += page.counted;
            if !answer.complete {
                return Ok(Numbers::Some);
            }
            let Some(next) = page.next else { return Ok(Numbers::All) };
            // Only the query is taken from the answer: the token goes to no other host or path.
            let (next_path, query) = next.split_once('?').ok_or(Outage::Protocol)?;
            if next_path != url.path() {
                return Err(Outage::Protocol);
            }
            url.set_query(Some(query));
            bytes_left = bytes_left.saturating_sub(answer.body.len());
        }
        Ok(Numbers::Some)
    }
}

/// What was seen of the phone numbers so far.
#[derive(Default)]
struct Seen {
    pages: usize,
    numbers: u64,
    /// Those that count.
    count: u64,
}

/// How reading the phone numbers ended.
enum Numbers {
    All,
    Some,
    NotYet,
    NotAllowed,
}

fn no_trunk() -> Outcome {
    let message = "not checked, since there is no such trunk".to_owned();
    Outcome { status: CheckStatus::Skipped, message }
}

fn unavailable(check: &str, outage: Outage) -> Outcome {
    tracing::warn!(check, ?outage, "ask Twilio what else works");
    let what_to_do = match outage {
        Outage::Tls | Outage::Redirect | Outage::BlockedAddress | Outage::Protocol => {
            "whoever runs the vault has to look at its log and its network"
        }
        _ => "verify again later",
    };
    let message = format!("Twilio could not be asked ({}): {what_to_do}", why(outage));
    Outcome { status: CheckStatus::Unavailable, message }
}

/// A new token may take a minute to work everywhere.
fn not_yet() -> Outcome {
    let message = "Twilio accepts the token, but not here yet: verify again in a minute".to_owned();
    Outcome { status: CheckStatus::Unavailable, message }
}

fn not_allowed(token: &Token) -> Outcome {
    failed(match token.kind {
        TokenKind::AuthToken => {
            "Twilio refused this read although it accepts the Auth Token: see in the Twilio Console what the account \
             may do"
        }
        TokenKind::ApiKey { .. } => {
            "Twilio does not let the API key read this: allow it that in the Twilio Console, or store the account's \
             Auth Token with UpdateToken"
        }
    })
}

/// An outage in a few words.
fn why(outage: Outage) -> &'static str {
    match outage {
        Outage::RateLimited(_) => "it asks us to slow down",
        Outage::ServerError => "it failed",
        Outage::Timeout => "it did not answer in time",
        Outage::Unreachable => "it cannot be reached",
        Outage::Tls => "its TLS is not acceptable",
        Outage::Redirect => "it redirects elsewhere",
        Outage::Protocol => "its answer makes no sense",
        Outage::BlockedAddress => "its name leads to an address that is not public",
        Outage::AtCapacity => "the vault has too many calls to it under way",
        Outage::CircuitOpen(_) => "it kept failing, so the vault pauses its calls",
    }
}

/// Whether a carrier's text is the domain of a trunk, and so may be shown.
fn is_termination_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253
        && text.ends_with(".twilio.com")
        && text.contains(".pstn.")
        && text.split('.').all(label)
}
