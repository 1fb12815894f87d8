//! Credentials that live at a carrier: their passwords change there and here together, whatever is lost on the way.

pub(super) mod matrix;
mod schedules;
mod workers;

use credvault::grpc::proto::credential::AtCarrier;
use credvault::grpc::proto::recipient::Key;
use credvault::grpc::proto::{
    CreateCredentialRequest, Credential, CredentialFilter, DeleteProviderRequest,
    ListAuditEntriesRequest, ListCredentialsRequest, ListRotationsRequest, Recipient,
    ResumeRotationRequest, RotateCredentialRequest, RotateCredentialResponse, Rotation,
    RotationState, RotationStepOutcome, TelepathTrunk, TwilioCredential, UpdateCredentialRequest,
    VobizCredential,
};
use jiff::SignedDuration;
use tonic::Status;

use crate::carriers::{AUTH_ID, At};
use crate::credentials::{rotate, set_password, update, verifies};
use crate::providers::SID;
use crate::rotations::delivery::open;
use crate::rotations::{cancel, confirm, get, held, overlapping, proof, whole};
use crate::support::fakes::carrier::Fault;
use crate::support::fakes::telepath::FakeTelepath;
use crate::support::fakes::twilio::FakeTwilio;
use crate::support::fakes::vobiz::FakeVobiz;
use crate::support::{Clients, TestVault, outcome, uuid};

const LIST: &str = "CL00000000000000000000000000000001";

/// The password that a credential has at its carrier before anything happens.
const FIRST: &str = "Passw0rd-first";

/// The small carriers.
pub(super) struct Carriers<'a> {
    pub(super) twilio: &'a FakeTwilio,
    pub(super) vobiz: &'a FakeVobiz,
    pub(super) telepath: &'a FakeTelepath,
}

impl<'a> Carriers<'a> {
    fn of(vault: &'a TestVault) -> Self {
        let TestVault { twilio, vobiz, telepath, .. } = vault;
        Self { twilio, vobiz, telepath }
    }

    /// Adds a credential with [`FIRST`] to the account that the first token opens.
    fn add(&self, at: At, username: &str, number: u32) -> AtCarrier {
        match at {
            At::Twilio => {
                let credential_sid = format!("CR{number:032x}");
                self.twilio.add_sip_credential(SID, LIST, (&credential_sid, username, FIRST));
                let credential_list_sid = LIST.to_owned();
                AtCarrier::Twilio(TwilioCredential { credential_list_sid, credential_sid })
            }
            At::Vobiz => {
                let credential_id = self.vobiz.add_credential(AUTH_ID, username, FIRST);
                AtCarrier::Vobiz(VobizCredential { credential_id })
            }
            At::Telepath => {
                let trunk_id = self.telepath.add_trunk(at.tokens()[0], username, FIRST);
                AtCarrier::Telepath(TelepathTrunk { trunk_id })
            }
        }
    }

    /// Whether the carrier lets a call with this password through.
    fn accepts(&self, at: At, username: &str, password: &str) -> bool {
        match at {
            At::Twilio => self.twilio.accepts(username, password),
            At::Vobiz => self.vobiz.accepts(username, password),
            At::Telepath => self.telepath.accepts(username, password),
        }
    }

    fn set_fault(&self, at: At, fault: Option<Fault>) {
        match at {
            At::Twilio => self.twilio.set_path_fault(changing(at), fault),
            At::Vobiz => self.vobiz.set_path_fault(changing(at), fault),
            At::Telepath => self.telepath.set_path_fault(changing(at), fault),
        }
    }

    fn fail_next(&self, at: At, fault: Fault) {
        match at {
            At::Twilio => self.twilio.fail_call(changing(at), 0, fault),
            At::Vobiz => self.vobiz.fail_call(changing(at), 0, fault),
            At::Telepath => self.telepath.fail_call(changing(at), 0, fault),
        }
    }

    fn changes(&self, at: At) -> u64 {
        match at {
            At::Twilio => self.twilio.calls_to("POST /2010-04-01/"),
            At::Vobiz => self.vobiz.calls_to("PUT /"),
            At::Telepath => self.telepath.calls_to("rotate-password"),
        }
    }

    fn calls(&self, at: At) -> u64 {
        match at {
            At::Twilio => self.twilio.calls(),
            At::Vobiz => self.vobiz.calls(),
            At::Telepath => self.telepath.calls(),
        }
    }

    async fn called(&self, at: At, times: u64) {
        match at {
            At::Twilio => self.twilio.called(times).await,
            At::Vobiz => self.vobiz.called(times).await,
            At::Telepath => self.telepath.called(times).await,
        }
    }

    /// Waits until the carrier has done it.
    async fn changed(&self, at: At) {
        while self.accepts(at, "phone", FIRST) {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until all is answered.
    async fn idle(&self, at: At) {
        let in_flight = || match at {
            At::Twilio => self.twilio.in_flight(),
            At::Vobiz => self.vobiz.in_flight(),
            At::Telepath => self.telepath.in_flight(),
        };
        while in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    }

    fn release(&self, at: At) {
        match at {
            At::Twilio => self.twilio.release(),
            At::Vobiz => self.vobiz.release(),
            At::Telepath => self.telepath.release(),
        }
    }
}

/// What the request has in it that changes a password.
fn changing(at: At) -> &'static str {
    match at {
        At::Twilio => "POST /2010-04-01/",
        At::Vobiz => "PUT /api/v1/Account",
        At::Telepath => "/rotate-password",
    }
}

/// A request that takes a credential over which the carrier has already.
pub(super) fn adoption(
    account: &str,
    at: At,
    username: &str,
    there: AtCarrier,
) -> CreateCredentialRequest {
    CreateCredentialRequest {
        parent: format!("accounts/{account}"),
        credential_id: username.to_owned(),
        credential: Some(Credential {
            username: username.to_owned(),
            realm: "sip.test".to_owned(),
            provider: format!("accounts/{account}/providers/{}", at.id()),
            at_carrier: Some(there),
            ..Credential::default()
        }),
        password: Some(FIRST.to_owned()),
        ..CreateCredentialRequest::default()
    }
}

async fn create(clients: &Clients, request: CreateCredentialRequest) -> Result<Credential, Status> {
    let answer = clients.credentials.clone().create_credential(request).await?.into_inner();
    assert!(answer.issued.is_none() && answer.sealed.is_none());
    Ok(answer.credential.unwrap())
}

/// A vault with a provider at the carrier, and a credential there that it has taken over.
async fn adopted(at: At) -> (TestVault, Clients, Credential) {
    let vault = TestVault::start().await;
    let acme = vault.acme().await;
    at.add_account(&vault);
    acme.providers.clone().create_provider(at.create(at.id())).await.unwrap();
    let there = Carriers::of(&vault).add(at, "phone", 1);
    let credential = create(&acme, adoption("acme", at, "phone", there)).await.unwrap();
    (vault, acme, credential)
}

fn retried(name: &str, number: u64) -> RotateCredentialRequest {
    RotateCredentialRequest { request_id: uuid(number), ..rotate(name) }
}

fn state(answer: &RotateCredentialResponse) -> RotationState {
    answer.rotation.as_ref().unwrap().state()
}

pub(super) async fn resume(clients: &Clients, name: &str) -> Result<Rotation, Status> {
    let request = ResumeRotationRequest { name: name.to_owned(), ..Default::default() };
    let answer = clients.rotations.clone().resume_rotation(request).await?.into_inner();
    Ok(answer.rotation.unwrap())
}

/// The name of the one rotation that a credential has.
async fn only(clients: &Clients, credential: &str) -> String {
    let request = ListRotationsRequest { parent: credential.to_owned(), ..Default::default() };
    let answer = clients.rotations.clone().list_rotations(request).await.unwrap().into_inner();
    assert_eq!(answer.rotations.len(), 1);
    answer.rotations[0].name.clone()
}

#[tokio::test]
async fn a_password_changes_at_the_carrier_and_here_together() {
    for at in At::ALL {
        let (vault, acme, credential) = adopted(at).await;
        let carriers = Carriers::of(&vault);
        assert_eq!(credential.provider, at.name(), "{at:?}");
        assert!(verifies(&acme, "phone", FIRST).await);

        let answer = whole(&acme, retried(&credential.name, 1)).await.unwrap();
        assert_eq!(state(&answer), RotationState::Succeeded, "{at:?}");
        let password = answer.issued.unwrap().password;
        assert!(carriers.accepts(at, "phone", &password), "{at:?}");
        assert!(!carriers.accepts(at, "phone", FIRST), "{at:?}");
        assert!(verifies(&acme, "phone", &password).await);
        assert!(!verifies(&acme, "phone", FIRST).await);
        assert_eq!(answer.credential.unwrap().version, 2);
        assert_eq!(carriers.changes(at), 1);

        let again = whole(&acme, retried(&credential.name, 1)).await;
        assert_eq!(outcome(&again), "FailedPrecondition SECRET_ALREADY_ISSUED");
        assert_eq!(carriers.changes(at), 1, "a retry changes nothing");
    }
}

#[tokio::test]
async fn what_is_lost_on_the_way_comes_to_its_end_and_the_first_retry_gets_the_password_once() {
    for at in At::ALL {
        let (vault, acme, credential) = adopted(at).await;
        let carriers = Carriers::of(&vault);
        carriers.fail_next(at, Fault::CloseAfterEffect);
        let answer = whole(&acme, retried(&credential.name, 1)).await.unwrap();
        assert_eq!(state(&answer), RotationState::Applying, "{at:?}");
        let rotation = answer.rotation.unwrap();
        assert!(rotation.uncertain && answer.issued.is_none());
        assert_eq!(rotation.steps[1].outcome(), RotationStepOutcome::Unknown);
        assert_eq!(rotation.steps[1].reason, "UPSTREAM_UNREACHABLE");
        let second = whole(&acme, retried(&credential.name, 2)).await;
        assert_eq!(outcome(&second), "Aborted ROTATION_IN_PROGRESS");
        let given_up = cancel(&acme, &rotation.name).await;
        assert_eq!(outcome(&given_up), "FailedPrecondition INVALID_STATE");

        let rotation = resume(&acme, &rotation.name).await.unwrap();
        assert_eq!(rotation.state(), RotationState::Succeeded, "{at:?}");
        assert!(!rotation.uncertain);
        let retry = || whole(&acme, retried(&credential.name, 1));
        let (one, two) = tokio::join!(retry(), retry());
        let [one, two] = [one, two].map(|it| it.ok().map(|it| it.issued.unwrap().password));
        assert!(one.is_some() != two.is_some(), "one of two gets it");
        let password = one.or(two).unwrap();
        assert!(carriers.accepts(at, "phone", &password), "{at:?}");
        assert!(verifies(&acme, "phone", &password).await);
    }
}

#[tokio::test]
async fn a_carrier_that_says_no_changes_nothing() {
    for at in At::ALL {
        let (vault, acme, credential) = adopted(at).await;
        let carriers = Carriers::of(&vault);
        carriers.fail_next(at, Fault::Status(404));
        let refused = whole(&acme, retried(&credential.name, 1)).await;
        let expected = "FailedPrecondition UPSTREAM_CREDENTIAL_NOT_FOUND";
        // Telepath's trunk is there, so it is the path of the call that is not.
        let elsewhere = "FailedPrecondition UPSTREAM_REFUSED";
        let expected = if at == At::Telepath { elsewhere } else { expected };
        assert_eq!(outcome(&refused), expected, "{at:?}");
        let again = whole(&acme, retried(&credential.name, 1)).await;
        assert_eq!(outcome(&again), expected, "the same to a retry");
        assert!(verifies(&acme, "phone", FIRST).await && carriers.accepts(at, "phone", FIRST));
        let answer = whole(&acme, retried(&credential.name, 2)).await.unwrap();
        assert_eq!(answer.issued.unwrap().version, 3, "a number is never used again");
    }
}

#[tokio::test]
async fn with_a_confirmation_the_new_password_arrives_before_the_carrier_has_it() {
    for at in [At::Twilio, At::Vobiz] {
        let (vault, acme, credential) = adopted(at).await;
        let carriers = Carriers::of(&vault);
        let key = credvault::crypto::delivery::PrivateKey::generate().unwrap();
        let public = key.public_key().unwrap().as_bytes().to_vec();
        let answer = whole(
            &acme,
            RotateCredentialRequest {
                recipient: Some(Recipient { key: Some(Key::HpkePublicKey(public)) }),
                ..held(&credential.name, SignedDuration::ZERO)
            },
        );
        let answer = answer.await.unwrap();
        assert_eq!(state(&answer), RotationState::Holding);
        assert!(answer.sealed.is_some() && carriers.changes(at) == 0);
        let rotation = answer.rotation.unwrap().name;
        let opened = open(&key, &answer.sealed.unwrap()).unwrap();
        let held = confirm(&acme, &rotation, Vec::new()).await;
        assert_eq!(outcome(&held), "InvalidArgument INVALID_FIELD proof");
        let done = confirm(&acme, &rotation, proof(&opened, &rotation)).await.unwrap();
        assert_eq!(done.state(), RotationState::Succeeded, "{at:?}");
        assert!(carriers.accepts(at, "phone", &opened));
        assert!(!verifies(&acme, "phone", FIRST).await);
    }
    let (_vault, acme, credential) = adopted(At::Telepath).await;
    let refused = whole(&acme, held(&credential.name, SignedDuration::ZERO)).await;
    assert_eq!(outcome(&refused), "FailedPrecondition INVALID_STATE");
}

#[tokio::test]
async fn a_held_rotation_is_cancelled_without_a_call() {
    let (vault, acme, credential) = adopted(At::Vobiz).await;
    let held = |number| RotateCredentialRequest {
        require_confirmation: true,
        ..retried(&credential.name, number)
    };
    let answer = whole(&acme, held(1)).await.unwrap();
    let password = answer.issued.unwrap().password;
    assert!(verifies(&acme, "phone", &password).await, "it is there before the carrier has it");
    let again = whole(&acme, held(1)).await;
    assert_eq!(outcome(&again), "FailedPrecondition SECRET_ALREADY_ISSUED");
    let cancelled = cancel(&acme, &answer.rotation.unwrap().name).await.unwrap();
    assert_eq!(cancelled.state(), RotationState::Cancelled);
    assert!(verifies(&acme, "phone", FIRST).await);
    assert!(!verifies(&acme, "phone", &password).await);
    assert_eq!(Carriers::of(&vault).changes(At::Vobiz), 0);

    let answer = whole(&acme, held(2)).await.unwrap();
    let (password, name) = (answer.issued.unwrap().password, answer.rotation.unwrap().name);
    let done = confirm(&acme, &name, proof(&password, &name)).await.unwrap();
    assert_eq!(done.state(), RotationState::Succeeded);
    assert!(vault.vobiz.accepts("phone", &password));
}

#[tokio::test]
async fn a_password_in_plaintext_needs_a_request_that_can_be_repeated() {
    let (_vault, acme, credential) = adopted(At::Vobiz).await;
    let refused = whole(&acme, rotate(&credential.name)).await;
    assert_eq!(outcome(&refused), "InvalidArgument INVALID_FIELD request_id");
}

#[tokio::test]
async fn a_sealed_password_of_the_carrier_is_there_once_it_is_known() {
    let (vault, acme, credential) = adopted(At::Telepath).await;
    let key = credvault::crypto::delivery::PrivateKey::generate().unwrap();
    let public = key.public_key().unwrap().as_bytes().to_vec();
    let request = RotateCredentialRequest {
        recipient: Some(Recipient { key: Some(Key::HpkePublicKey(public)) }),
        ..retried(&credential.name, 1)
    };
    Carriers::of(&vault).fail_next(At::Telepath, Fault::CloseAfterEffect);
    let first = whole(&acme, request.clone()).await.unwrap();
    assert!(first.sealed.is_none() && state(&first) == RotationState::Applying);
    let rotation = first.rotation.unwrap().name;
    resume(&acme, &rotation).await.unwrap();
    let sealed = get(&acme, &rotation).await.unwrap().sealed.unwrap();
    let again = whole(&acme, request).await.unwrap();
    assert_eq!(again.sealed.unwrap(), sealed, "the same bytes");
    let password = open(&key, &sealed).unwrap();
    assert!(vault.telepath.accepts("phone", &password));
    assert!(verifies(&acme, "phone", &password).await);
}

#[tokio::test]
async fn a_key_that_nothing_can_be_sealed_for_is_refused_before_the_carrier_is_asked() {
    for at in At::ALL {
        let (vault, acme, credential) = adopted(at).await;
        let key = Some(Key::HpkePublicKey(vec![0; 32]));
        let recipient = Some(Recipient { key });
        let request = RotateCredentialRequest { recipient, ..rotate(&credential.name) };
        let refused = whole(&acme, request).await;
        let expected = "InvalidArgument INVALID_FIELD recipient.hpke_public_key";
        assert_eq!(outcome(&refused), expected, "{at:?}");
        assert_eq!(Carriers::of(&vault).changes(at), 0);
    }
}

#[tokio::test]
async fn a_retry_of_a_chosen_password_says_what_the_carrier_said() {
    let (vault, acme, credential) = adopted(At::Vobiz).await;
    let carriers = Carriers::of(&vault);
    let set = async |number| {
        let request = UpdateCredentialRequest {
            request_id: uuid(number),
            ..set_password(&credential.name, "Chosen-passw0rd")
        };
        outcome(&acme.credentials.clone().update_credential(request).await)
    };
    carriers.fail_next(At::Vobiz, Fault::RateLimit(7));
    assert_eq!(set(1).await, "Unavailable UPSTREAM_PENDING retry 1s");
    assert_eq!(set(1).await, "Unavailable UPSTREAM_PENDING retry 1s", "it is not there yet");
    resume(&acme, &only(&acme, &credential.name).await).await.unwrap();
    assert_eq!(set(1).await, "OK");
    carriers.fail_next(At::Vobiz, Fault::Status(404));
    let refused = "FailedPrecondition UPSTREAM_CREDENTIAL_NOT_FOUND";
    assert_eq!((set(2).await, set(2).await), (refused.to_owned(), refused.to_owned()));
}

#[tokio::test]
async fn no_carrier_has_an_overlap_and_each_says_why() {
    for at in At::ALL {
        let (vault, acme, credential) = adopted(at).await;
        let refused = whole(&acme, overlapping(&credential.name, SignedDuration::from_hours(1)));
        let refused = refused.await;
        assert_eq!(outcome(&refused), "FailedPrecondition INVALID_STATE");
        let said = refused.unwrap_err().message().to_owned();
        assert!(said.starts_with(&format!("{at:?}")) && said.contains("overlap"), "{said}");
        assert_eq!(Carriers::of(&vault).changes(at), 0);
    }
}

#[tokio::test]
async fn only_what_the_carrier_has_is_taken_over_and_only_once() {
    for at in At::ALL {
        let (vault, acme, _) = adopted(at).await;
        let carriers = Carriers::of(&vault);
        let there = carriers.add(at, "other", 2);
        let good = || adoption("acme", at, "other", there.clone());
        let with = |change: &dyn Fn(&mut CreateCredentialRequest)| {
            let mut request = good();
            change(&mut request);
            create(&acme, request)
        };
        let field = format!("InvalidArgument INVALID_FIELD credential.{}", at.id());
        let other = At::ALL.into_iter().find(|it| *it != at).unwrap();
        let foreign = carriers_of(other);
        for (refused, expected) in [
            (
                with(&|it| it.credential.as_mut().unwrap().username = "third".to_owned()).await,
                "InvalidArgument INVALID_FIELD credential.username",
            ),
            (with(&|it| it.password = None).await, "InvalidArgument INVALID_FIELD password"),
            (
                with(&|it| it.credential.as_mut().unwrap().provider = String::new()).await,
                "InvalidArgument INVALID_FIELD credential.provider",
            ),
            (
                with(&|it| it.credential.as_mut().unwrap().at_carrier = None).await,
                "InvalidArgument INVALID_FIELD credential.provider",
            ),
            (
                with(&|it| {
                    it.credential.as_mut().unwrap().provider =
                        "accounts/acme/providers/nowhere".to_owned();
                })
                .await,
                "NotFound NOT_FOUND",
            ),
            (
                with(&|it| {
                    it.credential.as_mut().unwrap().at_carrier = Some(foreign.clone());
                })
                .await,
                &field.replace(at.id(), other.id()),
            ),
        ] {
            assert_eq!(outcome(&refused), expected, "{at:?}");
        }
        let unknown = create(&acme, adoption("acme", at, "other", carriers_of(at))).await;
        assert_eq!(outcome(&unknown), "FailedPrecondition UPSTREAM_CREDENTIAL_NOT_FOUND");

        create(&acme, good()).await.unwrap();
        let mut twice = good();
        twice.credential_id = "twice".to_owned();
        twice.credential.as_mut().unwrap().realm = "elsewhere.test".to_owned();
        let twice = create(&acme, twice).await;
        assert_eq!(outcome(&twice), "AlreadyExists ALREADY_EXISTS", "{at:?}");

        let list = async |filter: CredentialFilter| {
            let request = ListCredentialsRequest {
                parent: "accounts/acme".to_owned(),
                filter: Some(filter),
                ..Default::default()
            };
            let answer = acme.credentials.clone().list_credentials(request).await.unwrap();
            answer.into_inner().credentials.len()
        };
        let of_provider = CredentialFilter { provider: at.name(), ..Default::default() };
        assert_eq!(list(of_provider).await, 2);
        let of_type = |at: At| CredentialFilter {
            provider_type: at.provider_type().into(),
            ..Default::default()
        };
        assert_eq!((list(of_type(at)).await, list(of_type(other)).await), (2, 0));
        let request = DeleteProviderRequest { name: at.name(), ..Default::default() };
        let in_use = acme.providers.clone().delete_provider(request).await;
        assert_eq!(outcome(&in_use), "FailedPrecondition PROVIDER_IN_USE");
    }
}

/// What no carrier has.
fn carriers_of(at: At) -> AtCarrier {
    match at {
        At::Twilio => AtCarrier::Twilio(TwilioCredential {
            credential_list_sid: LIST.to_owned(),
            credential_sid: format!("CR{}", "f".repeat(32)),
        }),
        At::Vobiz => AtCarrier::Vobiz(VobizCredential { credential_id: "none".to_owned() }),
        At::Telepath => AtCarrier::Telepath(TelepathTrunk { trunk_id: "none".to_owned() }),
    }
}

#[tokio::test]
async fn what_the_carrier_can_is_changed_there_first() {
    let change = async |clients: &Clients, request: UpdateCredentialRequest| {
        clients.credentials.clone().update_credential(request).await.map(|_| ())
    };
    let disabled = || Credential { enabled: Some(false), ..Default::default() };
    for at in At::ALL {
        let (vault, acme, credential) = adopted(at).await;
        let carriers = Carriers::of(&vault);
        let name = &credential.name;
        let described = Credential { description: Some("desk".to_owned()), ..Default::default() };
        change(&acme, update(name, described, &["description"])).await.unwrap();
        let off = change(&acme, update(name, disabled(), &["enabled"])).await;
        if at == At::Vobiz {
            assert_eq!(outcome(&off), "OK");
            assert!(!carriers.accepts(at, "phone", FIRST), "it is disabled there");
            assert!(!verifies(&acme, "phone", FIRST).await);
            carriers.fail_next(at, Fault::CloseAfterEffect);
            let on = Credential { enabled: Some(true), ..Default::default() };
            let unsure = change(&acme, update(name, on.clone(), &["enabled"])).await;
            assert_eq!(outcome(&unsure), "Unavailable UPSTREAM_UNSURE retry 1s");
            change(&acme, update(name, on, &["enabled"])).await.unwrap();
            assert!(carriers.accepts(at, "phone", FIRST));
        } else {
            assert_eq!(outcome(&off), "FailedPrecondition INVALID_STATE", "{at:?}");
            assert!(verifies(&acme, "phone", FIRST).await);
        }
        let new = "Chosen-passw0rd";
        change(&acme, set_password(name, new)).await.unwrap();
        assert!(verifies(&acme, "phone", new).await);
        // Telepath takes none: what somebody sets is what he says that it is there.
        assert_eq!(carriers.accepts(at, "phone", new), at != At::Telepath);
    }
}

#[tokio::test]
async fn each_end_of_a_rotation_is_in_the_audit_log() {
    let (vault, acme, credential) = adopted(At::Vobiz).await;
    let carriers = Carriers::of(&vault);
    carriers.fail_next(At::Vobiz, Fault::Status(404));
    whole(&acme, retried(&credential.name, 1)).await.unwrap_err();
    whole(&acme, retried(&credential.name, 2)).await.unwrap();
    let request = ListAuditEntriesRequest {
        parent: "accounts/acme".to_owned(),
        page_size: 200,
        ..Default::default()
    };
    let entries =
        acme.audit.clone().list_audit_entries(request).await.unwrap().into_inner().entries;
    let of = |method: &str| {
        let entries = entries.iter().filter(|it| it.method == method);
        let said = entries.map(|it| format!("{} {} {}", it.outcome, it.detail, it.version_after));
        said.collect::<Vec<_>>()
    };
    assert_eq!(
        of("PerformRotation"),
        ["OK cancelled, UPSTREAM_CREDENTIAL_NOT_FOUND 1", "OK succeeded 3"]
    );
    assert_eq!(
        of("RotateCredential"),
        ["OK at providers/vobiz 2", "OK at providers/vobiz 3", "OK issued 3",]
    );
}
