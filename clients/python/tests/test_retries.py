"""A lost answer: what is asked again, with what effect, and what is not."""

import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

import credvault
import credvault._retry
import credvault._target
from conftest import ACCOUNT, Server, check, creation
from credvault._retry import may_repeat
from credvault.v1 import (
    access_service_pb2,
    audit_service_pb2,
    credential_service_pb2,
    provider_service_pb2,
    rotation_service_pb2,
    use_service_pb2,
)
from credvault.v1 import access_service_pb2 as access
from credvault.v1 import credential_service_pb2 as credentials
from credvault.v1 import use_service_pb2 as use
from harness import REALM, Lossy


def version_of(vault: credvault.Vault, credential: str) -> int:
    request = credentials.GetCredentialRequest(name=credential)
    return vault.credentials.GetCredential(request).credential.version


def rotate_with_a_lost_answer(lossy: Lossy, vault: credvault.Vault, credential: str, reset: bool = False) -> None:
    """For a key whose private half nobody has: only how often the vault did it counts."""
    request = credentials.RotateCredentialRequest(name=credential)
    request.recipient.hpke_public_key = bytes(range(32))
    lossy.lose(1, reset)
    response = vault.credentials.RotateCredential(request)
    assert lossy.lost == 1
    assert response.sealed.version == response.rotation.version
    assert not request.request_id, "the caller's request is his own"


@pytest.mark.parametrize("reset", [False, True])
def test_a_mutation_whose_answer_is_lost_has_one_effect(
    lossy: Lossy, lossy_vault: credvault.Vault, vault: credvault.Vault, credential: str, reset: bool
) -> None:
    rotate_with_a_lost_answer(lossy, lossy_vault, credential, reset)
    assert version_of(vault, credential) == 2


def test_a_call_that_a_proxy_cancels_may_have_happened(
    lossy: Lossy, server: Server, vault: credvault.Vault, credential: str
) -> None:
    lossy.lose(1, reset=True)
    with credvault.connect(lossy.address, token_file=server.token_file, attempts=1) as once:
        with pytest.raises(credvault.Unavailable) as raised:
            once.credentials.RotateCredential(credentials.RotateCredentialRequest(name=credential))
    assert (raised.value.code, raised.value.may_have_happened) == (grpc.StatusCode.CANCELLED, True)
    assert version_of(vault, credential) == 2


def test_a_call_that_another_thread_closes_may_have_happened(lossy: Lossy, server: Server, credential: str) -> None:
    vault = credvault.connect(lossy.address, token_file=server.token_file)
    version_of(vault, credential)
    lossy.die()
    closing = threading.Timer(0.3, vault.close)
    closing.start()
    request = credentials.RotateCredentialRequest(name=credential)
    with pytest.raises(credvault.Unavailable) as raised:
        vault.credentials.RotateCredential(request)
    closing.join()
    assert (raised.value.code, raised.value.may_have_happened) == (grpc.StatusCode.CANCELLED, True)
    assert raised.value.request_id
    with pytest.raises(ValueError, match="closed"):
        vault.credentials.RotateCredential(request)


def test_a_token_that_goes_between_two_attempts_hides_nothing(
    lossy: Lossy, server: Server, credential: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.token"
    file.write_bytes(server.token_file.read_bytes())
    monkeypatch.setattr("time.sleep", lambda _: file.unlink())
    lossy.lose(1)
    with credvault.connect(lossy.address, token_file=file) as vault:
        with pytest.raises(credvault.Unavailable) as raised:
            vault.credentials.RotateCredential(credentials.RotateCredentialRequest(name=credential))
        assert raised.value.may_have_happened
        with pytest.raises(FileNotFoundError):
            version_of(vault, credential)


def test_planted_without_one_request_id_it_has_two(
    lossy: Lossy,
    lossy_vault: credvault.Vault,
    vault: credvault.Vault,
    credential: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test above would find a client that keeps no id: this one does not, and the vault rotates twice."""
    monkeypatch.setattr(credvault._retry, "with_request_id", lambda request: request)
    rotate_with_a_lost_answer(lossy, lossy_vault, credential)
    assert version_of(vault, credential) == 3


def test_a_lost_password_says_what_to_do(
    lossy: Lossy, lossy_vault: credvault.Vault, vault: credvault.Vault, user: str
) -> None:
    lossy.lose(1)
    with pytest.raises(credvault.AlreadyIssued) as raised:
        lossy_vault.credentials.CreateCredential(creation(user))
    error = raised.value
    assert error.metadata["name"] == f"{ACCOUNT}/credentials/{user}"
    assert error.metadata["version"] == "1"
    assert error.request_id
    assert error.may_have_happened
    assert "rotate it under a new request_id, with a `recipient`" in str(error)
    # It says the truth: the credential is there, and a rotation gives a password.
    rotation = credentials.RotateCredentialRequest(name=error.metadata["name"])
    assert vault.credentials.RotateCredential(rotation).issued.version == 2


def test_a_lost_token_says_what_to_do(lossy: Lossy, lossy_vault: credvault.Vault) -> None:
    request = access.CreateApiTokenRequest(parent=ACCOUNT, api_token=access.ApiToken(roles=[access.ROLE_READER]))
    lossy.lose(1)
    with pytest.raises(credvault.AlreadyIssued, match="revoke it and make another"):
        lossy_vault.access.CreateApiToken(request)


def test_a_read_is_asked_again_as_often_as_it_was_told(
    lossy: Lossy, lossy_vault: credvault.Vault, server: Server, credential: str
) -> None:
    lossy.lose(4)
    assert version_of(lossy_vault, credential) == 1
    assert lossy.lost == 4
    lossy.lose(4)
    with credvault.connect(lossy.address, token_file=server.token_file, attempts=3) as hasty:
        with pytest.raises(credvault.Unavailable) as raised:
            version_of(hasty, credential)
    assert lossy.lost == 3
    assert not raised.value.may_have_happened


def test_without_a_vault_a_call_ends_in_time(lossy: Lossy, lossy_vault: credvault.Vault, credential: str) -> None:
    request = credentials.RotateCredentialRequest(name=credential)
    lossy.lose(1000)
    with pytest.raises(credvault.Unavailable) as raised:
        lossy_vault.credentials.RotateCredential(request, timeout=0.5)
    assert raised.value.may_have_happened
    assert raised.value.reason == ""
    lossy.lose(0)
    # Going on is possible: the id that it had says that it was done.
    pending = credentials.RotateCredentialRequest(request_id=raised.value.request_id)
    pending.MergeFrom(request)
    with pytest.raises(credvault.AlreadyIssued):
        lossy_vault.credentials.RotateCredential(pending)


def test_a_connection_that_died_without_a_word_is_left(
    lossy: Lossy, server: Server, credential: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credvault._target, "_SILENCE_MS", 200)
    monkeypatch.setattr(credvault._target, "_PING_MS", 200)
    with credvault.connect(lossy.address, token_file=server.token_file) as vault:
        version_of(vault, credential)
        lossy.die()
        assert version_of(vault, credential) == 1


def test_a_check_that_uses_a_nonce_up_is_not_repeated(
    lossy: Lossy, lossy_vault: credvault.Vault, vault: credvault.Vault, user: str
) -> None:
    password = vault.credentials.CreateCredential(creation(user)).issued.password
    challenge = vault.use.IssueSipChallenge(use.IssueSipChallengeRequest(parent=ACCOUNT, realm=REALM))
    request = check(user, password, nonce=challenge.nonce, check_nonce=True)
    lossy.lose(1)
    with pytest.raises(credvault.Unavailable) as raised:
        lossy_vault.use.VerifySipDigest(request)
    assert raised.value.may_have_happened
    # Why: the vault has counted it.
    again = vault.use.VerifySipDigest(request)
    assert again.invalid_reason == use.INVALID_REASON_NONCE_REPLAYED


def test_a_check_that_uses_nothing_up_is_repeated(
    lossy: Lossy, lossy_vault: credvault.Vault, vault: credvault.Vault, user: str
) -> None:
    password = vault.credentials.CreateCredential(creation(user)).issued.password
    lossy.lose(1)
    assert lossy_vault.use.VerifySipDigest(check(user, password)).valid
    assert lossy.lost == 1


def test_what_can_be_repeated_follows_from_the_request() -> None:
    """Every method of the contract. A new one appears here, and is not repeated unless it is a read or has an id."""
    not_repeated = {
        "DeleteAccount",
        "DeleteRoleBinding",
        "DisableAccount",
        "EnableAccount",
        "MintTwilioAccessToken",
        "ResumeRotation",
        "RevokeApiToken",
        "RevokeRecipientKey",
        "SetRoleBinding",
        "UpdateAccessTokenPolicy",
        "UpdateDeliveryPolicy",
        "VerifyProvider",
    }
    found = {}
    for module in (
        access_service_pb2,
        audit_service_pb2,
        credential_service_pb2,
        provider_service_pb2,
        rotation_service_pb2,
        use_service_pb2,
    ):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                request: Message = getattr(module, method.input_type.name)()
                if not method.server_streaming:
                    found[method.name] = may_repeat(method.name, request)
    assert {name for name, repeated in found.items() if not repeated} == not_repeated
    assert found.keys() >= credvault._retry._HARMLESS, "a method is gone, or has another name"


def test_a_nonce_counts_in_a_batch_as_well() -> None:
    batch = use.BatchVerifySipDigestRequest(requests=[use.VerifySipDigestRequest()])
    assert may_repeat("BatchVerifySipDigest", batch)
    batch.requests.add(check_nonce=True)
    assert not may_repeat("BatchVerifySipDigest", batch)


class Status:
    """How a call ended, as gRPC has it."""

    def __init__(self, code: grpc.StatusCode, details: bytes = b"") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "so it ended"

    def trailing_metadata(self) -> list[tuple[str, bytes]]:
        return [("grpc-status-details-bin", self._details)]


def vaults_status(code: grpc.StatusCode, reason: str, retry_delay: float | None = None) -> Status:
    from google.rpc import error_details_pb2, status_pb2

    status = status_pb2.Status()
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="credvault"))
    if retry_delay is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(retry_delay * 1e9))
        status.details.add().Pack(retry)
    return Status(code, status.SerializeToString())


UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
DEADLINE, INTERNAL = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL
CANCELLED, DENIED = grpc.StatusCode.CANCELLED, grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("status", "waits"),
    [
        (Status(UNAVAILABLE), 0.05),
        (Status(DEADLINE), 0.05),
        (Status(INTERNAL), 0.05),
        (Status(CANCELLED), 0.05),
        (vaults_status(UNAVAILABLE, "STORAGE_UNAVAILABLE", 1.5), 1.5),
        (vaults_status(DEADLINE, "DEADLINE_EXCEEDED"), 0.05),
        (vaults_status(EXHAUSTED, "OVERLOADED", 1.0), 1.0),
        # Who asks too often has to know it; a carrier that sends nonsense sends it again.
        (vaults_status(EXHAUSTED, "RATE_LIMITED", 0.1), None),
        (vaults_status(UNAVAILABLE, "UPSTREAM_PROTOCOL"), None),
        (vaults_status(INTERNAL, "INTERNAL"), None),
        (vaults_status(UNAVAILABLE, "UPSTREAM_RATE_LIMITED", 60.0), None),
        (Status(EXHAUSTED), None),
        (vaults_status(CANCELLED, "ANY"), None),
    ],
)
def test_the_vault_says_when_to_come_again(status: Status, waits: float | None) -> None:
    request = credentials.GetCredentialRequest(name="n")
    attempts = credvault._retry.Attempts(
        "/credvault.v1.CredentialService/GetCredential", request, credvault._retry.Limits(10.0, 5), None
    )
    assert 0 < attempts.timeout() <= 10
    if waits is None:
        with pytest.raises(credvault.CallError):
            attempts.pause(status)
    else:
        assert waits <= attempts.pause(status) <= 2 * waits


@pytest.mark.parametrize(
    ("status", "may_have_happened"),
    [
        # Such as an answer that is too large for this end.
        (Status(EXHAUSTED), True),
        (Status(CANCELLED), True),
        (Status(DENIED), True),
        (Status(grpc.StatusCode.UNIMPLEMENTED), False),
        (vaults_status(EXHAUSTED, "RATE_LIMITED"), False),
        (vaults_status(DENIED, "ROLE_MISSING"), False),
        (vaults_status(UNAVAILABLE, "UPSTREAM_UNAVAILABLE"), True),
    ],
)
def test_what_the_vault_has_not_refused_may_have_happened(status: Status, may_have_happened: bool) -> None:
    for method, request, changes in (
        ("RotateCredential", credentials.RotateCredentialRequest(), True),
        ("GetCredential", credentials.GetCredentialRequest(), False),
    ):
        attempts = credvault._retry.Attempts(method, request, credvault._retry.Limits(10.0, 1), None)
        attempts.timeout()
        with pytest.raises(credvault.CallError) as raised:
            attempts.pause(status)
        assert raised.value.may_have_happened == (may_have_happened and changes)


def test_what_may_not_be_repeated_is_repeated_when_nothing_was_done() -> None:
    mint: Callable[[Status], float] = credvault._retry.Attempts(
        "MintTwilioAccessToken", use.MintTwilioAccessTokenRequest(), credvault._retry.Limits(10.0, 5), None
    ).pause
    assert mint(vaults_status(EXHAUSTED, "OVERLOADED", 1.0)) == 1.0
    with pytest.raises(credvault.Unavailable) as raised:
        mint(Status(UNAVAILABLE))
    assert raised.value.may_have_happened
