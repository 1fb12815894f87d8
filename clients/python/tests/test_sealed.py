"""Sealed passwords: opened here, confirmed with a proof, and not opened when anything is otherwise."""

import pickle
from collections.abc import Callable

import pytest

import credvault
from conftest import ACCOUNT, creation
from credvault.sealed import PrivateKey, Secret
from credvault.v1 import access_service_pb2 as access
from credvault.v1 import credential_service_pb2 as credentials
from credvault.v1 import rotation_service_pb2 as rotations
from harness import Lossy

Verifies = Callable[[str, str], bool]


def sealed_for(vault: credvault.Vault, credential: str, key: PrivateKey) -> rotations.SealedSecret:
    request = credentials.RotateCredentialRequest(name=credential, recipient=key.recipient)
    return vault.credentials.RotateCredential(request).sealed


def test_a_rotation_is_opened_and_confirmed_though_both_answers_are_lost(
    lossy: Lossy, lossy_vault: credvault.Vault, vault: credvault.Vault, user: str, verifies: Verifies
) -> None:
    created = vault.credentials.CreateCredential(creation(user))
    key = PrivateKey.generate()
    request = credentials.RotateCredentialRequest(
        name=created.credential.name, recipient=key.recipient, require_confirmation=True
    )
    lossy.lose(1)
    rotated = lossy_vault.credentials.RotateCredential(request)
    assert lossy.lost == 1
    assert not rotated.HasField("issued")
    password = key.open(rotated.sealed, created.credential.name)
    # Both verify, until the new one is confirmed.
    assert verifies(user, password.reveal())
    assert verifies(user, created.issued.password)
    kept = vault.rotations.GetRotation(rotations.GetRotationRequest(name=rotated.rotation.name))
    assert key.open(kept.sealed) == password
    confirm = rotations.ConfirmRotationRequest(name=rotated.rotation.name, proof=password.proof(rotated.rotation.name))
    lossy.lose(1)
    confirmed = lossy_vault.rotations.ConfirmRotation(confirm)
    assert lossy.lost == 1
    assert confirmed.rotation.state == rotations.ROTATION_STATE_SUCCEEDED
    assert verifies(user, password.reveal())
    assert not verifies(user, created.issued.password)


def test_a_proof_of_another_password_or_rotation_confirms_nothing(vault: credvault.Vault, credential: str) -> None:
    key = PrivateKey.generate()
    request = credentials.RotateCredentialRequest(name=credential, recipient=key.recipient, require_confirmation=True)
    rotated = vault.credentials.RotateCredential(request)
    password, name = key.open(rotated.sealed), rotated.rotation.name
    for proof in (Secret("another").proof(name), password.proof(f"{name}x")):
        with pytest.raises(credvault.CallError):
            vault.rotations.ConfirmRotation(rotations.ConfirmRotationRequest(name=name, proof=proof))


def test_an_enrolled_key_opens_too(vault: credvault.Vault, user: str, verifies: Verifies) -> None:
    key = PrivateKey.generate()
    enrolled = vault.access.CreateRecipientKey(
        access.CreateRecipientKeyRequest(
            parent=ACCOUNT,
            recipient_key=access.RecipientKey(public_key=key.public_key, display_name="the registrar"),
        )
    ).recipient_key
    request = creation(user)
    request.recipient.recipient_key = enrolled.name
    sealed = vault.credentials.CreateCredential(request).sealed
    assert sealed.public_key_sha256 == enrolled.public_key_sha256
    kept = PrivateKey.parse(key.reveal() + "\n")
    assert verifies(user, kept.open(sealed).reveal())


def test_nothing_opens_that_was_changed(vault: credvault.Vault, credential: str) -> None:
    key = PrivateKey.generate()
    sealed = sealed_for(vault, credential, key)
    assert key.open(sealed, credential).reveal()

    def changed(change: Callable[[rotations.SealedSecret], None]) -> rotations.SealedSecret:
        copy = rotations.SealedSecret()
        copy.CopyFrom(sealed)
        change(copy)
        assert copy != sealed
        return copy

    def set_field(name: str, value: object) -> Callable[[rotations.SealedSecret], None]:
        return lambda copy: setattr(copy, name, value)

    def set_time(seconds: int) -> Callable[[rotations.SealedSecret], None]:
        return lambda copy: setattr(copy.expire_time, "seconds", seconds)

    changes = [
        set_field("credential", f"{credential}x"),
        set_field("version", 99),
        set_field("request_id", "another"),
        set_field("encapsulated_key", b""),
        set_field("encapsulated_key", bytes(32)),
        set_field("encapsulated_key", sealed.encapsulated_key[::-1]),
        set_field("ciphertext", b""),
        set_field("ciphertext", sealed.ciphertext[:-1]),
        lambda copy: copy.expire_time.FromSeconds(sealed.expire_time.seconds + 1),
        lambda copy: copy.ClearField("expire_time"),
        lambda copy: setattr(copy.expire_time, "nanos", 1),
        lambda copy: setattr(copy.expire_time, "nanos", -1),
        *(set_time(seconds) for seconds in (253_402_300_800, -62_135_596_801, 2**63 - 1, -(2**63))),
    ]
    for change in changes:
        with pytest.raises(credvault.OpenError, match="does not open"):
            key.open(changed(change))
    with pytest.raises(credvault.OpenError, match="sealed for the key"):
        PrivateKey.generate().open(sealed)
    with pytest.raises(credvault.OpenError, match="not of accounts/dev/credentials/other"):
        key.open(sealed, f"{ACCOUNT}/credentials/other")


@pytest.mark.parametrize("line", ["", "AAAA", "not base64!", "A" * 44, "ü"])
def test_what_is_no_key_is_refused_without_being_shown(line: str) -> None:
    with pytest.raises(ValueError, match="one line of base64, 44 characters") as raised:
        PrivateKey.parse(line)
    assert raised.value.__suppress_context__


def test_secrets_are_not_shown() -> None:
    key, password = PrivateKey.generate(), Secret("hunter2-hunter2")
    for hidden, value in ((key, key.reveal()), (password, password.reveal())):
        for shown in (repr(hidden), str(hidden), f"{hidden}", f"{hidden!r}", repr([hidden]), "%s" % hidden):  # noqa: UP031
            assert value not in shown
            assert "…" in shown
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(hidden)
    with pytest.raises(TypeError, match="unhashable"):
        hash(password)
    assert password == Secret("hunter2-hunter2")
    assert password != Secret("hunter3-hunter3")
    assert password != "hunter2-hunter2"
