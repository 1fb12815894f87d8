"""Client of Credvault, a gRPC vault for the credentials that a voice platform lives on.

`connect` leads to a vault; its attributes are the contract's services, with every call and its types. Beside them:
`credvault.sealed` opens passwords that were sealed for you, `credvault.twilio` checks Twilio's webhooks, and
`credvault.aio` is the same for asyncio.
"""

from credvault._client import Vault, connect
from credvault._secret import Secret
from credvault.errors import (
    AlreadyIssued,
    CallError,
    Conflict,
    Error,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    OpenError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

__all__ = [
    "AlreadyIssued",
    "CallError",
    "Conflict",
    "Error",
    "FailedPrecondition",
    "FieldViolation",
    "InvalidArgument",
    "NotFound",
    "OpenError",
    "PermissionDenied",
    "ResourceExhausted",
    "Secret",
    "Unauthenticated",
    "Unavailable",
    "Vault",
    "connect",
]
