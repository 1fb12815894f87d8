//! The thorough look: every secret is opened, every audit entry hashed again.

use super::store::broken;
use super::{Finding, Progress, some};
use crate::account::Account;
use crate::audit::{self, Chain, Link};
use crate::crypto::{Field, Place, Sealer};
use crate::store::inspection::{Inspection, SecretKind, StoredSecret};
use crate::store::{Error, Identity};

/// How many steps pass between two tellings of how far it is.
const STEPS: u64 = 500;

/// How far it is.
struct Steps<'a> {
    done: u64,
    of: u64,
    progress: Progress<'a>,
}

impl Steps<'_> {
    fn step(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(STEPS) || self.done == self.of {
            (self.progress)(self.done, self.of);
        }
    }
}

/// Opens every secret, and follows every audit chain.
pub(super) fn examine(
    store: &dyn Inspection,
    identity: &Identity,
    sealer: Option<&Sealer>,
    progress: Progress<'_>,
) -> Vec<Finding> {
    let (accounts, counts) = match (store.accounts(), store.counts()) {
        (Ok(accounts), Ok(counts)) => (accounts, counts),
        (Err(error), _) | (_, Err(error)) => return vec![broken("secrets", &error)],
    };
    let of = counts.entries + sealer.map_or(0, |_| counts.secrets);
    let mut steps = Steps { done: 0, of, progress };
    let secrets = match sealer {
        Some(sealer) => open_all(store, sealer, &accounts, &mut steps)
            .unwrap_or_else(|it| broken("secrets", &it)),
        None => Finding::not_checked("secrets", "not opened: there is no key that does", ""),
    };
    let chains =
        follow_all(store, &accounts, &mut steps).unwrap_or_else(|error| broken("audit", &error));
    let root = format!("vault {}", hex::encode(identity.uid.as_bytes()));
    vec![secrets, chains, Finding::good("identity", root)]
}

fn open_all(
    store: &dyn Inspection,
    sealer: &Sealer,
    accounts: &[Account],
    steps: &mut Steps<'_>,
) -> Result<Finding, Error> {
    let (mut opened, mut damaged) = (0_u64, Vec::new());
    for account in accounts {
        store.secrets(account, &mut |secret| {
            steps.step();
            match secret {
                Err(place) => damaged.push(place),
                Ok(secret) if !opens(sealer, account, &secret) => damaged.push(secret.name),
                Ok(_) => opened += 1,
            }
        })?;
    }
    if damaged.is_empty() {
        return Ok(Finding::good("secrets", format!("all {opened} open")));
    }
    Ok(Finding::bad(
        "secrets",
        format!(
            "{} of {} do not open: {}",
            damaged.len(),
            opened + count(&damaged),
            some(&damaged)
        ),
        "restore a backup, or rotate them; find out who wrote to the database",
    ))
}

fn opens(sealer: &Sealer, account: &Account, secret: &StoredSecret) -> bool {
    let field = match secret.kind {
        SecretKind::Password => Field::Password,
        SecretKind::Token => Field::Token,
    };
    let (resource, version) = (secret.resource, secret.version);
    let place = Place { account: account.uid, resource, field, version };
    sealer.open(&place, &secret.sealed).is_ok()
}

fn follow_all(
    store: &dyn Inspection,
    accounts: &[Account],
    steps: &mut Steps<'_>,
) -> Result<Finding, Error> {
    let names = accounts.iter().map(|account| format!("accounts/{}", account.id));
    let chains = accounts.iter().map(Chain::of_account).zip(names);
    let all: Vec<_> =
        std::iter::once((Chain::of_vault(), "vault".to_owned())).chain(chains).collect();
    let (mut entries, mut broken_at) = (0_u64, Vec::new());
    for (chain, name) in &all {
        let (followed, end) = follow(store, chain, steps)?;
        entries += followed;
        broken_at.extend(end.map(|sequence| format!("{name} at entry {sequence}")));
    }
    match store.stray_chains()? {
        0 => {}
        stray => broken_at.push(format!("{stray} chains of no account")),
    }
    if broken_at.is_empty() {
        let says = format!("{entries} entries in {} chains, none changed or missing", all.len());
        return Ok(Finding::good("audit", says));
    }
    Ok(Finding::bad(
        "audit",
        format!("entries are changed or missing: {}", some(&broken_at)),
        "compare with an export or a backup; find out who wrote to the database",
    ))
}

/// How many entries of a chain fit, and the sequence of the first that does not.
fn follow(
    store: &dyn Inspection,
    chain: &Chain,
    steps: &mut Steps<'_>,
) -> Result<(u64, Option<u64>), Error> {
    let mut last: Option<Link> = None;
    loop {
        let sequence = last.map_or(0, |last| last.sequence);
        let page = store.entries(chain.uid(), sequence)?;
        for linked in &page.items {
            steps.step();
            if audit::append(chain, last.as_ref(), &linked.entry) != linked.link {
                return Ok((sequence, Some(linked.link.sequence)));
            }
            last = Some(linked.link);
        }
        if !page.more {
            return Ok((last.map_or(0, |last| last.sequence), None));
        }
    }
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}
