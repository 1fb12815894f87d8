"""Sealed passwords: a key to have them sealed for, and how to open them. Wants `pip install credvault[sealed]`.

A sealed password may be asked for again until it is confirmed, so a lost answer loses nothing.
"""

import base64
import binascii
import hashlib
from typing import NoReturn, Self

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey
    from pyhpke.exceptions import PyHPKEError
except ImportError as error:
    raise ImportError("credvault.sealed needs pyhpke: pip install 'credvault[sealed]'") from error

from credvault._secret import Secret
from credvault.errors import OpenError
from credvault.v1.rotation_service_pb2 import Recipient, SealedSecret

__all__ = ["PrivateKey", "Secret", "aad_of"]

_INFO = b"credvault/v1/delivery"
_SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)


class PrivateKey:
    """The private key of a recipient (X25519). Nothing prints it, and it is not pickled."""

    __slots__ = ("_key",)

    def __init__(self, key: X25519PrivateKey) -> None:
        """Use `generate` or `parse`."""
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """A new one. Without an enrolled key make one for each request, and keep it until the answer is opened."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def parse(cls, line: str) -> Self:
        """One that was written down: a line of base64, as `reveal` and `credvault recipient-keys create` write it.

        Raises ValueError if it is none.
        """
        try:
            return cls(X25519PrivateKey.from_private_bytes(base64.b64decode(line.strip(), validate=True)))
        except (binascii.Error, ValueError):
            raise ValueError("a private key is one line of base64, 44 characters") from None

    def reveal(self) -> str:
        """The key as a line, to be written to a file that only its owner may read."""
        return base64.b64encode(self._key.private_bytes_raw()).decode()

    @property
    def public_key(self) -> bytes:
        """What secrets are sealed for, 32 bytes: `public_key` of CreateRecipientKey."""
        return self._key.public_key().public_bytes_raw()

    @property
    def recipient(self) -> Recipient:
        """The `recipient` of a request whose password is to be sealed for this key."""
        return Recipient(hpke_public_key=self.public_key)

    def open(self, sealed: SealedSecret, credential: str | None = None) -> Secret:
        """Opens what was sealed for this key: the password, or the token of a provider.

        With `credential` it has to be of this one, by its whole name. Raises OpenError if it is not, if it was sealed
        for another key, or if anything in it differs from what the vault sealed.
        """
        if credential is not None and sealed.credential != credential:
            raise OpenError(f"it is of {sealed.credential}, and not of {credential}")
        mine = hashlib.sha256(self.public_key).hexdigest()
        if sealed.public_key_sha256 != mine:
            raise OpenError(f"it is sealed for the key {sealed.public_key_sha256}, and this one is {mine}")
        try:
            key = KEMKey.from_pyca_cryptography_key(self._key)
            recipient = _SUITE.create_recipient_context(sealed.encapsulated_key, key, info=_INFO)
            return Secret(recipient.open(sealed.ciphertext, aad_of(sealed)).decode())
        except (PyHPKEError, InvalidTag, ValueError, OverflowError):
            # Without the cause, which says nothing more, and from which a traceback would lead to the key.
            raise OpenError("it does not open: something in it is not as the vault gave it") from None

    def __repr__(self) -> str:
        return "PrivateKey(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PrivateKey is not pickled: reveal() it where it is kept")


def aad_of(sealed: SealedSecret) -> bytes:
    """What a sealed secret is bound to (`SealedSecret` in the contract): all that stands beside it.

    Raises ValueError or OverflowError for a time that no vault gives.
    """
    # Whole seconds, always: a part of one would be bound to nothing.
    if sealed.expire_time.nanos:
        raise ValueError("the expire_time of a sealed secret is in whole seconds")
    expire_time = sealed.expire_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = (
        sealed.credential,
        str(sealed.version),
        sealed.request_id,
        sealed.public_key_sha256,
        expire_time,
    )
    return "\n".join(lines).encode()
