//! What a rotation says of itself: its steps, what it waits for, and what can be done about that. Of a password and of a
//! token, which have different ends.

use crate::cli::terminal::harmless;
use crate::cli::{note, render};
use crate::grpc::client::time;
use crate::grpc::json;
use crate::grpc::proto::{
    Rotation, RotationState, RotationStep, RotationStepKind, RotationStepOutcome,
};
use crate::rotation::{INTERRUPTED, OLD_TOKEN_WORKS};

/// What is rotated, in a word.
pub(in crate::cli) fn secret(name: &str) -> &'static str {
    if is_of_token(name) { "token" } else { "password" }
}

/// Whether what this names is a provider, or a rotation of one.
pub(in crate::cli) fn is_of_token(name: &str) -> bool {
    name.split('/').nth(2) == Some("providers")
}

/// Prints a rotation: its fields, whether its secret is there, and a line for each step.
pub(super) fn print(rotation: &Rotation) -> anyhow::Result<()> {
    let mut lines = json::fields(rotation)?;
    lines.retain(|(name, _)| !name.starts_with("steps["));
    let sealed = match time(rotation.expire_time) {
        Some(until) => format!("there, until {until} or its confirmation"),
        None => "not there".to_owned(),
    };
    lines.push(("sealed secret".to_owned(), sealed));
    let of_token = is_of_token(&rotation.name);
    for step in &rotation.steps {
        let when = time(step.time).map_or(String::new(), |it| it.strftime("%FT%TZ  ").to_string());
        let what = what_happened(step.kind(), of_token);
        let ended = ended(step).map_or(String::new(), |ended| format!(": {ended}"));
        let more = if step.message.is_empty() { "" } else { ": " };
        lines.push(("step".to_owned(), format!("{when}{what}{ended}{more}{}", step.message)));
    }
    render::lines(lines)
}

fn what_happened(kind: RotationStepKind, of_token: bool) -> &'static str {
    match kind {
        RotationStepKind::Store => "the new password is stored beside the active one",
        RotationStepKind::Activate => "the new password is the active one",
        RotationStepKind::Confirm => "its recipient has it",
        RotationStepKind::Cancel if of_token => "it was given up",
        RotationStepKind::Cancel => "cancelled",
        RotationStepKind::Expire => "its time has passed",
        RotationStepKind::Apply if of_token => "the carrier was asked to make a new token",
        RotationStepKind::Apply => "the carrier was asked",
        RotationStepKind::Discard => "the carrier was asked to remove the new token",
        RotationStepKind::Verify => "the new token was tried",
        RotationStepKind::Finish => "the carrier was asked to end the old token",
        RotationStepKind::Probe => "the old token was tried",
        RotationStepKind::Wait => "it needs a person",
        RotationStepKind::Unspecified => "something that is not known here",
    }
}

/// Whether a carrier was called in such a step.
fn is_call(kind: RotationStepKind) -> bool {
    matches!(
        kind,
        RotationStepKind::Apply
            | RotationStepKind::Discard
            | RotationStepKind::Verify
            | RotationStepKind::Finish
            | RotationStepKind::Probe
    )
}

/// How a step ended at its carrier. None: it was no call.
fn ended(step: &RotationStep) -> Option<String> {
    use RotationStepKind::{Probe, Verify};
    use RotationStepOutcome::{Done, NotDone, Refused, Unknown, Unspecified};
    let (kind, reason) = (step.kind(), &step.reason);
    if !is_call(kind) {
        return None;
    }
    let how = match (kind, step.outcome()) {
        (Verify, Done) => "it works",
        (Verify, NotDone | Refused) => "it does not work yet, as far as is known",
        (Probe, Done) => "it is refused, as it should be",
        (Probe, NotDone) if reason == OLD_TOKEN_WORKS => "it still works",
        (Probe, NotDone | Refused) => "nobody said whether it still works",
        (Verify | Probe, Unknown) if reason == INTERRUPTED => {
            "the vault was stopped before the answer came"
        }
        (Verify | Probe, Unknown) => "no answer came",
        (_, Done) => "it did so",
        (_, Refused) => "it said no, and did nothing",
        (_, NotDone) => "nothing was done",
        (_, Unknown) if reason == INTERRUPTED => {
            "the vault was stopped before the answer came, so it may be done"
        }
        (_, Unknown) => "no answer says whether it was done",
        (_, Unspecified) => "how that ended is not known here",
    };
    Some(if reason.is_empty() { how.to_owned() } else { format!("{how} ({reason})") })
}

/// How often the carrier was asked, and how the last call ended.
pub(in crate::cli) fn calls(rotation: &Rotation) -> (usize, Option<String>) {
    let mut calls = rotation.steps.iter().filter(|step| is_call(step.kind()));
    (calls.clone().count(), calls.next_back().and_then(ended))
}

/// The last call of a rotation, if it did not end as it should, in a sentence.
pub(in crate::cli) fn trouble(rotation: &Rotation) -> Option<String> {
    let last = rotation.steps.iter().rfind(|step| is_call(step.kind()))?;
    let failed = last.outcome() != RotationStepOutcome::Done;
    let what = what_happened(last.kind(), is_of_token(&rotation.name));
    ended(last).filter(|_| failed).map(|ended| format!("{what}: {ended}"))
}

/// Why the carrier refused a rotation, if that ended it.
pub(in crate::cli) fn refusal(rotation: &Rotation) -> Option<&str> {
    let last = rotation.steps.last().filter(|_| rotation.state() == RotationState::Cancelled)?;
    (last.outcome() == RotationStepOutcome::Refused).then_some(last.reason.as_str())
}

/// Whether its next step is a call to a carrier, or the answer to one.
pub(in crate::cli) fn awaits_carrier(rotation: &Rotation) -> bool {
    rotation.next_call_time.is_some()
}

/// Says what a rotation waits for, and what can be done about that.
pub(in crate::cli) fn advise(rotation: &Rotation) {
    if let Some(advice) = advice(rotation) {
        note(advice);
    }
}

/// What a rotation waits for, and what can be done about that.
pub(in crate::cli) fn advice(rotation: &Rotation) -> Option<String> {
    let name = harmless(&render::short(&rotation.name));
    let until_confirmed = format!(
        "`credvault rotations confirm {name} --password-file FILE`, with the new one in FILE; `credvault rotations \
         cancel {name}` gives it up"
    );
    match rotation.state() {
        RotationState::Holding if awaits_carrier(rotation) => Some(format!(
            "Both tokens work, at the carrier as well, until {}, when the old one ends; `credvault rotations confirm \
             {name}` ends it at once, `credvault rotations cancel {name}` gives the new one up",
            next_call(rotation)
        )),
        _ if awaits_carrier(rotation) => Some(for_carrier(rotation)),
        RotationState::Holding | RotationState::NeedsAttention if is_of_token(&rotation.name) => {
            Some(format!("Both tokens work, at the carrier as well, until {until_confirmed}"))
        }
        RotationState::Holding | RotationState::NeedsAttention => Some(format!(
            "Both passwords work until {until_confirmed}. At a carrier only the old one works until then"
        )),
        _ => None,
    }
}

/// How its recipient opens what is sealed.
pub(in crate::cli) fn how_to_open(rotation: &Rotation) -> String {
    format!(
        "Its {} is there, sealed: `credvault rotations show {} --output json | credvault open - --key-file FILE` opens it",
        secret(&rotation.name),
        harmless(&render::short(&rotation.name))
    )
}

/// What is known of a rotation that waits for its carrier, and what can be done.
pub(in crate::cli) fn for_carrier(rotation: &Rotation) -> String {
    let name = harmless(&render::short(&rotation.name));
    let known = match for_person(rotation) {
        Some(message) => format!("It needs a person: {message}"),
        None if is_of_token(&rotation.name) => of_token(rotation).to_owned(),
        None if rotation.uncertain => {
            "The new password may be in force at the carrier, though no answer says so: \
             the vault asks until it knows, and keeps what may be in force"
                .to_owned()
        }
        None => "Nothing has changed at the carrier yet: the vault goes on asking".to_owned(),
    };
    let cancel = if can_be_cancelled(rotation) {
        format!("; `credvault rotations cancel {name}` gives it up")
    } else {
        String::new()
    };
    format!(
        "{known}. The next call is due by {}; `credvault rotations resume {name}` asks at once{cancel}",
        next_call(rotation)
    )
}

/// What a person should see to, if the rotation waits for one.
pub(in crate::cli) fn for_person(rotation: &Rotation) -> Option<String> {
    let is_advice = |kind| matches!(kind, RotationStepKind::Wait | RotationStepKind::Expire);
    let told = |step: &&RotationStep| is_advice(step.kind()) && !step.message.is_empty();
    let last = rotation.steps.iter().rfind(told);
    let last = last.filter(|_| rotation.state() == RotationState::NeedsAttention);
    last.map(|step| harmless(&step.message))
}

/// What is known of a token's rotation that waits for its carrier.
fn of_token(rotation: &Rotation) -> &'static str {
    match rotation.state() {
        RotationState::Verifying => {
            "The carrier has made a new token, which is not known to work yet; the old one stays the active one: the \
             vault goes on trying"
        }
        RotationState::Finishing if is_old_ended(rotation) => {
            "The new token is the active one, and the old one has ended: the vault tries it until it is refused"
        }
        RotationState::Finishing if rotation.uncertain => {
            "The old token may have ended, though no answer says so: the vault asks until it knows, and keeps both"
        }
        RotationState::Finishing => {
            "The new token works, and the old one is not ended yet: the vault goes on asking"
        }
        RotationState::Cancelling => {
            "It was given up, the old token stays the active one, and the carrier has not removed the new one yet: the \
             vault goes on asking"
        }
        _ if rotation.uncertain => {
            "The carrier may have made a new token whose answer was lost; the old one stays the active one: the vault \
             has that removed, and asks for another"
        }
        _ => {
            "Nothing has changed at the carrier yet, and the old token stays the active one: the vault goes on asking"
        }
    }
}

/// Whether a token's rotation has ended the old one.
fn is_old_ended(rotation: &Rotation) -> bool {
    old_ended(rotation).is_some()
}

/// The step that ended the old token.
pub(in crate::cli) fn old_ended(rotation: &Rotation) -> Option<&RotationStep> {
    let done = |step: &&RotationStep| step.outcome() == RotationStepOutcome::Done;
    rotation.steps.iter().filter(done).find(|step| step.kind() == RotationStepKind::Finish)
}

/// Whether the vault would let go of a rotation that waits for its carrier.
fn can_be_cancelled(rotation: &Rotation) -> bool {
    if !is_of_token(&rotation.name) {
        return !rotation.uncertain;
    }
    let last = rotation.steps.iter().rfind(|step| is_call(step.kind()));
    let was_to_end = last.is_some_and(|step| step.kind() == RotationStepKind::Finish);
    let may_have_ended = is_old_ended(rotation) || (rotation.uncertain && was_to_end);
    !may_have_ended && rotation.state() != RotationState::Cancelling
}

/// When its next call is due.
pub(in crate::cli) fn next_call(rotation: &Rotation) -> String {
    time(rotation.next_call_time).map_or(String::new(), |it| it.strftime("%FT%TZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: RotationStepKind, outcome: RotationStepOutcome, reason: &str) -> RotationStep {
        RotationStep {
            kind: kind.into(),
            outcome: outcome.into(),
            reason: reason.to_owned(),
            ..RotationStep::default()
        }
    }

    fn of_provider(state: RotationState, uncertain: bool, steps: &[RotationStep]) -> Rotation {
        Rotation {
            name: "accounts/acme/providers/main/rotations/x1".to_owned(),
            state: state.into(),
            uncertain,
            steps: steps.to_vec(),
            ..Rotation::default()
        }
    }

    #[test]
    fn each_call_says_how_it_ended() {
        use RotationStepKind::{Apply, Confirm, Discard, Finish, Probe, Verify, Wait};
        use RotationStepOutcome::{Done, NotDone, Refused, Unknown};
        for (kind, outcome, reason, told) in [
            (Apply, Done, "", Some("it did so")),
            (Discard, Refused, "UPSTREAM_REJECTED_TOKEN", Some("it said no")),
            (Verify, Done, "", Some("it works")),
            (Verify, NotDone, "UPSTREAM_REJECTED_TOKEN", Some("it does not work yet")),
            (Verify, Unknown, INTERRUPTED, Some("stopped before the answer came (INTERRUPTED)")),
            (Finish, Unknown, INTERRUPTED, Some("so it may be done (INTERRUPTED)")),
            (Finish, Unknown, "UPSTREAM_TIMEOUT", Some("no answer says whether it was done")),
            (Probe, Done, "", Some("it is refused")),
            (Probe, NotDone, OLD_TOKEN_WORKS, Some("it still works (OLD_TOKEN_WORKS)")),
            (Probe, NotDone, "UPSTREAM_TIMEOUT", Some("nobody said whether it still works")),
            (Wait, Done, "", None),
            (Confirm, Done, "", None),
        ] {
            let ended = ended(&step(kind, outcome, reason));
            let fits = match (&ended, told) {
                (Some(ended), Some(told)) => ended.contains(told),
                (ended, told) => ended.is_none() && told.is_none(),
            };
            assert!(fits, "{kind:?} {outcome:?}: {ended:?}");
        }
        let steps = [
            step(Apply, Done, ""),
            step(Wait, Done, ""),
            step(Probe, NotDone, OLD_TOKEN_WORKS),
            step(Confirm, Done, ""),
        ];
        let rotation = of_provider(RotationState::Finishing, false, &steps);
        assert_eq!(calls(&rotation), (2, Some("it still works (OLD_TOKEN_WORKS)".to_owned())));
    }

    #[test]
    fn a_token_can_be_given_up_until_the_old_one_may_have_ended() {
        use RotationState::{Applying, Cancelling, Finishing, NeedsAttention};
        use RotationStepKind::{Apply, Discard, Finish, Verify};
        use RotationStepOutcome::{Done, NotDone, Unknown};
        let ended = [step(Finish, Done, ""), step(RotationStepKind::Probe, NotDone, "")];
        for (state, uncertain, steps, can) in [
            (Applying, true, &[step(Apply, Unknown, "")][..], true),
            (Applying, true, &[step(Discard, Unknown, "")], true),
            (NeedsAttention, false, &[step(Verify, NotDone, "")], true),
            (Finishing, false, &[step(Finish, NotDone, "")], true),
            (Finishing, true, &[step(Finish, Unknown, "")], false),
            (NeedsAttention, true, &[step(Finish, Unknown, "")], false),
            (Finishing, false, &ended, false),
            (NeedsAttention, false, &ended, false),
            (Cancelling, false, &[step(Discard, NotDone, "")], false),
        ] {
            let rotation = of_provider(state, uncertain, steps);
            let told = for_carrier(&rotation);
            assert_eq!(told.contains("cancel providers/main/x1"), can, "{rotation:?}: {told}");
            assert!(!told.contains("password"), "{told}");
        }
    }
}
