"""Whether a call is made again, and when: one policy for threads and for asyncio. It neither waits nor calls itself."""

import random
import time
import uuid
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from credvault.errors import CallError, Status, error_of, is_open, is_unanswered, outcome_of

# The vault gives up after 8 s by itself, and says so.
_ATTEMPT_TIMEOUT = 10.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_CHANCE = random.SystemRandom()

# Methods without a request_id that change nothing, or whose repetition the contract says changes nothing, beside those
# that begin with Get and List. What is not named here is not repeated, so a new method is safe before it is quick.
_HARMLESS = frozenset(
    {
        "BatchVerifySipDigest",
        "CancelRotation",
        "ComputeSipDigest",
        "ConfirmRotation",
        "IssueSipChallenge",
        "VerifySipDigest",
        "VerifyTwilioWebhook",
    }
)


@dataclass(frozen=True)
class Limits:
    """How long and how often a call is tried."""

    timeout: float
    """In all, in seconds, with pauses, unless the call says otherwise."""
    attempts: int
    """How often at most. 1: never again."""


class Attempts:
    """One call on its way, with all its attempts.

    - A request with a `request_id` may be sent again; if it has none it gets one, once, which every attempt keeps.
    - A read may be sent again, and a check, unless it uses a nonce count up.
    - Sent again is what nobody answered, and what the vault says to send again. A refusal is one at once, also that of
      a caller who asks too often: he alone knows what can wait.
    """

    def __init__(self, method: str, request: Message, limits: Limits, timeout: float | None) -> None:
        self._method = method.rpartition("/")[2]
        self.request = with_request_id(request)
        self._may_repeat = may_repeat(self._method, self.request)
        self._most = limits.attempts
        self._tries = 0
        self._may_have_happened = False
        self.last: CallError | None = None
        """How the last attempt ended. It says more than why there can be no other: a closed channel, a lost file."""
        self._deadline = time.monotonic() + (limits.timeout if timeout is None else timeout)

    def timeout(self) -> float:
        """How long the next attempt may take, in seconds."""
        self._tries += 1
        return min(_ATTEMPT_TIMEOUT, max(0.0, self._deadline - time.monotonic()))

    def pause(self, status: Status) -> float:
        """How long to wait before the next attempt, after this end of the last one. Raises if there is to be none."""
        outcome = outcome_of(self._method, status)
        unanswered = is_unanswered(outcome)
        self._may_have_happened |= is_open(outcome) and not is_read(self._method)
        helps = unanswered and (not outcome.reason or outcome.retry_delay is not None)
        helps |= outcome.reason in ("DEADLINE_EXCEEDED", "OVERLOADED")
        # Full in the exponent and half by chance: who was cut off together does not come back together.
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (self._tries - 1))
        wait: float = max(longest * _CHANCE.uniform(0.5, 1.0), outcome.retry_delay or 0.0)
        in_time = self._tries < self._most and time.monotonic() + wait < self._deadline
        self.last = error_of(
            replace(
                outcome,
                request_id=request_id_of(self.request) or "",
                # Sticky: a refusal of a later attempt does not say what became of an earlier one.
                may_have_happened=self._may_have_happened,
            )
        )
        if helps and in_time and (self._may_repeat or outcome.reason == "OVERLOADED"):
            return wait
        raise self.last


def end_of_stream(method: str, status: Status, by_caller: bool = False) -> CallError:
    """The error with which a stream ends. Watch again with the last `resume_token`, unless the caller cancelled it."""
    outcome = outcome_of(method.rpartition("/")[2], status)
    return CallError(outcome) if by_caller else error_of(outcome)


def with_request_id(request: Message) -> Message:
    """The request with an id, if its type has a place for one: a copy, so that its owner may use the request again."""
    if request_id_of(request) != "":
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    copy.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
    return copy


def request_id_of(request: Message) -> str | None:
    """The id of a request; empty if it has none yet, None if its type has no place for one."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name:
        return None
    return str(request.request_id)  # type: ignore[attr-defined]


def may_repeat(method: str, request: Message) -> bool:
    """Whether this call may be made again though the one before may have been carried out."""
    if request_id_of(request) is not None or is_read(method):
        return True
    # A nonce count is good once: the repetition of a good answer that was lost would be told that somebody replays it.
    checks = [request, *getattr(request, "requests", ())]
    return method in _HARMLESS and not any(getattr(check, "check_nonce", False) for check in checks)


def is_read(method: str) -> bool:
    """Whether a method's name says that it changes nothing (AIP-131, AIP-132)."""
    return method.startswith(("Get", "List"))
