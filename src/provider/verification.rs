//! Verifications: what the checks at a carrier make of a provider's status.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The verdict of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its trunk was changed, and it was not verified since.
    Pending,
    /// The token works, and no check failed.
    Verified,
    /// The token works; a check beside it failed, or was never known to pass.
    Warning,
    /// The carrier refuses the token, or its account is not active.
    Failed,
}

impl Status {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It passed.
    Passed,
    /// It did not pass.
    Failed,
    /// It was not made, because one before it failed.
    Skipped,
    /// The carrier could not be asked.
    Unavailable,
}

/// One named check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub status: CheckStatus,
    /// What it means and what to do. Our words, never the carrier's.
    pub message: String,
    /// When it ended.
    pub time: Timestamp,
    /// How it ended when it was last made, if it was not made now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known: Option<CheckStatus>,
}

impl Check {
    /// A check that was made, or could not be.
    pub fn new(name: &str, status: CheckStatus, message: String, time: Timestamp) -> Self {
        Self { name: name.to_owned(), status, message, time, last_known: None }
    }

    /// How it ended when it was last made.
    fn known(&self) -> Option<CheckStatus> {
        match self.status {
            CheckStatus::Passed | CheckStatus::Failed => Some(self.status),
            CheckStatus::Skipped | CheckStatus::Unavailable => self.last_known,
        }
    }

    /// Whether it leaves a provider VERIFIED. Not to know is not to have failed.
    fn lets_pass(&self) -> bool {
        self.known() == Some(CheckStatus::Passed) && self.status != CheckStatus::Skipped
    }

    fn skipped(self, now: Timestamp) -> Self {
        Self {
            last_known: self.known(),
            status: CheckStatus::Skipped,
            message: "not checked, since the token or the account was refused".to_owned(),
            time: now,
            ..self
        }
    }
}

/// What a carrier tells of an account beside its verdict. None: not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Where calls to the trunk are sent.
    pub termination_uri: Option<String>,
    /// Whether the trunk lets calls be transferred.
    pub supports_call_transfer: Option<bool>,
    /// How many phone numbers there are, or at least are.
    pub phone_number_count: Option<u64>,
}

/// A carrier's definite no to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// This account and token do not belong together.
    RejectedToken,
    /// The token is accepted, but may not do what every token here must.
    NotPermitted,
    /// The account is suspended or closed.
    AccountInactive,
    /// There is no such account.
    AccountNotFound,
    /// The carrier answered for another account.
    SidMismatch,
}

/// What decides whether a token is taken.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The carrier's no, if it was one.
    pub refusal: Option<Refusal>,
    /// The same as checks, as they are stored and shown.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Whether the carrier takes the token. None: it does not say, as of an account that it does not serve.
    pub fn takes_token(&self) -> Option<bool> {
        match self.refusal {
            None | Some(Refusal::NotPermitted) => Some(true),
            Some(Refusal::RejectedToken) => Some(false),
            Some(Refusal::AccountInactive | Refusal::AccountNotFound | Refusal::SidMismatch) => {
                None
            }
        }
    }
}

impl Facts {
    /// Takes over what checks found. What could not be asked stays as it was known.
    fn take(&mut self, found: Self, checks: &[Check]) {
        let answered =
            |name| checks.iter().any(|it| it.name == name && it.status != CheckStatus::Unavailable);
        if answered(check_name::SIP_TRUNK) {
            self.termination_uri = found.termination_uri;
            self.supports_call_transfer = found.supports_call_transfer;
        }
        if answered(check_name::PHONE_NUMBERS) {
            self.phone_number_count = found.phone_number_count;
        }
    }
}

/// The names of checks, as they are stored and shown.
pub mod check_name {
    /// The carrier accepts the token.
    pub const CREDENTIALS: &str = "credentials";
    /// The account is open.
    pub const ACCOUNT_ACTIVE: &str = "account_active";
    /// The trunk exists and takes calls.
    pub const SIP_TRUNK: &str = "sip_trunk";
    /// The credential list is attached to the trunk.
    pub const CREDENTIAL_LIST: &str = "credential_list";
    /// The token before is refused.
    pub const OLD_TOKEN: &str = "old_token";
    /// How many phone numbers there are.
    pub const PHONE_NUMBERS: &str = "phone_numbers";
}

/// The checks that decide nothing: what else must be right for calls to work.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Each of them.
    pub checks: Vec<Check>,
    /// What they found.
    pub facts: Facts,
}

/// A verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The verdict.
    pub status: Status,
    /// When the carrier last answered.
    pub last_verify_time: Option<Timestamp>,
    /// Since when the status is what it is.
    #[serde(default)]
    pub status_change_time: Option<Timestamp>,
    /// The version of the token that was verified.
    #[serde(default)]
    pub token_version: u64,
    /// Whether all checks were looked at: not when the caller of a new token left before.
    #[serde(default)]
    pub surveyed: bool,
    /// The checks of which it consisted.
    pub checks: Vec<Check>,
    /// What the carrier told beside.
    #[serde(default)]
    pub facts: Facts,
}

impl Verification {
    /// Before any check has finished.
    pub fn pending() -> Self {
        Self {
            status: Status::Pending,
            last_verify_time: None,
            status_change_time: None,
            token_version: 0,
            surveyed: false,
            checks: Vec::new(),
            facts: Facts::default(),
        }
    }

    /// The verification that follows `previous` when the carrier said `verdict` at `now`.
    ///
    /// Without a survey, the other checks stay as they were; after a refusal none could be made.
    pub fn after(
        previous: &Self,
        token_version: u64,
        verdict: &Verdict,
        survey: Option<Survey>,
        now: Timestamp,
    ) -> Self {
        let mut checks = verdict.checks.clone();
        let mut facts = previous.facts.clone();
        let surveyed = survey.is_some() || verdict.refusal.is_some();
        if let Some(survey) = survey {
            facts.take(survey.facts, &survey.checks);
            checks.extend(survey.checks);
        } else {
            let decided = |check: &Check| verdict.checks.iter().any(|it| it.name == check.name);
            let others = previous.checks.iter().filter(|check| !decided(check)).cloned();
            if verdict.refusal.is_some() {
                checks.extend(others.map(|check| check.skipped(now)));
            } else {
                checks.extend(others.filter(|check| check.status != CheckStatus::Skipped));
            }
        }
        for check in &mut checks {
            let before = previous.checks.iter().find(|it| it.name == check.name);
            check.last_known = check.last_known.or_else(|| before.and_then(Check::known));
            if matches!(check.status, CheckStatus::Passed | CheckStatus::Failed) {
                check.last_known = None;
            }
        }
        let status = if verdict.refusal.is_some() {
            Status::Failed
        } else if checks.iter().all(Check::lets_pass) {
            Status::Verified
        } else {
            Status::Warning
        };
        let since = previous.status_change_time.filter(|_| status == previous.status);
        Self {
            status,
            last_verify_time: Some(now),
            status_change_time: since.or(Some(now)),
            token_version,
            surveyed,
            checks,
            facts,
        }
    }

    /// What changed since `previous`, for the audit log: `verified to failed: credentials`, or
    /// `warning: sip_trunk, phone_numbers` where only the failed checks did. Empty: nothing.
    pub fn change_since(&self, previous: &Self) -> String {
        let (before, after) = (previous.status.as_str(), self.status.as_str());
        let failed = self.failed_checks();
        if before != after {
            let separator = if failed.is_empty() { "" } else { ": " };
            return format!("{before} to {after}{separator}{}", failed.join(", "));
        }
        // What could not be looked at, now or then, is no news.
        let unknown = |name: &str| {
            let mut both = self.checks.iter().chain(&previous.checks);
            both.any(|it| it.name == name && it.status == CheckStatus::Unavailable)
        };
        let failed_before = previous.failed_checks();
        let known = |names: &[&str]| -> Vec<String> {
            names.iter().filter(|name| !unknown(name)).map(ToString::to_string).collect()
        };
        if known(&failed) == known(&failed_before) {
            return String::new();
        }
        format!("{after}: {}", failed.join(", "))
    }

    fn failed_checks(&self) -> Vec<&str> {
        let failed = self.checks.iter().filter(|check| check.status == CheckStatus::Failed);
        failed.map(|check| check.name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, status: CheckStatus) -> Check {
        let time = Timestamp::UNIX_EPOCH;
        Check::new(name, status, String::new(), time)
    }

    fn verdict(refused: bool) -> Verdict {
        let status = if refused { CheckStatus::Failed } else { CheckStatus::Passed };
        let refusal = refused.then_some(Refusal::RejectedToken);
        Verdict { refusal, checks: vec![check("credentials", status)] }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Each step surveys one further check, with this outcome.
    fn steps(steps: &[(bool, Option<CheckStatus>)]) -> Vec<(Status, i64)> {
        let mut last = Verification::pending();
        let mut told = Vec::new();
        for (second, (refused, outcome)) in (1..).zip(steps) {
            let survey = outcome.map(|status| Survey {
                checks: vec![check("sip_trunk", status)],
                ..Default::default()
            });
            last = Verification::after(&last, 1, &verdict(*refused), survey, at(second));
            told.push((last.status, last.status_change_time.unwrap().as_second()));
        }
        told
    }

    #[test]
    fn not_to_know_is_not_to_have_failed() {
        use CheckStatus::{Failed, Passed, Unavailable};
        let (verified, warning) = (Status::Verified, Status::Warning);
        assert_eq!(
            steps(&[
                (false, Some(Passed)),
                (false, Some(Unavailable)),
                (false, Some(Unavailable)),
                (false, Some(Failed)),
                (false, Some(Unavailable)),
                (false, Some(Passed)),
            ]),
            [
                (verified, 1),
                (verified, 1),
                (verified, 1),
                (warning, 4),
                (warning, 4),
                (verified, 6)
            ]
        );
        assert_eq!(steps(&[(false, Some(Unavailable))]), [(warning, 1)], "never known to be good");
    }

    #[test]
    fn a_new_token_keeps_what_was_found_beside_it_until_it_is_looked_at_again() {
        use CheckStatus::{Failed, Passed};
        assert_eq!(
            steps(&[(false, Some(Failed)), (false, None), (true, None), (false, None)]),
            [
                (Status::Warning, 1),
                (Status::Warning, 1),
                (Status::Failed, 3),
                (Status::Verified, 4)
            ]
        );
        assert_eq!(
            steps(&[(false, Some(Passed)), (true, None), (true, None)]),
            [(Status::Verified, 1), (Status::Failed, 2), (Status::Failed, 2)]
        );
    }

    /// A verification of two further checks that ended so.
    fn both(last: &Verification, trunk: CheckStatus, numbers: CheckStatus) -> Verification {
        let checks = vec![check("sip_trunk", trunk), check("phone_numbers", numbers)];
        let survey = Survey { checks, ..Default::default() };
        Verification::after(last, 1, &verdict(false), Some(survey), at(1))
    }

    #[test]
    fn what_a_check_last_found_counts_however_long_it_cannot_be_made() {
        use CheckStatus::{Failed, Passed, Unavailable};
        let good = both(&Verification::pending(), Passed, Passed);
        let dark = both(&both(&good, Unavailable, Failed), Unavailable, Unavailable);
        assert_eq!(dark.status, Status::Warning, "the numbers had failed");
        let back = both(&dark, Unavailable, Passed);
        assert_eq!(back.status, Status::Verified, "the trunk had passed");
        assert_eq!(both(&back, Failed, Passed).status, Status::Warning);
    }

    #[test]
    fn a_check_that_fails_is_news_even_while_another_cannot_be_made() {
        use CheckStatus::{Failed, Passed, Unavailable};
        let blind = both(&Verification::pending(), Passed, Unavailable);
        let failed = both(&blind, Failed, Unavailable);
        assert_eq!((blind.status, failed.status), (Status::Warning, Status::Warning));
        assert_eq!(failed.change_since(&blind), "warning: sip_trunk");
        assert_eq!(both(&failed, Failed, Unavailable).change_since(&failed), "");
        assert_eq!(both(&failed, Unavailable, Unavailable).change_since(&failed), "");
    }

    #[test]
    fn a_change_names_what_failed() {
        let before = Verification::after(&Verification::pending(), 1, &verdict(false), None, at(1));
        let after = Verification::after(&before, 1, &verdict(true), None, at(2));
        assert_eq!(after.change_since(&before), "verified to failed: credentials");
        assert_eq!(before.change_since(&after), "failed to verified");
        assert_eq!(before.change_since(&before), "");
    }
}
