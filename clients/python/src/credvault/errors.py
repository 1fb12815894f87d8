"""What goes wrong, by what a caller can do about it.

Everything is an `Error`. What a call ends with is a `CallError`; its class follows the gRPC code, and `reason` says
more. No error holds a secret: its text is the vault's own, which repeats none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

_DOMAIN = "credvault"
_DETAILS = "grpc-status-details-bin"


class Error(Exception):
    """Everything that this package raises but mistakes in arguments, which are ValueError and TypeError."""


class OpenError(Error):
    """A sealed secret that does not open: it is for another key, or something in it was changed."""


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request that the vault does not accept."""

    field: str
    """Its path, such as `credential.username`."""
    description: str
    """What it should be."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended: what a `CallError` tells, in one value."""

    method: str
    """The method's name, such as `RotateCredential`."""
    code: grpc.StatusCode
    """The gRPC code."""
    message: str
    """What it means, for people."""
    reason: str = ""
    """The vault's reason, such as `ROLE_MISSING`. Empty: it was not a vault that said so."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What belongs to the reason, for programs."""
    field_violations: tuple[FieldViolation, ...] = ()
    """Which fields are wrong."""
    retry_delay: float | None = None
    """In how many seconds to come back. None: that does not help, or nobody said."""
    request_id: str = ""
    """The id that the request had, its own or one from here. Send it again with the same request to go on."""
    may_have_happened: bool = False
    """Whether the call may have been carried out all the same. False for calls that change nothing."""


class CallError(Error):
    """A call that was not answered with what was asked for."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.method = outcome.method
        self.code = outcome.code
        self.message = outcome.message
        self.reason = outcome.reason
        self.metadata = outcome.metadata
        self.field_violations = outcome.field_violations
        self.retry_delay = outcome.retry_delay
        self.request_id = outcome.request_id
        self.may_have_happened = outcome.may_have_happened

    def __str__(self) -> str:
        return f"{self.method}: {self.message} ({self.reason or self.code.name})"


class InvalidArgument(CallError):
    """The request cannot be meant so: `field_violations` says where."""


class Unauthenticated(CallError):
    """The vault does not know this caller: no token, or one that is wrong, expired or revoked."""


class PermissionDenied(CallError):
    """The caller has no role for this."""


class NotFound(CallError):
    """There is no such thing, or not for this caller."""


class Conflict(CallError):
    """Somebody was there before: the name is taken, the etag old, a rotation under way. Read, and decide again."""


class FailedPrecondition(CallError):
    """Not as things are: the carrier refuses, the state forbids it, the account is disabled."""


class AlreadyIssued(FailedPrecondition):
    """The password or token of this request was in an answer before, and is in no other.

    If that answer was lost, nobody has the secret: rotate the credential under a new request_id, and name a
    `recipient`, whose sealed answer comes again. Of an API token, revoke it and make another. `metadata["name"]` says
    which it is.
    """

    def __str__(self) -> str:
        do = "rotate it under a new request_id, with a `recipient`, whose sealed answer comes again"
        if "apiTokens/" in self.metadata.get("name", ""):
            do = "revoke it and make another"
        return f"{super().__str__()}; if that answer was lost, nobody has the secret: {do}"


class ResourceExhausted(CallError):
    """Too much, too often or too large; or the vault's disk is full. `retry_delay` says whether waiting helps."""


class Unavailable(CallError):
    """No answer: the vault is not there, the answer was lost, the call cut off, or the vault or a carrier too slow.

    `may_have_happened` says whether the call may have been carried out.
    """


_CLASSES: dict[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
}

# A vault gives a reason with each of its errors. One of these without a reason comes from on the way: a proxy that
# resets a call cancels it, and so does `close` in another thread.
_FROM_ON_THE_WAY = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)


class Status(Protocol):
    """The part of `grpc.RpcError` that both kinds of channel have."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def outcome_of(method: str, status: Status) -> Outcome:
    """What a gRPC status says, with its `google.rpc` details."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in _details(status):
        for known in (info, bad, retry):
            detail.Unpack(known)
    is_ours = info.domain == _DOMAIN
    delay = retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None
    return Outcome(
        method=method,
        code=status.code(),
        message=status.details() or "no answer",
        reason=info.reason if is_ours else "",
        metadata=dict(info.metadata) if is_ours else {},
        field_violations=tuple(FieldViolation(it.field, it.description) for it in bad.field_violations),
        retry_delay=delay,
    )


def is_unanswered(outcome: Outcome) -> bool:
    """Whether nobody knows what became of the call: the answer is lost, or says so itself."""
    if outcome.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return True
    return not outcome.reason and outcome.code in _FROM_ON_THE_WAY


def is_open(outcome: Outcome) -> bool:
    """Whether a call may have been carried out, for all that its end says: it does not come from the vault.

    Such as an answer that is too large for this end, or that somebody on the way held back. A method that is not there
    is not carried out.
    """
    if is_unanswered(outcome):
        return True
    return not outcome.reason and outcome.code != grpc.StatusCode.UNIMPLEMENTED


def error_of(outcome: Outcome) -> CallError:
    """The error of an outcome."""
    if outcome.reason == "SECRET_ALREADY_ISSUED":
        return AlreadyIssued(outcome)
    if is_unanswered(outcome):
        return Unavailable(outcome)
    return _CLASSES.get(outcome.code, CallError)(outcome)


def _details(status: Status) -> Sequence[any_pb2.Any]:
    for key, value in status.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            details: Sequence[any_pb2.Any] = status_pb2.Status.FromString(value).details
            return details
    return ()
