"""Calls of the contract, and what they raise."""

import pickle
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

import credvault
from conftest import ACCOUNT, Server, creation
from credvault.v1 import access_service_pb2 as access
from credvault.v1 import credential_service_pb2 as credentials
from harness import Lossy


def test_an_issued_password_verifies_and_another_does_not(
    vault: credvault.Vault, user: str, verifies: Callable[[str, str], bool]
) -> None:
    response = vault.credentials.CreateCredential(creation(user))
    assert response.credential.name == f"{ACCOUNT}/credentials/{user}"
    assert verifies(user, response.issued.password)
    assert not verifies(user, response.issued.password + "x")


def test_every_service_of_the_contract_is_there_with_every_call(vault: credvault.Vault) -> None:
    from credvault.v1 import audit_service_pb2, provider_service_pb2, rotation_service_pb2, use_service_pb2

    for module, stub in (
        (access, vault.access),
        (audit_service_pb2, vault.audit),
        (credentials, vault.credentials),
        (provider_service_pb2, vault.providers),
        (rotation_service_pb2, vault.rotations),
        (use_service_pb2, vault.use),
    ):
        (service,) = module.DESCRIPTOR.services_by_name.values()
        assert {method.name for method in service.methods} == set(vars(stub))


def test_a_wrong_field_is_named(vault: credvault.Vault, user: str) -> None:
    request = creation(user)
    request.credential.username = "two words"
    with pytest.raises(credvault.InvalidArgument) as raised:
        vault.credentials.CreateCredential(request)
    error = raised.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    (violation,) = error.field_violations
    assert violation.field == "credential.username"
    assert "ASCII" in violation.description
    assert (error.retry_delay, error.may_have_happened) == (None, False)
    assert str(error).startswith("CreateCredential: ")
    assert str(error).endswith("(INVALID_FIELD)")


def test_what_is_not_there_is_not_found(vault: credvault.Vault) -> None:
    name = f"{ACCOUNT}/credentials/nobody"
    with pytest.raises(credvault.NotFound) as raised:
        vault.credentials.GetCredential(credentials.GetCredentialRequest(name=name))
    assert raised.value.reason == "NOT_FOUND"
    assert name in raised.value.message


def test_who_was_first_wins(vault: credvault.Vault, credential: str, user: str) -> None:
    with pytest.raises(credvault.Conflict) as raised:
        vault.credentials.CreateCredential(creation(user))
    assert raised.value.reason == "ALREADY_EXISTS"
    request = credentials.DeleteCredentialRequest(name=credential, etag='"0.0"')
    with pytest.raises(credvault.Conflict) as raised:
        vault.credentials.DeleteCredential(request)
    assert raised.value.reason == "ETAG_MISMATCH"


def token_with(vault: credvault.Vault, role: access.Role.ValueType) -> access.CreateApiTokenResponse:
    request = access.CreateApiTokenRequest(parent=ACCOUNT, api_token=access.ApiToken(roles=[role]))
    return vault.access.CreateApiToken(request)


def test_a_wrong_role_is_no_permission(vault: credvault.Vault, server: Server, credential: str) -> None:
    made = token_with(vault, access.ROLE_READER)
    with credvault.connect(server.address, token=credvault.Secret(made.token)) as reader:
        assert reader.credentials.GetCredential(credentials.GetCredentialRequest(name=credential))
        with pytest.raises(credvault.PermissionDenied) as raised:
            reader.credentials.RotateCredential(credentials.RotateCredentialRequest(name=credential))
    assert raised.value.reason == "ROLE_MISSING"


def test_a_token_file_is_read_again_when_it_changes(vault: credvault.Vault, server: Server, tmp_path: Path) -> None:
    first, second = token_with(vault, access.ROLE_READER), token_with(vault, access.ROLE_READER)
    file = tmp_path / "a.token"
    file.write_text(f"{first.token}\n")
    lists = credentials.ListCredentialsRequest(parent=ACCOUNT)
    with credvault.connect(server.address, token_file=file) as reader:
        reader.credentials.ListCredentials(lists)
        vault.access.RevokeApiToken(access.RevokeApiTokenRequest(name=first.api_token.name))
        with pytest.raises(credvault.Unauthenticated):
            reader.credentials.ListCredentials(lists)
        file.write_text(second.token)
        reader.credentials.ListCredentials(lists)


def test_a_caller_without_a_token_is_nobody(server: Server) -> None:
    with credvault.connect(server.address) as nobody, pytest.raises(credvault.Unauthenticated):
        nobody.credentials.ListCredentials(credentials.ListCredentialsRequest(parent=ACCOUNT))


def test_a_watch_tells_what_is_there_and_ends_when_it_is_cancelled(vault: credvault.Vault, credential: str) -> None:
    watch = vault.credentials.WatchCredentials(credentials.WatchCredentialsRequest(parent=ACCOUNT), timeout=30)
    told = []
    for answer in watch:
        if answer.caught_up:
            break
        told.append(answer.credential.name)
    assert credential in told
    watch.cancel()
    with pytest.raises(credvault.CallError) as raised:
        next(iter(watch))
    assert raised.value.code == grpc.StatusCode.CANCELLED
    # After which nobody is to watch again.
    assert not isinstance(raised.value, credvault.Unavailable)


def test_a_watch_that_a_proxy_cancels_can_go_on(lossy: Lossy, lossy_vault: credvault.Vault) -> None:
    lossy.lose(1, reset=True)
    watch = lossy_vault.credentials.WatchCredentials(credentials.WatchCredentialsRequest(parent=ACCOUNT), timeout=30)
    with pytest.raises(credvault.Unavailable) as raised:
        for _ in watch:
            pass
    assert raised.value.code == grpc.StatusCode.CANCELLED


def test_a_watch_raises_the_errors_of_calls(vault: credvault.Vault) -> None:
    watch = vault.credentials.WatchCredentials(
        credentials.WatchCredentialsRequest(parent=ACCOUNT, resume_token="none of the vault's")
    )
    with pytest.raises(credvault.InvalidArgument) as raised:
        next(iter(watch))
    assert raised.value.field_violations[0].field == "resume_token"


def test_errors_pass_between_processes(vault: credvault.Vault) -> None:
    with pytest.raises(credvault.NotFound) as raised:
        vault.credentials.GetCredential(credentials.GetCredentialRequest(name=f"{ACCOUNT}/credentials/nobody"))
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (type(copy), str(copy), copy.reason) == (credvault.NotFound, str(raised.value), "NOT_FOUND")
