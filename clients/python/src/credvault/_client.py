"""The client for threads."""

import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, cast

import grpc

from credvault._retry import Attempts, Limits, end_of_stream
from credvault._secret import Secret
from credvault._target import Metadata, Target, Token, credentials
from credvault.v1.access_service_pb2_grpc import AccessServiceStub
from credvault.v1.audit_service_pb2_grpc import AuditServiceStub
from credvault.v1.credential_service_pb2_grpc import CredentialServiceStub
from credvault.v1.provider_service_pb2_grpc import ProviderServiceStub
from credvault.v1.rotation_service_pb2_grpc import RotationServiceStub
from credvault.v1.use_service_pb2_grpc import UseServiceStub


class Vault:
    """A vault to call, as one caller: what `connect` returns. Threads may share it.

    Each attribute is a service of the contract. A call takes the request of its method, and `timeout` in seconds if it
    is to differ; it returns the response, or raises a `CallError`.
    """

    access: AccessServiceStub
    """Accounts, API tokens, role bindings, recipient keys, policies."""
    audit: AuditServiceStub
    """What was done."""
    credentials: CredentialServiceStub
    """SIP usernames and their passwords."""
    providers: ProviderServiceStub
    """Accounts at carriers, with their tokens."""
    rotations: RotationServiceStub
    """Rotations that outlive the call that began them."""
    use: UseServiceStub
    """Secrets at work: digests, webhooks, access tokens."""

    def __init__(self, address: str, channel: grpc.Channel, token: Token, limits: Limits) -> None:
        """Use `connect`."""
        self._address = address
        self._channel = channel
        # It has what stubs ask of a channel.
        calls = cast("grpc.Channel", _Calls(channel, token, limits))
        self.access = AccessServiceStub(calls)
        self.audit = AuditServiceStub(calls)
        self.credentials = CredentialServiceStub(calls)
        self.providers = ProviderServiceStub(calls)
        self.rotations = RotationServiceStub(calls)
        self.use = UseServiceStub(calls)

    def close(self) -> None:
        """Ends the connection, and the calls on it, with `Unavailable`."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
    """Leads to the vault at `address`. It connects with the first call.

    `address` is `https://HOST:PORT`, `unix:PATH`, or on this machine `HOST:PORT` of a loopback address; any other is
    refused without TLS, since a token goes over no network unencrypted.

    The caller shows a `token`, or that of `token_file`, which is read again whenever the file changes; or the
    certificate of `client_cert_file` with `client_key_file` (PEM, read once). `ca_file` (PEM) holds the authorities
    that vouch for the vault, in place of those that gRPC brings.

    `timeout` is how long a call may take in all, in seconds, and `attempts` how often it is made at most. A call with a
    `request_id` is repeated, and so is one that changes nothing: the README says more.

    Raises ValueError for an address, a token or files that cannot be meant so, and OSError for a file that cannot be
    read; so does a call, of the `token_file`.
    """
    target = Target(address)
    caller = Token(token, token_file)
    secure = credentials(target, ca_file, client_cert_file, client_key_file)
    if secure is None:
        channel = grpc.insecure_channel(target.name, target.options)
    else:
        channel = grpc.secure_channel(target.name, secure, target.options)
    return Vault(address, channel, caller, Limits(timeout, attempts))


class _Calls:
    """What stubs make their methods of: those of a channel, with the caller's token, retries, and our errors."""

    def __init__(self, channel: grpc.Channel, token: Token, limits: Limits) -> None:
        self._channel = channel
        self._token = token
        self._limits = limits

    def unary_unary(self, method: str, *args: Any, **options: Any) -> "_Unary":
        inner = self._channel.unary_unary(method, *args, **options)
        return _Unary(method, inner, self._token, self._limits)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Callable[..., "_Answers"]:
        inner = self._channel.unary_stream(method, *args, **options)

        def call(
            request: Any, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
        ) -> _Answers:
            answers = inner(request, timeout=timeout, metadata=(*self._token.metadata(), *(metadata or ())), **options)
            return _Answers(method, answers)

        return call


class _Unary:
    """A method with one answer."""

    def __init__(self, method: str, inner: Any, token: Token, limits: Limits) -> None:
        self._method = method
        self._inner = inner
        self._token = token
        self._limits = limits

    def __call__(self, request: Any, *args: Any, **options: Any) -> Any:
        response, _ = self.with_call(request, *args, **options)
        return response

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Metadata | None = None, **options: Any
    ) -> tuple[Any, grpc.Call]:
        attempts = Attempts(self._method, request, self._limits, timeout)
        while True:
            try:
                answer: tuple[Any, grpc.Call] = self._inner.with_call(
                    attempts.request,
                    timeout=attempts.timeout(),
                    metadata=(*self._token.metadata(), *(metadata or ())),
                    **options,
                )
                return answer
            except grpc.RpcError as error:
                end = error
            except (OSError, ValueError):
                # The channel is closed, or the file of the token is gone.
                if attempts.last is None:
                    raise
                raise attempts.last from None
            # Out here, so that what it raises does not lead to gRPC's frames, which have the token.
            time.sleep(attempts.pause(cast("Any", end)))

    def future(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("call it in a thread, or use credvault.aio")


class _Answers:
    """The answers of a method with many. What else a call has (`cancel`, `code`) is gRPC's."""

    def __init__(self, method: str, inner: Any) -> None:
        self._method = method
        self._inner = inner

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._inner)
        except grpc.RpcError as error:
            raise end_of_stream(self._method, cast("Any", error), self._inner.cancelled()) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
