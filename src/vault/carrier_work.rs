//! What rotations have to do at carriers: taken on, written down, done, and written down again.
//!
//! Nobody but [`Vault::run_carrier_work`] makes a call that changes something there. A rotation is taken on by a
//! compare-and-set that also says until when, so two workers never do the same at once, and what a stopped one leaves
//! behind is taken on again once its time is over.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use super::password_work::PasswordCall;
use super::token_work::TokenCall;
use super::{ATTEMPTS, Error, Vault};
use crate::access::{AccountScope, Worker};
use crate::audit::Entry;
use crate::defect::{Defect, planted};
use crate::name::{ResourceId, Uid};
use crate::provider::{Objection, Token};
use crate::rotation::{INTERRUPTED, LEASE, Rotation, State, Task, Unanswered};
use crate::secret::SecretText;
use crate::store::{self, Change, Due, StoredCredential, StoredRotation, Write};
use crate::upstream::{Effect, Outage};

/// How many rotations are under way at once: as many calls as one carrier is sent.
const AT_ONCE: usize = 16;

/// How many of those that are due are looked at.
const PAGE: usize = 4 * AT_ONCE;

/// How often it is looked for calls whose time has come.
const TICK: SignedDuration = SignedDuration::from_secs(1);

/// What those tell each other that begin rotations and those that carry them out.
pub(super) struct CarrierWork {
    /// By what calls of this process are told from those of others.
    holder: Uid,
    begun: Notify,
    moved: watch::Sender<()>,
    under_way: AtomicUsize,
    /// Nothing more is taken on.
    stopping: AtomicBool,
}

/// A rotation that this process has in hand.
struct InHand<'a>(&'a AtomicUsize);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CarrierWork {
    pub(super) fn new(holder: Uid) -> Self {
        let (begun, moved) = (Notify::default(), watch::Sender::default());
        let (under_way, stopping) = (AtomicUsize::default(), AtomicBool::default());
        Self { holder, begun, moved, under_way, stopping }
    }

    fn in_hand(&self) -> InHand<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        InHand(&self.under_way)
    }

    /// Says that there is something to do.
    pub(super) fn begin(&self) {
        self.begun.notify_one();
    }

    /// Changes with every step of any rotation.
    pub(super) fn moved(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }
}

/// A call that is ready to be made.
enum Call {
    Password(PasswordCall),
    Token(TokenCall),
}

/// What a carrier's answer brings.
pub(super) enum Brought {
    Nothing,
    /// The password that it chose.
    Password(SecretText),
    /// The token that it made.
    Token(Token),
    /// That the new token, which was given up, is the one that it takes.
    InForce,
    /// Nothing: the old token is not kept any more, and was not tried.
    NotTried,
}

/// How a call ended.
pub(super) enum Ended {
    /// It is done there.
    Done(Brought),
    Objected(Objection),
    /// Why; and how long it wants to be left alone.
    Unanswered(Unanswered, &'static str, Option<SignedDuration>),
}

impl Vault {
    /// Carries rotations out at their carriers, until [`Self::finish_carrier_work`] and the end of what is under way. An
    /// answer that is not waited for may be the only place where a password is.
    pub async fn run_carrier_work(&self) {
        let worker = Worker::rotations();
        let mut under_way = FuturesUnordered::new();
        let mut taken: HashSet<(Uid, ResourceId)> = HashSet::new();
        // What another process has left under way is not waited for, if this one is alone.
        let mut ahead = if self.store.is_exclusive() { LEASE } else { SignedDuration::ZERO };
        loop {
            let now = self.clock.now();
            let until = now.saturating_add(ahead).unwrap_or(now);
            let stopping = self.work.stopping.load(Ordering::SeqCst);
            if stopping && taken.is_empty() {
                return;
            }
            let due = match self.store.due(&worker, Due::Work, until, PAGE).await {
                Ok(due) => {
                    ahead = SignedDuration::ZERO;
                    due
                }
                Err(error) => {
                    tracing::error!(%error, "look for rotations to carry out");
                    Vec::new()
                }
            };
            for (account, id) in due {
                let key = (account.uid, id);
                if stopping || taken.len() >= AT_ONCE || !taken.insert(key.clone()) {
                    continue;
                }
                let scope = worker.performance(account);
                under_way.push(async move {
                    if let Err(error) = self.perform(&scope, &key.1).await {
                        tracing::warn!(rotation = %key.1, reason = error.reason(), "carry a rotation out");
                        // A store that fails at once is not asked again at once.
                        let now = self.clock.now();
                        self.clock.wait_until(now.saturating_add(TICK).unwrap_or(now)).await;
                    }
                    key
                });
            }
            tokio::select! {
                () = self.work.begun.notified() => {}
                () = self.clock.wait_until(now.saturating_add(TICK).unwrap_or(now)) => {}
                Some(done) = under_way.next() => drop(taken.remove(&done)),
            }
        }
    }

    /// Takes no more rotations on.
    pub fn finish_carrier_work(&self) {
        self.work.stopping.store(true, Ordering::SeqCst);
        self.work.begin();
    }

    /// How many rotations this process has in hand right now.
    pub fn carrier_work_under_way(&self) -> usize {
        self.work.under_way.load(Ordering::SeqCst)
    }

    /// Makes the next call of a rotation, if it is due.
    async fn perform(&self, scope: &AccountScope, id: &ResourceId) -> Result<(), Error> {
        let _in_hand = self.work.in_hand();
        let Some((asking, call)) = self.take_on(scope, id).await? else { return Ok(()) };
        let lease_end = asking.work_time().unwrap_or(Timestamp::MAX);
        let ended = match call {
            // A process that was suspended meanwhile may find that another has made the call since.
            _ if lease_end <= self.clock.now() => {
                Ended::Unanswered(Unanswered::NotDone, INTERRUPTED, None)
            }
            Ok(call) => self.make(call).await,
            Err(error) => Ended::Unanswered(Unanswered::NotDone, error.reason(), None),
        };
        // The answer may be the only place where a password is: it is not given up before somebody else asks again.
        let recorded = loop {
            match self.record(scope, &asking, &ended).await {
                Err(error) if self.clock.now() < lease_end => {
                    tracing::warn!(rotation = %id, reason = error.reason(), "store what a carrier said");
                    let now = self.clock.now();
                    self.clock.wait_until(now.saturating_add(TICK).unwrap_or(now)).await;
                }
                recorded => break recorded,
            }
        };
        self.work.moved.send_replace(());
        recorded
    }

    /// Writes down that the next call of a rotation begins. None: it is not due, or somebody else makes it.
    async fn take_on(
        &self,
        scope: &AccountScope,
        id: &ResourceId,
    ) -> Result<Option<(Rotation, Result<Call, Error>)>, Error> {
        let mine = (self.work.holder, self.store.is_exclusive());
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.store.rotation(scope, id).await? else { return Ok(None) };
            let Some(asking) = stored.rotation.asking(mine, self.clock.now()) else {
                return Ok(None);
            };
            let call = self.call_of(scope, &asking).await;
            if planted(Defect::JournalLate) {
                return Ok(Some((asking, call)));
            }
            let journal = StoredRotation { rotation: asking.clone(), sealed: stored.sealed };
            match self.store.commit(Write::journal(scope, journal)).await {
                Ok(()) => return Ok(Some((asking, call))),
                // It was confirmed or resumed, or somebody else has it: the next look says which.
                Err(store::Error::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }

    async fn call_of(&self, scope: &AccountScope, rotation: &Rotation) -> Result<Call, Error> {
        match rotation.work.as_ref().map(|work| &work.task) {
            Some(Task::Token { stage, replaces, .. }) => {
                self.token_call(scope, rotation, (*stage, *replaces)).await.map(Call::Token)
            }
            _ => self.password_call(scope, rotation).await.map(Call::Password),
        }
    }

    async fn make(&self, call: Call) -> Ended {
        match call {
            Call::Password(call) => self.make_password_call(call).await,
            Call::Token(call) => self.make_token_call(call).await,
        }
    }

    /// Stores how a call ended. What was changed meanwhile stays, unless the call is somebody else's by now.
    async fn record(
        &self,
        scope: &AccountScope,
        asked: &Rotation,
        ended: &Ended,
    ) -> Result<(), Error> {
        for attempt_to_store in 0..ATTEMPTS {
            let Some(stored) = self.store.rotation(scope, &asked.name.id).await? else {
                return Ok(());
            };
            let attempt = |it: &Rotation| {
                let work = it.work.as_ref();
                work.map(|work| (work.attempts, work.lease_end, work.task.clone()))
            };
            if attempt(&stored.rotation) != attempt(asked) && !planted(Defect::JournalLate) {
                return Ok(());
            }
            let write = match ended {
                Ended::Done(brought) => {
                    // A secret must be kept, even if it may not leave any more.
                    let brought = (brought, attempt_to_store < ATTEMPTS / 2);
                    match stored.rotation.stage() {
                        Some(_) => self.token_done(scope, stored, brought).await?,
                        None => self.password_done(scope, stored, brought).await?,
                    }
                }
                Ended::Objected(objection) => self.objected(scope, stored, *objection).await?,
                Ended::Unanswered(how, reason, rest) => {
                    let StoredRotation { rotation, sealed } = stored;
                    let next = rotation.unanswered(*how, reason, *rest, self.clock.now());
                    Some(self.gone_on(scope, &rotation, StoredRotation { rotation: next, sealed }))
                }
            };
            let Some(write) = write else { return Ok(()) };
            match self.store.commit(write).await {
                Ok(()) => return Ok(()),
                Err(store::Error::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::VersionConflict)
    }

    /// The carrier said no: the new version is gone, unless it may be in force there.
    async fn objected(
        &self,
        scope: &AccountScope,
        stored: StoredRotation,
        objection: Objection,
    ) -> Result<Option<Write>, Error> {
        let StoredRotation { rotation, sealed } = stored;
        let now = self.clock.now();
        let next = rotation.objected(objection, Error::from(objection).reason(), now);
        if next.state != State::Cancelled {
            let next = StoredRotation { rotation: next, sealed };
            return Ok(Some(self.gone_on(scope, &rotation, next)));
        }
        let (change, active) = if rotation.stage().is_some() {
            let Some(made) = self.token_objected(scope, &rotation, next).await? else {
                return Ok(None);
            };
            made
        } else {
            let Some(mut credential) = self.rotated(scope, &rotation).await? else {
                return Ok(None);
            };
            let (expect, active) = (credential.credential.revision, credential.credential.version);
            credential.credential.versions = credential.credential.versions.cancelled(now);
            let new = Box::new(credential.touched(now));
            let rotation = Some(Box::new(StoredRotation { rotation: next, sealed: None }));
            (Change::ReplaceCredential { expect, new, rotation, leaves_to: None }, active)
        };
        let ended = self.ended(scope, &rotation, State::Cancelled, active);
        // It is no refusal of a caller: the credential has changed.
        let detail = format!("{}, {}", ended.detail, Error::from(objection).reason());
        let entry = Entry { version_after: active, detail, ..ended };
        Ok(Some(Write::new(scope, change, entry, None)))
    }

    /// A rotation that goes on. Whoever looks after it is told once that it needs him.
    pub(super) fn gone_on(
        &self,
        scope: &AccountScope,
        before: &Rotation,
        next: StoredRotation,
    ) -> Write {
        let state = next.rotation.state;
        if state == before.state {
            return Write::journal(scope, next);
        }
        if state == State::NeedsAttention {
            tracing::warn!(rotation = %before.name, "a rotation needs attention: see GetRotation");
        }
        let entry = Entry {
            version_after: before.version,
            ..self.ended(scope, before, state, before.version)
        };
        let change = Change::ReplaceRotation { rotation: Box::new(next), leaves_to: None };
        Write::new(scope, change, entry, None)
    }

    /// What is rotated, if it is still there.
    pub(super) async fn rotated(
        &self,
        scope: &AccountScope,
        rotation: &Rotation,
    ) -> Result<Option<StoredCredential>, Error> {
        let found = self.store.credential(scope, rotation.name.parent.id()).await?;
        Ok(found.filter(|stored| stored.credential.uid == rotation.resource))
    }

    pub(super) fn ended(
        &self,
        scope: &AccountScope,
        rotation: &Rotation,
        state: State,
        before: u64,
    ) -> Entry {
        Entry {
            version_before: before,
            version_after: rotation.version,
            detail: state.as_str().to_owned(),
            ..self.entry(scope.actor(), scope.method(), &rotation.name.to_string())
        }
    }
}

/// What became of a call, as the rotation goes on from it.
pub(super) fn ended(effect: Effect<Brought>) -> Ended {
    match effect {
        Effect::Done(brought) => Ended::Done(brought),
        Effect::Refused(objection) => Ended::Objected(objection),
        Effect::NotDone(outage) => unanswered(Unanswered::NotDone, outage),
        Effect::Unknown(outage) => unanswered(Unanswered::Unknown, outage),
    }
}

fn unanswered(how: Unanswered, outage: Outage) -> Ended {
    let rest = match outage {
        Outage::RateLimited(rest) | Outage::CircuitOpen(rest) => rest.try_into().ok(),
        _ => None,
    };
    Ended::Unanswered(how, Error::from(outage).reason(), rest)
}
