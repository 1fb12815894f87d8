"""The client for asyncio: the same policy, awaited."""

import asyncio
import gc

import grpc
import pytest
from twilio.request_validator import RequestValidator as Official

import credvault
import credvault.aio
from conftest import ACCOUNT, AUTH_TOKEN, Server, creation
from credvault.twilio import AsyncRequestValidator
from credvault.v1 import credential_service_pb2 as credentials
from harness import Lossy


def test_calls_retries_and_errors(server: Server, lossy: Lossy, user: str) -> None:
    async def calls() -> None:
        async with credvault.aio.connect(lossy.address, token_file=server.token_file) as vault:
            assert repr(vault) == f"Vault('{lossy.address}')"
            created = await vault.credentials.CreateCredential(creation(user))
            name = created.credential.name
            rotate = credentials.RotateCredentialRequest(name=name)
            rotate.recipient.hpke_public_key = bytes(range(32))
            lossy.lose(1)
            rotated = await vault.credentials.RotateCredential(rotate)
            assert (lossy.lost, rotated.sealed.version) == (1, 2)
            lossy.lose(1, reset=True)
            rotated = await vault.credentials.RotateCredential(rotate)
            assert (lossy.lost, rotated.sealed.version) == (1, 3)
            lossy.lose(1)
            with pytest.raises(credvault.AlreadyIssued):
                await vault.credentials.RotateCredential(credentials.RotateCredentialRequest(name=name))
            with pytest.raises(credvault.NotFound):
                await vault.credentials.GetCredential(credentials.GetCredentialRequest(name=f"{name}x"))

    asyncio.run(calls())


def test_a_watch(server: Server, credential: str) -> None:
    async def watch() -> None:
        async with credvault.aio.connect(server.address, token_file=server.token_file) as vault:
            told = []
            async for answer in vault.credentials.WatchCredentials(
                credentials.WatchCredentialsRequest(parent=ACCOUNT), timeout=30
            ):
                told.append(answer.credential.name)
                if answer.caught_up:
                    break
            assert credential in told
            with pytest.raises(credvault.InvalidArgument):
                async for _ in vault.credentials.WatchCredentials(
                    credentials.WatchCredentialsRequest(parent=ACCOUNT, resume_token="none")
                ):
                    pass

    asyncio.run(watch())


def test_a_cancel_stays_one(server: Server, lossy: Lossy, credential: str) -> None:
    async def cancel() -> None:
        async with credvault.aio.connect(lossy.address, token_file=server.token_file) as vault:
            await vault.credentials.GetCredential(credentials.GetCredentialRequest(name=credential))
            lossy.die()
            request = credentials.RotateCredentialRequest(name=credential)
            for end in (None, vault.close):
                call = asyncio.ensure_future(vault.credentials.RotateCredential(request))
                await asyncio.sleep(0.2)
                if end is None:
                    call.cancel()
                else:
                    await end()
                with pytest.raises(asyncio.CancelledError):
                    await call

    asyncio.run(cancel())


def test_a_vault_that_is_closed_between_two_attempts_hides_nothing(
    server: Server, lossy: Lossy, credential: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rotate() -> None:
        vault = credvault.aio.connect(lossy.address, token_file=server.token_file)

        async def close(_: float) -> None:
            await vault.close()

        monkeypatch.setattr("asyncio.sleep", close)
        lossy.lose(1)
        with pytest.raises(credvault.Unavailable) as raised:
            await vault.credentials.RotateCredential(credentials.RotateCredentialRequest(name=credential))
        assert raised.value.may_have_happened

    asyncio.run(rotate())


def test_a_webhook(server: Server, provider: str) -> None:
    url, params = "https://example.com/voice", {"CallSid": "CA1"}
    signature = Official(AUTH_TOKEN).compute_signature(url, params)

    async def ask() -> None:
        async with credvault.aio.connect(server.address, token_file=server.token_file) as vault:
            validator = AsyncRequestValidator(vault, provider)
            assert await validator.validate(url, params, signature)
            assert not await validator.validate(url, {}, signature)
            assert not await validator.validate(url, params, signature, "HMAC_SHA256")
            assert (await validator.check(url, params, signature)).version == 1

    asyncio.run(ask())


def test_a_verdict_that_is_not_awaited_is_none(server: Server, provider: str) -> None:
    async def ask() -> None:
        async with credvault.aio.connect(server.address, token_file=server.token_file) as vault:
            validator = AsyncRequestValidator(vault, provider)
            for taken in (bool, lambda it: not it, lambda it: it and it, lambda it: 1 if it else 0):
                with pytest.raises(TypeError, match="write `await"):
                    taken(validator.validate("https://example.com/voice", {}, "wrong"))
            gc.collect()  # Nor is there a warning, which would be an error here.
            # What takes an awaitable takes it.
            verdicts = [validator.validate("https://example.com/voice", {}, "wrong") for _ in range(2)]
            assert not any(await asyncio.gather(verdicts[0], asyncio.wait_for(verdicts[1], 10)))

    asyncio.run(ask())


def test_a_vault_that_is_away(server: Server) -> None:
    async def ask() -> None:
        async with credvault.aio.connect("127.0.0.1:1", token_file=server.token_file) as vault:
            with pytest.raises(credvault.Unavailable) as raised:
                await vault.credentials.ListCredentials(credentials.ListCredentialsRequest(parent=ACCOUNT), timeout=0.1)
            assert raised.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

    asyncio.run(ask())
