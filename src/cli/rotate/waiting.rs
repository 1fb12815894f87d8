//! Waits until a carrier has answered: a password is delivered when it is in force there, and not before. Only one that
//! waits for its confirmation is delivered first, since that is what has it set.

use anyhow::{Context as _, anyhow, bail};

use super::Run;
use super::state::StateFile;
use crate::cli::terminal::harmless;
use crate::cli::{note, render, rotations};
use crate::grpc::json;
use crate::grpc::proto::{
    GetRotationRequest, ResumeRotationRequest, Rotation, RotationState, SealedSecret,
};

/// A rotation, and its password while that is there for its recipient.
pub(super) type Seen = (Option<SealedSecret>, Rotation);

impl Run {
    /// Returns when the rotation waits for no carrier: at once, if it never did.
    pub(super) async fn in_force(&mut self, seen: Seen) -> anyhow::Result<Seen> {
        let (mut sealed, mut rotation) = seen;
        let mut told = 0;
        let until = self.patience.end();
        loop {
            if let Some(reason) = rotations::refusal(&rotation) {
                return Err(self.refused(&rotation, reason));
            }
            if rotation.state() == RotationState::Cancelled {
                let (credential, file) = (self.credential(), self.file());
                bail!("the rotation was cancelled: remove {file}, and rotate {credential} again");
            }
            if !rotations::awaits_carrier(&rotation) {
                return Ok((sealed, rotation));
            }
            let (calls, ended) = rotations::calls(&rotation);
            if let Some(ended) = ended.filter(|_| calls > told) {
                note(format_args!(
                    "the carrier was asked: {}; it is asked again",
                    harmless(&ended)
                ));
                told = calls;
            }
            if rotation.state() == RotationState::NeedsAttention {
                return Err(self.not_yet("the carrier has not taken it", &rotation));
            }
            let doing = format!("{}, {}", self.waits(), stands(&rotation)?);
            match self.patience.rest(until, &doing).await {
                Ok(true) => {}
                Ok(false) => {
                    return Err(self.not_yet("the carrier has not answered in time", &rotation));
                }
                Err(_) => return Err(self.not_yet("interrupted", &rotation)),
            }
            let request = GetRotationRequest { name: rotation.name.clone() };
            let answer = match self.patience.ask(&self.connection, &request, &doing).await {
                Ok(answer) => answer,
                Err(trouble) => {
                    let told = self.explain::<GetRotationRequest>(&trouble, rotations::NOT_FOUND);
                    return Err(self.not_yet(&format!("{told:#}"), &rotation));
                }
            };
            sealed = answer.sealed;
            rotation = answer.rotation.context("the answer has no rotation")?;
        }
    }

    /// Has the carrier asked at once, since somebody is there again who waits for it.
    pub(super) async fn speed_up(&mut self, seen: Seen) -> Seen {
        if !rotations::awaits_carrier(&seen.1) {
            return seen;
        }
        let reason = self.job.request.reason.clone();
        let name = seen.1.name.clone();
        let request = ResumeRotationRequest { name: name.clone(), reason };
        let doing = self.waits();
        // If that does not work, the vault goes on by itself.
        self.patience.ask(&self.connection, &request, &doing).await.ok();
        match self.patience.ask(&self.connection, &GetRotationRequest { name }, &doing).await {
            Ok(answer) => (answer.sealed, answer.rotation.unwrap_or(seen.1)),
            Err(_) => seen,
        }
    }

    fn waits(&self) -> String {
        format!("waiting for the carrier of {}", self.credential())
    }

    /// The carrier said no. There is nothing to go on with.
    fn refused(&self, rotation: &Rotation, reason: &str) -> anyhow::Error {
        let (name, reason) = (harmless(&render::short(&rotation.name)), harmless(reason));
        let left = self.state.as_ref().map(StateFile::remove);
        let left = match left {
            Some(Err(error)) => format!("\n{error:#}"),
            _ => String::new(),
        };
        let what = if rotation.confirm_time.is_some() {
            "The old password stays in force, and the one that was delivered does not work: put the old one back"
        } else {
            "Nothing has changed: the old password stays in force"
        };
        anyhow!(
            "the carrier refused the new password of {} ({reason})\n{what}. `credvault rotations show {name}` tells more\
             {left}",
            self.credential()
        )
    }

    /// Why the new password is not in force yet, and how to go on.
    fn not_yet(&self, why: &str, rotation: &Rotation) -> anyhow::Error {
        let delivered = if rotation.confirm_time.is_some() {
            "The new password is delivered and confirmed, and not in force yet"
        } else {
            "The new password is not delivered, since it is not known to be in force"
        };
        let known = rotations::for_carrier(rotation);
        let next = self.resume().map_or(String::new(), |resume| {
            format!("\n{resume} goes on from here, with the same rotation")
        });
        anyhow!("{why}\n{delivered}. {known}{next}")
    }
}

/// Where a rotation stands, on a line.
fn stands(rotation: &Rotation) -> anyhow::Result<String> {
    let fields = json::fields(rotation)?;
    let state = fields.into_iter().find(|(name, _)| name == "state");
    let state = state.map_or(String::new(), |(_, state)| state);
    Ok(match rotations::calls(rotation) {
        (_, None) => state,
        (calls, Some(ended)) => format!("{state}, call {calls}: {ended}"),
    })
}
