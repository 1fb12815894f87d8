//! Clients that change credentials of their own, and write down in the disk's log what they ask and what
//! they are answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use credvault::grpc::proto::{
    CreateCredentialRequest, Credential, DeleteCredentialRequest, RotateCredentialRequest,
    UpdateCredentialRequest,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, interval};

use crate::disk::{Log, Notes, What};
use crate::it::crash::rounds::{Ask, reason_of};
use crate::support::Clients;
use crate::support::random::Rng;

pub(crate) const REALM: &str = "sip.test";

/// Credentials of a client.
const OWN: usize = 2;

/// A credential as a change leaves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) description: String,
    /// None: it was issued in an answer that never came.
    pub(crate) password: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Note {
    Asked { id: String, reason: String, after: Option<State> },
    Answered { id: String, issued: Option<String> },
}

/// A change, and where in the log it was asked for and answered.
pub(crate) struct Change {
    pub(crate) reason: String,
    pub(crate) after: Option<State>,
    pub(crate) asked: usize,
    pub(crate) answered: Option<usize>,
}

/// What the notes of a log say, by credential id, in the order of each.
pub(crate) fn read(log: &Log) -> BTreeMap<String, Vec<Change>> {
    let mut journal = BTreeMap::<String, Vec<Change>>::new();
    for (position, record) in log.records.iter().enumerate() {
        if record.what != What::Note {
            continue;
        }
        match serde_json::from_slice(log.data(record)).unwrap() {
            Note::Asked { id, reason, after } => {
                let change = Change { reason, after, asked: position, answered: None };
                journal.entry(id).or_default().push(change);
            }
            Note::Answered { id, issued } => {
                let change = journal.get_mut(&id).unwrap().last_mut().unwrap();
                change.answered = Some(position);
                if let (Some(state), Some(issued)) = (&mut change.after, issued) {
                    state.password = Some(issued);
                }
            }
        }
    }
    journal
}

/// A client with its credentials as they are, and what it was not answered.
pub(crate) struct Client {
    number: usize,
    rng: Rng,
    notes: Arc<Notes>,
    states: BTreeMap<String, State>,
    asked: usize,
    open: Option<(String, Ask, Option<State>)>,
}

/// What all clients of a load share.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) answers: AtomicUsize,
    pub(crate) enough: AtomicBool,
}

impl Client {
    pub(crate) fn new(number: usize, rng: Rng, notes: Arc<Notes>) -> Self {
        Self { number, rng, notes, states: BTreeMap::new(), asked: 0, open: None }
    }

    fn choose(&mut self) -> (String, Ask, Option<State>) {
        let id = format!("line-{}-{}", self.number, self.rng.below(OWN));
        let name = format!("accounts/acme/credentials/{id}");
        self.asked += 1;
        let reason = format!("client {} #{}", self.number, self.asked);
        let request_id = self.rng.uuid4();
        let description = Some(reason.clone());
        let Some(now) = self.states.get(&id).cloned() else {
            let credential = Credential {
                username: id.clone(),
                realm: REALM.to_owned(),
                description,
                ..Credential::default()
            };
            let request = CreateCredentialRequest {
                parent: "accounts/acme".to_owned(),
                credential_id: id.clone(),
                credential: Some(credential),
                request_id,
                reason: reason.clone(),
                ..CreateCredentialRequest::default()
            };
            let after = State { version: 1, description: reason, password: None };
            return (id, Ask::Create(request), Some(after));
        };
        match self.rng.below(100) {
            ..70 => {
                let request =
                    RotateCredentialRequest { name, request_id, reason, ..Default::default() };
                let after = State { version: now.version + 1, password: None, ..now };
                (id, Ask::Rotate(request), Some(after))
            }
            70..93 => {
                let password = Some(self.rng.password(20));
                let request = UpdateCredentialRequest {
                    credential: Some(Credential { name, description, ..Credential::default() }),
                    password: password.clone(),
                    request_id,
                    reason: reason.clone(),
                    ..UpdateCredentialRequest::default()
                };
                let after = State { version: now.version + 1, description: reason, password };
                (id, Ask::Update(request), Some(after))
            }
            _ => {
                let request =
                    DeleteCredentialRequest { name, request_id, reason, ..Default::default() };
                (id, Ask::Delete(request), None)
            }
        }
    }

    fn note(&self, note: &Note) {
        self.notes.write(&serde_json::to_string(note).unwrap());
    }

    /// Asks for a change, or once more for the one that was not answered. False: the server is gone.
    pub(crate) async fn step(&mut self, clients: &mut Clients) -> bool {
        let again = self.open.take();
        let is_new = again.is_none();
        let (id, ask, mut after) = again.unwrap_or_else(|| self.choose());
        if is_new {
            let reason = format!("client {} #{}", self.number, self.asked);
            self.note(&Note::Asked { id: id.clone(), reason, after: after.clone() });
        }
        let issued = match ask.send(clients).await {
            Ok(answer) => answer.issued,
            // It says that the change was made, so it is an acknowledgement.
            Err(status) if !is_new && reason_of(&status) == "SECRET_ALREADY_ISSUED" => None,
            Err(status) if reason_of(&status).is_empty() => {
                self.open = Some((id, ask, after));
                return false;
            }
            Err(status) => panic!("{} of {id}: {status}", ask.method()),
        };
        self.note(&Note::Answered { id: id.clone(), issued: issued.clone() });
        if let (Some(state), Some(issued)) = (&mut after, issued) {
            state.password = Some(issued);
        }
        match after {
            Some(state) => drop(self.states.insert(id, state)),
            None => drop(self.states.remove(&id)),
        }
        true
    }

    /// Changes things until there are enough, or the server is gone; every `pause` if there is one.
    pub(crate) async fn run(
        mut self,
        mut clients: Clients,
        load: Arc<Load>,
        pause: Duration,
    ) -> Self {
        let mut pause: Option<Interval> = (!pause.is_zero()).then(|| interval(pause));
        for _ in 0..1_000_000 {
            if let Some(pause) = &mut pause {
                pause.tick().await;
            }
            if load.enough.load(Ordering::SeqCst) || !self.step(&mut clients).await {
                return self;
            }
            load.answers.fetch_add(1, Ordering::SeqCst);
        }
        panic!("a client ran for ever");
    }
}
