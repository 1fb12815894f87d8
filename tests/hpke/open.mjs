// Opens sealed secrets as any client in JavaScript would: one a line on standard input, the password on standard output.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// The packages lie in the folder that NODE_FOLDER names.
const require = createRequire(pathToFileURL(`${process.env.NODE_FOLDER}/x.js`));
const { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } = require("@hpke/core");

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});
const bytes = (text, encoding) => new Uint8Array(Buffer.from(text, encoding)).buffer;
for await (const line of createInterface({ input: process.stdin })) {
  const { privateKey, sealed } = JSON.parse(line);
  const fields = ["credential", "version", "requestId", "publicKeySha256", "expireTime"];
  const aad = fields.map((field) => sealed[field] ?? "").join("\n");
  const recipient = await suite.createRecipientContext({
    recipientKey: await suite.kem.importKey("raw", bytes(privateKey, "hex"), false),
    enc: bytes(sealed.encapsulatedKey, "base64"),
    info: bytes("credvault/v1/delivery", "utf8"),
  });
  const opened = await recipient.open(bytes(sealed.ciphertext, "base64"), bytes(aad, "utf8"));
  console.log(Buffer.from(opened).toString());
}
