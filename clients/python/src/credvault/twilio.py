"""Twilio's webhooks, checked by the vault: a `RequestValidator` that takes the place of that in Twilio's own library.

The Auth Token stays in the vault, so nothing here computes a signature.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from credvault.v1.use_service_pb2 import (
    VerifyTwilioWebhookRequest,
    VerifyTwilioWebhookResponse,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable, Iterator

    from credvault._client import Vault
    from credvault.aio import Vault as AsyncVault

__all__ = ["AsyncRequestValidator", "RequestValidator"]

_LOG = logging.getLogger(__name__)
_HMAC_SHA1 = "HMAC_SHA1"

# Twilio waits 15 s for an answer, of which the application needs some.
_TIMEOUT = 5.0


class Fields(Protocol):
    """The fields of a form: a dict, or what Flask, Django, Starlette and aiohttp have in its place."""

    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, name: str, /) -> Any: ...


class RequestValidator:
    """Whether Twilio made a request, in the way of `twilio.request_validator.RequestValidator`.

    `provider` is the provider of the Twilio account, `accounts/{account}/providers/{provider}`. The caller needs the
    role `verifier`. `timeout` is how long to wait for the vault, with retries, in seconds.
    """

    def __init__(self, vault: Vault, provider: str, *, timeout: float = _TIMEOUT) -> None:
        self._vault = vault
        self._provider = provider
        self._timeout = timeout

    def validate(
        self,
        uri: str,
        params: Fields | str | bytes | None,
        signature: str | None,
        algorithm: str | None = None,
    ) -> bool:
        """Whether Twilio made this request. `params` is the form, or the body of a request that has none.

        Raises CallError when there is no verdict, above all Unavailable: a vault that is away has said neither yes nor
        no. Answer the request with 503 then, and Twilio takes its fallback URL, if you gave it one.

        `algorithm` is as in Twilio's library. The vault knows that of Auth Tokens only, HMAC_SHA1: for any other the
        answer is False, with a warning in the log, as theirs is for one that it does not know.
        """
        return _is_known(algorithm) and self.check(uri, params, signature).valid

    def check(
        self, uri: str, params: Fields | str | bytes | None, signature: str | None
    ) -> VerifyTwilioWebhookResponse:
        """The vault's whole answer: `fault` says what is wrong, `version` and `version_state` which token signed.

        Raises as `validate` does.
        """
        request = _request(self._provider, uri, params, signature)
        return self._vault.use.VerifyTwilioWebhook(request, timeout=self._timeout)


class AsyncRequestValidator:
    """`RequestValidator` with a vault of `credvault.aio`: its two methods are awaited."""

    def __init__(self, vault: AsyncVault, provider: str, *, timeout: float = _TIMEOUT) -> None:
        self._vault = vault
        self._provider = provider
        self._timeout = timeout

    def validate(
        self,
        uri: str,
        params: Fields | str | bytes | None,
        signature: str | None,
        algorithm: str | None = None,
    ) -> _Verdict:
        """As `RequestValidator.validate`. Not awaited, it raises TypeError where it is taken for the verdict."""
        return _Verdict(self._validate(uri, params, signature, algorithm))

    async def _validate(
        self, uri: str, params: Fields | str | bytes | None, signature: str | None, algorithm: str | None
    ) -> bool:
        return _is_known(algorithm) and (await self.check(uri, params, signature)).valid

    async def check(
        self, uri: str, params: Fields | str | bytes | None, signature: str | None
    ) -> VerifyTwilioWebhookResponse:
        """As `RequestValidator.check`."""
        request = _request(self._provider, uri, params, signature)
        return await self._vault.use.VerifyTwilioWebhook(request, timeout=self._timeout)


class _Verdict:
    """A verdict to await. A coroutine in its place would be true, whoever made the request."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, bool]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, bool]:
        return self._coroutine.__await__()

    def __bool__(self) -> NoReturn:
        self._coroutine.close()
        raise TypeError("there is no verdict yet: write `await validator.validate(…)`")


def _is_known(algorithm: str | None) -> bool:
    known = (algorithm or _HMAC_SHA1).upper() == _HMAC_SHA1
    if not known:
        # Not with its name, which comes from the request.
        _LOG.warning("a webhook is signed in a way that the vault does not know: only HMAC_SHA1 is")
    return known


def _request(
    provider: str, uri: str, params: Fields | str | bytes | None, signature: str | None
) -> VerifyTwilioWebhookRequest:
    request = VerifyTwilioWebhookRequest(name=provider, url=uri, signature=signature or "")
    if not params:
        return request  # An empty body and an empty form are none, as with a GET.
    if isinstance(params, str | bytes):
        request.body = params.encode() if isinstance(params, str) else params
    else:
        for name in set(params):
            for value in _values(params, name):
                request.form.fields.add(name=name, value=value)
    return request


def _values(params: Any, name: str) -> Iterable[str]:
    """All values of a name: aiohttp has `getall`; Flask, Django and Starlette have `getlist`; a dict has one."""
    for many in ("getall", "getlist"):
        if hasattr(params, many):
            values: Iterable[str] = getattr(params, many)(name)
            return values
    return [params[name]]
