"""Opens sealed secrets as any client in Python would: one a line on standard input, the password on standard output."""

import base64
import json
import sys

from pyhpke import AEADId, CipherSuite, KDFId, KEMId
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pyhpke import KEMKey

suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)
for line in sys.stdin:
    given = json.loads(line)
    sealed = given["sealed"]
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(given["privateKey"]))
    fields = ("credential", "version", "requestId", "publicKeySha256", "expireTime")
    aad = "\n".join(sealed.get(field, "") for field in fields)
    recipient = suite.create_recipient_context(
        base64.b64decode(sealed["encapsulatedKey"]),
        KEMKey.from_pyca_cryptography_key(private),
        info=b"credvault/v1/delivery",
    )
    print(recipient.open(base64.b64decode(sealed["ciphertext"]), aad.encode()).decode())
