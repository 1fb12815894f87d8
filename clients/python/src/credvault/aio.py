"""The client for asyncio: the same calls, awaited.

async with credvault.aio.connect(…) as vault:
    response = await vault.credentials.GetCredential(…)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, cast

import grpc

from credvault._retry import Attempts, Limits, end_of_stream
from credvault._target import Metadata, Target, Token, credentials
from credvault.v1.access_service_pb2_grpc import AccessServiceStub
from credvault.v1.audit_service_pb2_grpc import AuditServiceStub
from credvault.v1.credential_service_pb2_grpc import CredentialServiceStub
from credvault.v1.provider_service_pb2_grpc import ProviderServiceStub
from credvault.v1.rotation_service_pb2_grpc import RotationServiceStub
from credvault.v1.use_service_pb2_grpc import UseServiceStub

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from credvault._secret import Secret
    from credvault.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from credvault.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from credvault.v1.credential_service_pb2_grpc import CredentialServiceAsyncStub
    from credvault.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub
    from credvault.v1.rotation_service_pb2_grpc import RotationServiceAsyncStub
    from credvault.v1.use_service_pb2_grpc import UseServiceAsyncStub

__all__ = ["Vault", "connect"]


class Vault:
    """A vault to call from one event loop, as one caller: `credvault.Vault` with calls to await."""

    access: AccessServiceAsyncStub
    audit: AuditServiceAsyncStub
    credentials: CredentialServiceAsyncStub
    providers: ProviderServiceAsyncStub
    rotations: RotationServiceAsyncStub
    use: UseServiceAsyncStub

    def __init__(self, address: str, channel: grpc.aio.Channel, token: Token, limits: Limits) -> None:
        """Use `connect`."""
        self._address = address
        self._channel = channel
        # It has what stubs ask of a channel.
        calls = cast("grpc.aio.Channel", _Calls(channel, token, limits))
        self.access = AccessServiceStub(calls)
        self.audit = AuditServiceStub(calls)
        self.credentials = CredentialServiceStub(calls)
        self.providers = ProviderServiceStub(calls)
        self.rotations = RotationServiceStub(calls)
        self.use = UseServiceStub(calls)

    async def close(self) -> None:
        """Ends the connection, and the calls on it, with `asyncio.CancelledError`."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Vault({self._address!r})"


def connect(
    address: str,
    *,
    token: str | Secret | None = None,
    token_file: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    client_cert_file: str | os.PathLike[str] | None = None,
    client_key_file: str | os.PathLike[str] | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
) -> Vault:
    """Leads to the vault at `address`, as `credvault.connect` does. Call it within the event loop."""
    target = Target(address)
    caller = Token(token, token_file)
    secure = credentials(target, ca_file, client_cert_file, client_key_file)
    if secure is None:
        channel = grpc.aio.insecure_channel(target.name, target.options)
    else:
        channel = grpc.aio.secure_channel(target.name, secure, target.options)
    return Vault(address, channel, caller, Limits(timeout, attempts))


class _Calls:
    """What stubs make their methods of: those of a channel, with the caller's token, retries, and our errors."""

    def __init__(self, channel: grpc.aio.Channel, token: Token, limits: Limits) -> None:
        self._channel = channel
        self._token = token
        self._limits = limits

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Callable[..., Any]:
        inner: Any = self._channel.unary_unary(method, *args, **options)

        async def call(
            request: Any, *, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
        ) -> Any:
            attempts = Attempts(method, request, self._limits, timeout)
            while True:
                try:
                    return await inner(
                        attempts.request,
                        timeout=attempts.timeout(),
                        metadata=(*self._token.metadata(), *(metadata or ())),
                        **options,
                    )
                except grpc.aio.AioRpcError as error:
                    end = error
                except (OSError, ValueError, grpc.aio.UsageError):
                    # The channel is closed, or the file of the token is gone.
                    if attempts.last is None:
                        raise
                    raise attempts.last from None
                # Out here, so that what it raises does not lead to gRPC's frames, which have the token.
                await asyncio.sleep(attempts.pause(cast("Any", end)))

        return call

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Callable[..., _Answers]:
        inner: Any = self._channel.unary_stream(method, *args, **options)

        def call(
            request: Any, *, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
        ) -> _Answers:
            answers = inner(request, timeout=timeout, metadata=(*self._token.metadata(), *(metadata or ())), **options)
            return _Answers(method, answers)

        return call


class _Answers:
    """The answers of a method with many. What else a call has (`cancel`, `code`) is gRPC's."""

    def __init__(self, method: str, inner: Any) -> None:
        self._method = method
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for answer in self._inner:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise end_of_stream(self._method, cast("Any", error)) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
