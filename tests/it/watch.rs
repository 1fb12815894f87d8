//! Watches: what there is, then each change; cut off and gone on with; for as long as their callers may.

#![expect(clippy::disallowed_types, reason = "passes the status of a refusal on")]

mod cuts;
mod rights;
mod slow;

use std::collections::BTreeMap;
use std::time::Duration;

use credvault::access::Role;
use credvault::grpc::proto::watch_credentials_response::Change;
use credvault::grpc::proto::{
    CreateCredentialRequest, Credential, ListCredentialsRequest, RotateCredentialRequest,
    WatchCredentialsRequest, WatchCredentialsResponse,
};
use futures_util::{StreamExt as _, stream};
use jiff::SignedDuration;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::credentials::{create, delete, rotate, update};
use crate::rotations::{confirm, proof, whole};
use crate::support::{Clients, TestVault, channel, outcome};

const ACME: &str = "accounts/acme";

/// Far beyond what anything takes here.
const LONG: Duration = Duration::from_secs(30);

const BAD_TOKEN: &str = "InvalidArgument INVALID_FIELD resume_token";

/// A watch, with what its caller knows by it.
struct Watch {
    answers: Streaming<WatchCredentialsResponse>,
    known: BTreeMap<String, Credential>,
    /// Of the last answer.
    token: String,
    caught_up: bool,
}

impl Watch {
    async fn begin(clients: &Clients) -> Self {
        Self::resume(clients, ACME, "", BTreeMap::new()).await.unwrap()
    }

    /// Goes on with what is known already.
    async fn resume(
        clients: &Clients,
        parent: &str,
        token: &str,
        known: BTreeMap<String, Credential>,
    ) -> Result<Self, Status> {
        let (parent, token) = (parent.to_owned(), token.to_owned());
        let request = WatchCredentialsRequest { parent, resume_token: token.clone() };
        let answers = clients.credentials.clone().watch_credentials(request).await?.into_inner();
        Ok(Self { answers, known, token, caught_up: false })
    }

    /// The next answer, or how it ended.
    async fn next(&mut self) -> Result<Option<Change>, Status> {
        let answer = tokio::time::timeout(LONG, self.answers.message()).await;
        let answer = answer.expect("nothing was told").map(|answer| answer.expect("no status"))?;
        assert!(!answer.resume_token.is_empty());
        self.token = answer.resume_token;
        match &answer.change {
            Some(Change::Credential(credential)) => {
                let credential = Credential::clone(credential);
                self.known.insert(credential.name.clone(), credential);
            }
            Some(Change::Deleted(name)) => drop(self.known.remove(name)),
            Some(Change::CaughtUp(told)) => {
                assert!(*told && !self.caught_up, "once");
                self.caught_up = true;
            }
            None => {}
        }
        Ok(answer.change)
    }

    async fn until_caught_up(&mut self) {
        while !self.caught_up {
            self.next().await.unwrap();
        }
    }

    /// The next change, which must be of one credential as it is now.
    async fn changed(&mut self) -> Credential {
        match self.next().await.unwrap() {
            Some(Change::Credential(credential)) => *credential,
            other => panic!("{other:?}"),
        }
    }
}

/// All that there is.
async fn listed(clients: &Clients) -> BTreeMap<String, Credential> {
    let (mut all, mut token) = (BTreeMap::new(), String::new());
    loop {
        let request = ListCredentialsRequest {
            parent: ACME.to_owned(),
            page_size: 200,
            page_token: token,
            ..Default::default()
        };
        let page = clients.credentials.clone().list_credentials(request).await.unwrap();
        let page = page.into_inner();
        all.extend(page.credentials.into_iter().map(|it| (it.name.clone(), it)));
        token = page.next_page_token;
        if token.is_empty() {
            return all;
        }
    }
}

/// The names of which the two say something else.
fn differing<'a>(
    known: &'a BTreeMap<String, Credential>,
    all: &'a BTreeMap<String, Credential>,
) -> Vec<&'a str> {
    let names = known.keys().chain(all.keys()).filter(|name| known.get(*name) != all.get(*name));
    names.map(String::as_str).collect()
}

fn named(id: &str) -> CreateCredentialRequest {
    CreateCredentialRequest { credential_id: id.to_owned(), ..create(id) }
}

/// A connection that takes 64 KiB before it has read any of it.
fn small_window(vault: &TestVault) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", vault.address)).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    endpoint.initial_connection_window_size(65_535).connect_lazy()
}

/// Far more than lies between the vault and a client with [`small_window`] that does not read.
async fn fill(acme: &Clients) -> Vec<String> {
    let new = |number: usize| async move {
        let mut request = named(&format!("desk-{number:03}"));
        request.credential.as_mut().unwrap().description = Some("x".repeat(1000));
        acme.create(request).await.unwrap().0.name
    };
    // As many at once as a connection takes.
    stream::iter((0..500).map(new)).buffered(32).collect().await
}

#[tokio::test]
async fn first_what_there_is_then_each_change_as_it_comes() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let (alice, _) = acme.create(named("alice")).await.unwrap();
    let (bob, _) = acme.create(named("bob")).await.unwrap();
    let mut watch = Watch::begin(&acme).await;
    let first = [watch.changed().await, watch.changed().await];
    assert_eq!(first, [alice.clone(), bob.clone()], "in the order of names");
    assert_eq!(watch.next().await.unwrap(), Some(Change::CaughtUp(true)));

    // What is not of this account is not told.
    let other = vault.clients("other", &[Role::AccountAdmin]).await;
    let elsewhere = CreateCredentialRequest { parent: "accounts/other".to_owned(), ..named("eve") };
    other.create(elsewhere).await.unwrap();

    let (carol, _) = acme.create(named("carol")).await.unwrap();
    assert_eq!(watch.changed().await, carol);
    let disabled = Credential { enabled: Some(false), ..Default::default() };
    let bob = acme.update(update(&bob.name, disabled, &["enabled"])).await.unwrap();
    assert_eq!(watch.changed().await, bob);
    let (alice, _) = acme.rotate(rotate(&alice.name)).await.unwrap();
    assert_eq!(watch.changed().await, alice);
    acme.delete(delete(&bob.name)).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Some(Change::Deleted(bob.name.clone())));
    // Its name is free again.
    let (again, _) = acme.create(named("bob")).await.unwrap();
    assert_eq!(watch.changed().await, again);

    // A change that another RPC makes of a credential, and one that the vault makes by itself.
    let request = RotateCredentialRequest { require_confirmation: true, ..rotate(&alice.name) };
    let held = whole(&acme, request).await.unwrap();
    assert_eq!(watch.changed().await.version, 2, "the new one waits");
    let (rotation, issued) = (held.rotation.unwrap().name, held.issued.unwrap());
    confirm(&acme, &rotation, proof(&issued.password, &rotation)).await.unwrap();
    assert_eq!(watch.changed().await.version, 3);
    let overlapping = crate::rotations::overlapping(&alice.name, SignedDuration::from_mins(1));
    whole(&acme, overlapping).await.unwrap();
    let before = watch.changed().await;
    vault.clock.advance(SignedDuration::from_secs(90));
    while watch.next().await.unwrap().is_none() {}
    assert_eq!(watch.known[&alice.name], before, "an ended overlap shows nowhere else");
    assert_eq!(watch.known, listed(&acme).await);
}

#[tokio::test]
async fn many_changes_of_one_credential_come_as_one_to_who_comes_later() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    for id in ["alice", "bob", "carol"] {
        acme.create(named(id)).await.unwrap();
    }
    let mut watch = Watch::begin(&acme).await;
    watch.until_caught_up().await;
    let (token, known) = (watch.token, watch.known);
    drop(watch.answers);
    for _ in 0..40 {
        acme.rotate(rotate("accounts/acme/credentials/bob")).await.unwrap();
    }
    let mut watch = Watch::resume(&acme, ACME, &token, known).await.unwrap();
    assert_eq!(watch.changed().await.version, 41);
    assert_eq!(watch.next().await.unwrap(), Some(Change::CaughtUp(true)));
    assert_eq!(watch.known, listed(&acme).await);
    // From the end of all, there is nothing to be told but that.
    let mut rest = Watch::resume(&acme, ACME, &watch.token, BTreeMap::new()).await.unwrap();
    assert_eq!(rest.next().await.unwrap(), Some(Change::CaughtUp(true)));
}

#[tokio::test]
async fn an_empty_account_is_caught_up_at_once_and_a_quiet_watch_says_that_it_is_there() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let mut watch = Watch::begin(&acme).await;
    assert_eq!(watch.next().await.unwrap(), Some(Change::CaughtUp(true)));
    for _ in 0..3 {
        vault.clock.advance(SignedDuration::from_secs(29));
        vault.clock.advance(SignedDuration::from_secs(1));
        assert_eq!(watch.next().await.unwrap(), None);
    }
    let (alice, _) = acme.create(named("alice")).await.unwrap();
    assert_eq!(watch.changed().await, alice);
}

#[tokio::test]
async fn a_token_is_of_one_account_and_of_one_history() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let other = vault.clients("other", &[Role::AccountAdmin]).await;
    acme.create(named("alice")).await.unwrap();
    let mut watch = Watch::begin(&acme).await;
    watch.until_caught_up().await;
    let token = watch.token.clone();
    let resumed = async |clients: &Clients, parent: &str, token: &str| {
        outcome(&Watch::resume(clients, parent, token, BTreeMap::new()).await)
    };
    assert_eq!(resumed(&acme, ACME, &token).await, "OK");
    assert_eq!(resumed(&other, "accounts/other", &token).await, BAD_TOKEN);
    let list =
        ListCredentialsRequest { parent: ACME.to_owned(), page_size: 1, ..Default::default() };
    acme.create(named("bob")).await.unwrap();
    let list = acme.credentials.clone().list_credentials(list).await.unwrap().into_inner();
    let mut turned = token.clone().into_bytes();
    turned[20] = if turned[20] == b'A' { b'B' } else { b'A' };
    let turned = String::from_utf8(turned).unwrap();
    for nonsense in ["x", &list.next_page_token, &turned, &token[1..]] {
        assert_eq!(resumed(&acme, ACME, nonsense).await, BAD_TOKEN, "{nonsense}");
    }
    drop(watch);

    // A backup, and what happened after it was made.
    let backup = tempfile::tempdir().unwrap();
    let backup = backup.path().join("backup.db");
    let vault =
        vault.restart_after(|database| assert!(std::fs::copy(database, &backup).is_ok())).await;
    let acme = vault.acme().await;
    acme.create(named("carol")).await.unwrap();
    let mut watch = Watch::begin(&acme).await;
    watch.until_caught_up().await;
    let late = watch.token.clone();
    drop(watch);
    let vault =
        vault.restart_after(|database| assert!(std::fs::copy(&backup, database).is_ok())).await;
    let acme = vault.acme().await;
    assert_eq!(resumed(&acme, ACME, &token).await, "OK", "from before the backup");
    assert_eq!(resumed(&acme, ACME, &late).await, BAD_TOKEN, "the end of the chain is before it");
    for number in 0..10 {
        acme.create(named(&format!("dave-{number}"))).await.unwrap();
    }
    assert_eq!(resumed(&acme, ACME, &late).await, BAD_TOKEN, "the chain has gone on otherwise");
}

#[tokio::test]
async fn a_connection_has_eight_watches_and_what_is_over_makes_room() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::Reader]).await;
    let clients = Clients::new(&channel(vault.address), &token);
    let begin = async || Watch::resume(&clients, ACME, "", BTreeMap::new()).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(begin().await.unwrap());
    }
    assert_eq!(outcome(&begin().await), "ResourceExhausted RATE_LIMITED retry 1s");
    let elsewhere = Clients::new(&channel(vault.address), &token);
    held.push(Watch::begin(&elsewhere).await);
    for watch in &mut held {
        watch.until_caught_up().await;
    }
    held.remove(0);
    let began = std::time::Instant::now();
    while begin().await.is_err() {
        assert!(began.elapsed() < LONG, "no room");
    }
}

#[tokio::test]
async fn a_callers_own_deadline_ends_it() {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    let message = WatchCredentialsRequest { parent: ACME.to_owned(), ..Default::default() };
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(300));
    let mut answers =
        acme.credentials.clone().watch_credentials(request).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!(first.change, Some(Change::CaughtUp(true)));
    assert_eq!(outcome(&answers.message().await), "DeadlineExceeded DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn the_end_of_the_vault_ends_it_with_a_status_and_a_new_one_goes_on() {
    let mut vault = TestVault::start().await;
    // Where it is found again.
    vault.options.listen = Some(vault.address.to_string());
    let token = vault.token("acme", &[Role::AccountAdmin]).await;
    let clients = |vault: &TestVault| Clients::new(&channel(vault.address), &token);
    let acme = clients(&vault);
    acme.create(named("alice")).await.unwrap();
    let mut watch = Watch::begin(&acme).await;
    watch.until_caught_up().await;
    let restarted = tokio::spawn(vault.restart());
    let ended = watch.next().await.map(drop);
    assert_eq!(outcome(&ended), "Unavailable STOPPING retry 1s");
    let vault = restarted.await.unwrap();
    let acme = clients(&vault);
    let (bob, _) = acme.create(named("bob")).await.unwrap();
    let mut watch = Watch::resume(&acme, ACME, &watch.token, watch.known).await.unwrap();
    assert_eq!(watch.changed().await, bob);
    assert_eq!(watch.known, listed(&acme).await);
}

#[cfg(feature = "planted-defects")]
#[test]
fn planted_defects_of_watches_are_caught() {
    for (defect, harness, says) in [
        (
            "miss-changes",
            "watch::slow::what_changes_while_the_snapshot_is_told_is_not_missed",
            "was not told",
        ),
        (
            "watch-for-ever",
            "watch::rights::a_watch_ends_with_its_callers_right_as_a_new_call_would",
            "nothing was told",
        ),
    ] {
        let said = crate::support::process::caught(harness, defect);
        let line = said.lines().find(|line| line.contains(says));
        println!("{defect}: {}", line.unwrap_or_else(|| panic!("not attributed: {said}")));
    }
}
