-- Times are microseconds since 1970 (UTC). `sealed` columns hold records of crypto/envelope.rs.
-- STRICT: a column holds the type that it states. WITHOUT ROWID: the primary key is the row's place.

CREATE TABLE vault (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    uid         BLOB    NOT NULL,
    dev         INTEGER NOT NULL,
    sealed_root BLOB    NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;

CREATE TABLE account (
    uid         BLOB    NOT NULL PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    disabled    INTEGER NOT NULL,
    create_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Only a keyed hash of a token's secret is kept.
CREATE TABLE api_token (
    id          TEXT    NOT NULL PRIMARY KEY,
    hash        BLOB    NOT NULL,
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL,
    revoke_time INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE role_binding (
    principal TEXT NOT NULL,
    account   BLOB NOT NULL REFERENCES account (uid),
    role      TEXT NOT NULL,
    PRIMARY KEY (principal, account, role)
) STRICT, WITHOUT ROWID;

-- The active secret lies in its owner's row: one look-up serves a digest check.
CREATE TABLE credential (
    account     BLOB    NOT NULL REFERENCES account (uid),
    id          TEXT    NOT NULL,
    uid         BLOB    NOT NULL,
    username    TEXT    NOT NULL,
    realm       TEXT    NOT NULL,
    enabled     INTEGER NOT NULL,
    description TEXT    NOT NULL,
    labels      TEXT    NOT NULL, -- a JSON object of strings
    version     INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    rotate_time INTEGER NOT NULL,
    sealed      BLOB    NOT NULL,
    PRIMARY KEY (account, id),
    UNIQUE (account, realm, username)
) STRICT, WITHOUT ROWID;

CREATE TABLE provider (
    account           BLOB    NOT NULL REFERENCES account (uid),
    id                TEXT    NOT NULL,
    uid               BLOB    NOT NULL,
    display_name      TEXT    NOT NULL,
    type              TEXT    NOT NULL,
    kind              TEXT    NOT NULL, -- JSON of provider::Kind
    status            TEXT    NOT NULL,
    verification      TEXT    NOT NULL, -- JSON of provider::Verification
    token_version     INTEGER NOT NULL,
    revision          INTEGER NOT NULL,
    token_update_time INTEGER NOT NULL,
    create_time       INTEGER NOT NULL,
    update_time       INTEGER NOT NULL,
    sealed            BLOB    NOT NULL,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

-- Versions that are not active: pending and retiring ones with their ciphertext, destroyed ones without.
CREATE TABLE secret_version (
    resource     BLOB    NOT NULL, -- uid of the credential or provider
    version      INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'retiring', 'destroyed')),
    sealed       BLOB,
    create_time  INTEGER NOT NULL,
    retire_time  INTEGER,
    destroy_time INTEGER,
    PRIMARY KEY (resource, version),
    CHECK ((state = 'destroyed') = (sealed IS NULL))
) STRICT, WITHOUT ROWID;

-- One hash chain an account, and one (16 zero bytes) for the vault as a whole. Never updated.
CREATE TABLE audit_entry (
    chain          BLOB    NOT NULL,
    sequence       INTEGER NOT NULL,
    previous_hash  BLOB    NOT NULL,
    hash           BLOB    NOT NULL,
    time           INTEGER NOT NULL,
    principal      TEXT    NOT NULL,
    peer           TEXT    NOT NULL,
    method         TEXT    NOT NULL,
    resource       TEXT    NOT NULL,
    outcome        TEXT    NOT NULL,
    version_before INTEGER NOT NULL,
    version_after  INTEGER NOT NULL,
    detail         TEXT    NOT NULL,
    request_id     TEXT    NOT NULL,
    reason         TEXT    NOT NULL,
    PRIMARY KEY (chain, sequence)
) STRICT, WITHOUT ROWID;

-- What a request id has done, so that a retry does it only once.
CREATE TABLE idempotency (
    account     BLOB    NOT NULL,
    principal   TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    request_id  BLOB    NOT NULL,
    fingerprint BLOB    NOT NULL,
    resource_id TEXT    NOT NULL,
    resource    BLOB    NOT NULL, -- uid: another resource may have taken the id since
    version     INTEGER NOT NULL,
    time        INTEGER NOT NULL,
    expire_time INTEGER NOT NULL,
    PRIMARY KEY (account, principal, method, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_expiry ON idempotency (expire_time);
