//! What must be true after a kill: the audit log replayed over the journals of the clients.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use credvault::grpc::proto::{
    AuditEntry, GetCredentialRequest, GetProviderRequest, ListAuditEntriesRequest,
    VerificationStatus, VerifyProviderRequest, VerifySipDigestRequest,
};
use tonic::Code;

use super::rounds::{Ask, Change, id, reason_of, sid};
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::{Clients, md5_response};

pub(super) const REALM: &str = "sip.test";

/// A credential or provider as it must be.
#[derive(Debug, Clone, PartialEq)]
struct State {
    version: i64,
    /// Password or token. None: it was issued in an answer that never came.
    secret: Option<String>,
    description: String,
}

/// What must be there, by the audit log and the journals up to `sequence`.
#[derive(Default)]
pub(super) struct Oracle {
    states: BTreeMap<String, State>,
    /// Secrets that were replaced: they must be dead.
    dead: HashMap<String, String>,
    /// What changed since it was last checked.
    changed: BTreeSet<String>,
    /// Reasons of the changes that the last replay found done.
    done: BTreeSet<String>,
    sequence: i64,
    hash: Vec<u8>,
    /// Where the last page of the audit log began.
    page_token: String,
}

impl Change {
    /// What it makes of a state. None: nothing is there.
    fn applied_to(&self, before: Option<&State>) -> Option<State> {
        let issued = self.answer.as_ref().and_then(|answer| answer.issued.clone());
        let version = before.map_or(0, |before| before.version) + 1;
        let description = before.map(|before| before.description.clone()).unwrap_or_default();
        match &self.ask {
            Ask::Create(request) => Some(State {
                version,
                secret: request.password.clone().or(issued),
                description: request.credential.as_ref()?.description.clone()?,
            }),
            Ask::Rotate(_) => Some(State { version, secret: issued, description }),
            Ask::Update(request) => {
                let description = request.credential.as_ref()?.description.clone()?;
                match request.password.clone() {
                    Some(password) => Some(State { version, secret: Some(password), description }),
                    None => Some(State { description, ..before?.clone() }),
                }
            }
            Ask::Delete(_) => None,
            Ask::CreateProvider(request) => {
                Some(State { version, secret: Some(request.auth_token.clone()), description })
            }
            Ask::UpdateToken(request) => {
                Some(State { version, secret: Some(request.auth_token.clone()), description })
            }
        }
    }
}

/// A number of entries of a chain, each held to the one before.
#[derive(Default)]
struct Chain {
    sequence: i64,
    hash: Vec<u8>,
}

impl Chain {
    fn append(&mut self, entry: &AuditEntry) -> Result<(), String> {
        let first = self.sequence == 0 && entry.previous_hash == [0; 32];
        if entry.sequence != self.sequence + 1 || !(first || entry.previous_hash == self.hash) {
            return Err(format!(
                "audit entry {} does not follow {}",
                entry.sequence, self.sequence
            ));
        }
        self.sequence = entry.sequence;
        self.hash.clone_from(&entry.hash);
        Ok(())
    }
}

impl Oracle {
    pub(super) fn has(&self, name: &str) -> bool {
        self.states.contains_key(name)
    }

    /// Takes the audit entries that are new and applies them to what must be there. Each must be
    /// one of `changes`, and each of `changes` that was acknowledged must be among them.
    pub(super) async fn replay(
        &mut self,
        clients: &mut Clients,
        changes: &[Change],
    ) -> Result<(), String> {
        let asked: HashMap<_, _> =
            (0..).zip(changes).map(|(n, it)| (it.reason.as_str(), (n, it))).collect();
        self.done.clear();
        let mut last_of_client = HashMap::<usize, usize>::new();
        for entry in self.new_entries(clients).await? {
            let place = format!("audit entry {} ({})", entry.sequence, entry.reason);
            let before = self.states.get(&entry.resource).cloned();
            if entry.outcome != "OK" {
                return Err(format!("{place} is a refusal: {}", entry.outcome));
            }
            if entry.method == "VerifyProvider" {
                continue;
            }
            let (number, change) = *asked
                .get(entry.reason.as_str())
                .ok_or_else(|| format!("{place} is of a change that nobody asked for"))?;
            if !self.done.insert(change.reason.clone()) {
                return Err(format!("{place} is the second of its change"));
            }
            if (&entry.resource, entry.method.as_str()) != (&change.resource, change.ask.method()) {
                return Err(format!("{place} says something else than its change"));
            }
            // A client asks one thing after the other, so its entries keep that order.
            if last_of_client.insert(change.client, number).is_some_and(|last| last > number) {
                return Err(format!("{place} comes after a later change of the same client"));
            }
            let after = change.applied_to(before.as_ref());
            let version = |state: Option<&State>| state.map_or(0, |state| state.version);
            let versions = (entry.version_before, entry.version_after);
            if versions != (version(before.as_ref()), version(after.as_ref())) {
                return Err(format!("{place} has versions {versions:?} after {before:?}"));
            }
            if change.answer.as_ref().is_some_and(|it| it.version != version(after.as_ref())) {
                return Err(format!("{place} was acknowledged as {:?}", change.answer));
            }
            self.apply(&entry.resource, before, after);
        }
        for change in changes.iter().filter(|change| change.answer.is_some()) {
            if !self.was_done(change) {
                let what = change.ask.method();
                return Err(format!(
                    "LOST: {what} of {} was acknowledged ({})",
                    change.resource, change.reason
                ));
            }
        }
        let mut in_flight = BTreeSet::new();
        for change in changes.iter().filter(|change| change.answer.is_none()) {
            if !in_flight.insert(change.client) {
                return Err(format!("client {} has two changes in flight", change.client));
            }
        }
        Ok(())
    }

    fn apply(&mut self, name: &str, before: Option<State>, after: Option<State>) {
        let now = after.as_ref().and_then(|after| after.secret.clone());
        if let Some(old) = before.and_then(|before| before.secret)
            && now.as_ref() != Some(&old)
        {
            self.dead.insert(name.to_owned(), old);
        }
        self.changed.insert(name.to_owned());
        match after {
            Some(after) => self.states.insert(name.to_owned(), after),
            None => self.states.remove(name),
        };
    }

    /// Reads on where the last reading stopped; what was read before must still be there.
    async fn new_entries(&mut self, clients: &mut Clients) -> Result<Vec<AuditEntry>, String> {
        let (mut chain, mut new, mut seen) = (Chain::default(), Vec::new(), self.sequence == 0);
        let mut page_token = self.page_token.clone();
        for _ in 0..10_000 {
            let request = ListAuditEntriesRequest {
                parent: "accounts/dev".to_owned(),
                page_size: 200,
                page_token: page_token.clone(),
                filter: None,
            };
            let page = clients.audit.list_audit_entries(request).await;
            let page = page.map_err(|status| format!("list the audit log: {status}"))?.into_inner();
            for entry in page.entries {
                if chain.sequence == 0 && !page_token.is_empty() {
                    chain =
                        Chain { sequence: entry.sequence - 1, hash: entry.previous_hash.clone() };
                }
                chain.append(&entry)?;
                if entry.sequence == self.sequence {
                    seen = entry.hash == self.hash;
                } else if entry.sequence > self.sequence {
                    new.push(entry);
                }
            }
            if page.next_page_token.is_empty() {
                if !seen {
                    return Err(format!("audit entry {} is not what it was", self.sequence));
                }
                (self.sequence, self.hash) = (chain.sequence, chain.hash);
                self.page_token = page_token;
                return Ok(new);
            }
            page_token = page.next_page_token;
        }
        Err("the audit log has no end".to_owned())
    }

    /// Sends what was in flight once more. What had been done must not be done again; the rest is
    /// done now and returned as acknowledged.
    pub(super) async fn ask_again(
        &self,
        clients: &mut Clients,
        in_flight: &[Change],
    ) -> Result<Vec<Change>, String> {
        let mut done_now = Vec::<Change>::new();
        for change in in_flight {
            let was_done = self.was_done(change);
            let result = change.ask.send(clients).await;
            let place = format!("{} of {} asked again", change.ask.method(), change.resource);
            let issues = match &change.ask {
                Ask::Create(request) => request.password.is_none(),
                Ask::Rotate(_) => true,
                _ => false,
            };
            match result {
                Ok(answer) if !was_done => {
                    done_now.push(Change { answer: Some(answer), ..change.clone() });
                }
                Ok(answer) if !issues => {
                    // Others that were asked again before may have moved it.
                    let moved = done_now.iter().rev().find(|it| it.resource == change.resource);
                    let version = match moved.and_then(|it| it.answer.as_ref()) {
                        Some(answer) => answer.version,
                        None => self.states.get(&change.resource).map_or(0, |it| it.version),
                    };
                    if answer.version != version {
                        return Err(format!("{place} answers version {}", answer.version));
                    }
                }
                Err(status) if was_done && issues => {
                    if reason_of(&status) != "SECRET_ALREADY_ISSUED" {
                        return Err(format!("{place} answers {status}"));
                    }
                }
                Ok(_) => return Err(format!("{place} was issued a second secret")),
                Err(status) => return Err(format!("{place} answers {status}")),
            }
        }
        Ok(done_now)
    }

    fn was_done(&self, change: &Change) -> bool {
        self.done.contains(&change.reason)
    }

    /// Holds what changed against the service.
    pub(super) async fn check_changed(
        &mut self,
        clients: &mut Clients,
        twilio: &FakeTwilio,
    ) -> Result<(), String> {
        for name in std::mem::take(&mut self.changed) {
            let checked = self.check(&name, clients, twilio).await;
            checked.map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }

    /// Holds everything against the service, and reads the audit log from its start.
    pub(super) async fn check_everything(
        &mut self,
        clients: &mut Clients,
        twilio: &FakeTwilio,
    ) -> Result<(), String> {
        self.changed = self.states.keys().chain(self.dead.keys()).cloned().collect();
        self.check_changed(clients, twilio).await?;
        let end = (self.sequence, self.hash.clone());
        let mut whole = Self::default();
        let entries = whole.new_entries(clients).await?;
        let known = usize::try_from(end.0).unwrap();
        if entries.get(known - 1).map(|entry| &entry.hash) != Some(&end.1) {
            return Err("the audit log is not the one that grew".to_owned());
        }
        Ok(())
    }

    async fn check(
        &self,
        name: &str,
        clients: &mut Clients,
        twilio: &FakeTwilio,
    ) -> Result<(), String> {
        let expected = self.states.get(name);
        if name.contains("/providers/") {
            let expected = expected.ok_or("a provider vanished from the journals")?;
            return check_provider(name, expected, clients, twilio).await;
        }
        let request = GetCredentialRequest { name: name.to_owned() };
        let got = match clients.credentials.get_credential(request).await {
            Ok(response) => response.into_inner().credential,
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => return Err(format!("get it: {status}")),
        };
        let got = got.map(|it| (it.version, it.description.unwrap_or_default()));
        let wanted = expected.map(|it| (it.version, it.description.clone()));
        if got != wanted {
            return Err(format!("it is {got:?} and should be {wanted:?}"));
        }
        if let Some(State { secret: Some(secret), version, .. }) = expected
            && verified_version(name, secret, clients).await? != *version
        {
            return Err(format!("the password of version {version} does not verify"));
        }
        if let Some(dead) = self.dead.get(name)
            && verified_version(name, dead, clients).await? != 0
        {
            return Err("the replaced password still verifies".to_owned());
        }
        Ok(())
    }
}

/// The version that a password verifies as. 0: none.
async fn verified_version(
    name: &str,
    password: &str,
    clients: &mut Clients,
) -> Result<i64, String> {
    let response = md5_response(id(name), REALM, password, "n0nce");
    let request = VerifySipDigestRequest {
        parent: "accounts/dev".to_owned(),
        username: id(name).to_owned(),
        realm: REALM.to_owned(),
        method: "REGISTER".to_owned(),
        uri: format!("sip:{REALM}"),
        nonce: "n0nce".to_owned(),
        response,
        ..VerifySipDigestRequest::default()
    };
    let answer = clients.uses.verify_sip_digest(request).await;
    answer.map(|it| it.into_inner().version).map_err(|status| format!("verify: {status}"))
}

/// The carrier takes the expected token and no other, so a good verdict says which one is stored.
async fn check_provider(
    name: &str,
    expected: &State,
    clients: &mut Clients,
    twilio: &FakeTwilio,
) -> Result<(), String> {
    let request = GetProviderRequest { name: name.to_owned() };
    let got = clients.providers.get_provider(request).await;
    let got = got.map_err(|status| format!("get it: {status}"))?.into_inner().provider;
    let version = got.map_or(0, |provider| provider.token_version);
    if version != expected.version {
        return Err(format!("it has version {version} and should have {}", expected.version));
    }
    twilio.set_token(&sid(name), expected.secret.as_ref().ok_or("its token is not known")?);
    let request = VerifyProviderRequest { name: name.to_owned() };
    let verified = clients.providers.verify_provider(request).await;
    let verified = verified.map_err(|status| format!("verify: {status}"))?.into_inner();
    let status = verified.provider.and_then(|it| it.verification).map(|it| it.status());
    if status != Some(VerificationStatus::Verified) {
        return Err(format!("the stored token is not that of version {version}: {status:?}"));
    }
    Ok(())
}
