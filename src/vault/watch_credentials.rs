//! `WatchCredentials`: what the credentials of an account are, and then what becomes of them (docs/adr/0036).
//!
//! Nothing is kept for a watch but where it stands in the account's audit chain, and a page of what is to be told. It
//! reads when its caller takes something, so the writer never waits for it.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Error, Vault};
use crate::access::{Authorized, Caller, Scope, WatchCredentials};
use crate::audit::Link;
use crate::credential::{Credential, CredentialFilter};
use crate::defect::{Defect, planted};
use crate::name::{AccountName, CredentialName, Invalid, ResourceId};
use crate::store::{Changes, Page};

/// What is read at once: credentials of the snapshot, or entries of the audit chain.
const PAGE: usize = 100;

/// How often a watch that is told of nothing looks all the same: another process may have changed something, and the
/// caller's right may have ended.
const LOOK: SignedDuration = SignedDuration::from_secs(5);

/// After so long without anything to tell it says that it is there. Proxies end what is silent.
const ALIVE: SignedDuration = SignedDuration::from_secs(30);

/// How long after a look that has found the end of the chain there is no other. Many who watch would else have every commit
/// cost as many reads; so what comes meanwhile is read together.
const PACE: Duration = Duration::from_millis(50);

/// What a watch tells, with where to go on after it.
#[derive(Debug)]
pub struct Told {
    /// What happened.
    pub news: News,
    /// Makes another watch go on from here.
    pub resume_token: String,
}

/// What happened.
#[derive(Debug)]
pub enum News {
    /// A credential is like this.
    Credential(Box<Credential>),
    /// A credential is gone.
    Deleted(CredentialName),
    /// All that there was at the start has been told.
    CaughtUp,
    /// Nothing.
    Nothing,
}

/// A watch of one account's credentials.
#[expect(missing_debug_implementations, reason = "holds a vault")]
pub struct Watch {
    vault: Arc<Vault>,
    caller: Caller,
    scope: Scope<WatchCredentials>,
    /// The request without its token: what tokens are bound to, beside the account.
    arguments: Vec<u8>,
    commits: watch::Receiver<()>,
    position: Position,
    /// The end of the chain when the watch began, until that is reached.
    goal: Option<u64>,
    /// What is still to be told.
    page: VecDeque<News>,
    /// Where to go on now, and after this page.
    token: String,
    token_after: String,
    told: Timestamp,
    looks_again: Instant,
}

/// Where a watch stands: all of the chain up to an entry has been told, and of the snapshot, while that lasts, all up to
/// an id.
///
/// ```text
/// {sequence} {first 16 hexadecimal digits of that entry's hash} [{last id of the snapshot so far}]
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    sequence: u64,
    hash: String,
    /// The last id that was listed, or nothing; None: the snapshot is complete.
    listed: Option<String>,
}

impl Vault {
    /// Begins a watch, or goes on with one where `resume_token` says. `arguments` is the request without it.
    pub async fn watch_credentials(
        self: Arc<Self>,
        caller: Caller,
        scope: Scope<WatchCredentials>,
        resume_token: &str,
        arguments: Vec<u8>,
    ) -> Result<Watch, Error> {
        // Before anything is read: what comes after it is told of.
        let commits = self.store.commits();
        // The end of the chain is the position of a snapshot that has not begun: what changes meanwhile is behind it.
        let end = self.store.link(&scope, None).await?;
        let (now, goal) = (self.clock.now(), end.as_ref().map_or(0, |end| end.sequence));
        let mut watch = Watch {
            vault: self,
            caller,
            scope,
            arguments,
            commits,
            position: Position::at(end.as_ref(), Some(String::new())),
            goal: Some(goal),
            page: VecDeque::new(),
            token: String::new(),
            token_after: String::new(),
            told: now,
            looks_again: Instant::now(),
        };
        if !resume_token.is_empty() {
            watch.position = watch.resumed(resume_token).await?;
        }
        watch.token = watch.seal()?;
        Ok(watch)
    }
}

impl Watch {
    /// What is to be told next. Waits until there is something, and says so if that takes long.
    pub async fn next(&mut self) -> Result<Told, Error> {
        loop {
            self.check_right().await?;
            if let Some(news) = self.page.pop_front() {
                if self.page.is_empty() {
                    self.token = std::mem::take(&mut self.token_after);
                }
                return Ok(self.tell(news));
            }
            if let Some(listed) = self.position.listed.clone() {
                self.list(listed).await?;
                continue;
            }
            if self.goal.is_some_and(|goal| self.position.sequence >= goal) {
                self.goal = None;
                return Ok(self.tell(News::CaughtUp));
            }
            tokio::time::sleep_until(self.looks_again).await;
            // Before the look: what comes after it is told of.
            self.commits.mark_unchanged();
            let moved = self.look().await?;
            if self.page.is_empty() && self.vault.clock.now() >= later(self.told, ALIVE) {
                self.page.push_back(News::Nothing);
                self.token_after.clone_from(&self.token);
            } else if !moved {
                self.wait().await;
            }
        }
    }

    fn tell(&mut self, news: News) -> Told {
        self.told = self.vault.clock.now();
        Told { news, resume_token: self.token.clone() }
    }

    /// Whether the caller may still watch: before everything that is told, as if the call came now. An account that was
    /// deleted and made again is another one.
    async fn check_right(&mut self) -> Result<(), Error> {
        if planted(Defect::WatchForEver) {
            return Ok(());
        }
        let account = self.scope.account();
        let name = AccountName(account.id.clone()).to_string();
        let caller = self.vault.authenticate_again(self.caller.clone()).await?;
        let scope = self.vault.authorize(&caller, &account.id, &name).await?;
        if scope.account().uid != account.uid {
            return Err(Error::NotFound { name });
        }
        (self.caller, self.scope) = (caller, scope);
        Ok(())
    }

    /// Reads the next page of the snapshot.
    async fn list(&mut self, listed: String) -> Result<(), Error> {
        let after = (!listed.is_empty()).then_some(listed);
        let filter = CredentialFilter::default();
        let store = &self.vault.store;
        let Page { items, more, reached } =
            store.list_credentials(&self.scope, filter, after, PAGE).await?;
        let last = items.last().map(|last| last.name.id.as_str().to_owned());
        self.position.listed = reached.or(last).filter(|_| more);
        if planted(Defect::MissChanges) && self.position.listed.is_none() {
            let end = self.vault.store.link(&self.scope, None).await?;
            self.position = Position::at(end.as_ref(), None);
        }
        self.fill(items.into_iter().map(|it| News::Credential(Box::new(it))).collect())
    }

    /// Reads what changed since the position, if anything did. Whether the position has moved.
    async fn look(&mut self) -> Result<bool, Error> {
        let (store, before) = (&self.vault.store, self.position.sequence);
        // One look-up, which is all that a commit of another account costs.
        let end = store.link(&self.scope, None).await?.map_or(0, |end| end.sequence);
        if end <= before {
            return Ok(false);
        }
        let Changes { credentials, reached } =
            store.changed_credentials(&self.scope, before, PAGE).await?;
        let Some(reached) = reached else { return Ok(false) };
        if reached.sequence >= end {
            self.looks_again = Instant::now() + PACE;
        }
        self.position = Position::at(Some(&reached), None);
        let account = &self.scope.account().id;
        let news = |(id, credential): (ResourceId, Option<Credential>)| match credential {
            Some(credential) => News::Credential(Box::new(credential)),
            None => News::Deleted(CredentialName { account: account.clone(), id }),
        };
        let page = credentials.into_iter().map(news).collect();
        self.fill(page)?;
        Ok(true)
    }

    /// Takes a page, with whose last item the token is that of the position.
    fn fill(&mut self, page: VecDeque<News>) -> Result<(), Error> {
        let token = self.seal()?;
        if page.is_empty() {
            self.token = token;
        } else {
            self.token_after = token;
        }
        self.page = page;
        Ok(())
    }

    /// Waits until there may be something new, or it is time to look whether there is.
    async fn wait(&mut self) {
        let clock = &self.vault.clock;
        let look = later(clock.now(), LOOK).min(later(self.told, ALIVE));
        let told = async {
            if self.commits.changed().await.is_err() {
                // Nobody tells any more.
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = told => {}
            () = clock.wait_until(look.min(self.caller.expire_time)) => {}
        }
    }

    fn seal(&self) -> Result<String, Error> {
        Ok(self.vault.sealer.seal_page_token(&self.binding(), &self.position.to_text())?)
    }

    /// The position that a token of ours names, if the chain still is what it was there.
    async fn resumed(&self, token: &str) -> Result<Position, Error> {
        const RULE: Invalid = Invalid(
            "must be a resume_token of this account's watch, from no other time than that of its audit chain: begin \
             anew without one",
        );
        let text = self.vault.sealer.open_page_token(&self.binding(), token);
        let position = text.and_then(|text| Position::parse(&text));
        let position = position.ok_or_else(|| Error::field("resume_token", RULE))?;
        let link = match position.sequence {
            0 => None,
            sequence => self.vault.store.link(&self.scope, Some(sequence)).await?,
        };
        // A backup that was restored ends before it, or has gone on otherwise since.
        let now = Position::at(link.as_ref(), position.listed.clone());
        if now == position { Ok(position) } else { Err(Error::field("resume_token", RULE)) }
    }

    /// What a token is bound to: the method, the account and the other arguments.
    fn binding(&self) -> Vec<u8> {
        let mut binding = self.scope.method().as_bytes().to_vec();
        binding.push(0);
        binding.extend_from_slice(self.scope.owner_uid().as_bytes());
        binding.extend_from_slice(&self.arguments);
        binding
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

impl Position {
    /// Behind this entry of the chain, or before its first one.
    fn at(link: Option<&Link>, listed: Option<String>) -> Self {
        let hash = link.map_or([0; 8], |link| *link.hash.first_chunk().unwrap_or(&[0; 8]));
        let hash = format!("{:016x}", u64::from_be_bytes(hash));
        Self { sequence: link.map_or(0, |link| link.sequence), hash, listed }
    }

    fn to_text(&self) -> String {
        let Self { sequence, hash, listed } = self;
        match listed {
            None => format!("{sequence} {hash}"),
            Some(id) => format!("{sequence} {hash} {id}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (sequence, hash) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
        Some(Self { sequence, hash, listed: parts.next().map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_parse_what_they_print() {
        let link = Link { sequence: 7, previous_hash: [0; 32], hash: [0xab; 32] };
        for (position, text) in [
            (Position::at(None, None), "0 0000000000000000"),
            (Position::at(Some(&link), None), "7 abababababababab"),
            (Position::at(Some(&link), Some(String::new())), "7 abababababababab "),
            (Position::at(Some(&link), Some("desk-1".to_owned())), "7 abababababababab desk-1"),
        ] {
            assert_eq!(position.to_text(), text);
            assert_eq!(Position::parse(text), Some(position));
        }
        for nonsense in ["", "7", "x abababababababab"] {
            assert_eq!(Position::parse(nonsense), None);
        }
    }
}
