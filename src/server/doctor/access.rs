//! Who may call: whether anybody can let others in, and which tokens end soon.

use jiff::{SignedDuration, Timestamp};

use super::store::broken;
use super::{Finding, some};
use crate::access::Owner;
use crate::account::Account;
use crate::store::Error;
use crate::store::inspection::Inspection;

/// A token that ends so soon needs a successor.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Who looked away when a token ended hears of it for so long.
const LATELY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Looks at accounts, their admins and tokens.
pub(super) fn examine(store: &dyn Inspection, now: Timestamp) -> Vec<Finding> {
    look(store, now).unwrap_or_else(|error| vec![broken("access", &error)])
}

fn look(store: &dyn Inspection, now: Timestamp) -> Result<Vec<Finding>, Error> {
    let accounts = store.accounts()?;
    let mut findings = vec![operators(store, now)?, admins(store, &accounts, now)?];
    let (mut good, mut soon, mut ended) = (0, Vec::new(), Vec::new());
    let owners = accounts.iter().cloned().map(Owner::Account);
    for owner in std::iter::once(Owner::Vault).chain(owners) {
        for token in store.tokens(&owner)? {
            let left = token.expire_time.duration_since(now);
            if token.revoke_time.is_some() {
                continue;
            }
            let day = token.expire_time.strftime("%Y-%m-%d");
            if left > SOON {
                good += 1;
            } else if left.is_positive() {
                soon.push(format!("{} on {day}", token.name));
            } else if left > -LATELY {
                ended.push(format!("{} on {day}", token.name));
            }
        }
    }
    if !soon.is_empty() {
        let says = format!("expires soon: {}", some(&soon));
        let mend = "make its successor: `credvault tokens create`";
        findings.push(Finding::warning("tokens", says, mend));
    }
    if !ended.is_empty() {
        let says = format!("expired: {}", some(&ended));
        let mend = "make a successor, or say that none is needed: `credvault tokens revoke ID`";
        findings.push(Finding::warning("tokens", says, mend));
    }
    if soon.is_empty() && ended.is_empty() {
        findings.push(Finding::good("tokens", format!("{good} good, none expires within a week")));
    }
    Ok(findings)
}

fn operators(store: &dyn Inspection, now: Timestamp) -> Result<Finding, Error> {
    if store.has_admin(&Owner::Vault, now)? {
        return Ok(Finding::good("operators", "there is one"));
    }
    Ok(Finding::warning(
        "operators",
        "nobody may operate this vault by a call: accounts cannot be made or disabled while it runs",
        "stop the vault and run `credvault tokens create --local --role operator`",
    ))
}

fn admins(store: &dyn Inspection, accounts: &[Account], now: Timestamp) -> Result<Finding, Error> {
    let mut without = Vec::new();
    for account in accounts.iter().filter(|account| !account.disabled) {
        if !store.has_admin(&Owner::Account(account.clone()), now)? {
            without.push(format!("accounts/{}", account.id));
        }
    }
    if accounts.is_empty() {
        return Ok(Finding::good("admins", "there is no account yet"));
    }
    if without.is_empty() {
        return Ok(Finding::good(
            "admins",
            format!("of {} accounts, each that is open has one", accounts.len()),
        ));
    }
    Ok(Finding::warning(
        "admins",
        format!("nobody may let others in: {}", some(&without)),
        "`credvault tokens create --account ACCOUNT --role account-admin`",
    ))
}
