"""A value that is not printed by accident."""

import hashlib
import hmac
from typing import NoReturn


class Secret:
    """A password or a token. Nothing prints it, and it is not pickled: `reveal` alone hands it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Give it to whoever needs it, and log it nowhere."""
        return self._value

    def proof(self, rotation: str) -> bytes:
        """Proves to ConfirmRotation that this is the new password of `rotation`, a rotation's whole name.

        HMAC-SHA256 of the name, keyed with the password: 32 bytes, good for this rotation alone.
        """
        return hmac.digest(self._value.encode(), rotation.encode(), hashlib.sha256)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # A hash in a log would let a weak one be guessed.

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: reveal() it where it is needed")
