-- Versions of secrets beside the active ones, which lie in their owners' rows. It had no row since 0005.
DROP TABLE secret_version;

-- Pending and retiring ones, as their owner's `versions` says. What is destroyed has no row.
CREATE TABLE secret_version (
    account  BLOB    NOT NULL,
    resource BLOB    NOT NULL, -- uid of the credential or provider
    version  INTEGER NOT NULL,
    sealed   BLOB    NOT NULL,
    PRIMARY KEY (account, resource, version)
) STRICT, WITHOUT ROWID;

ALTER TABLE credential ADD COLUMN versions TEXT NOT NULL DEFAULT '[]'; -- JSON of versions::Versions

-- When the next of them must go.
ALTER TABLE credential ADD COLUMN retire_time INTEGER;

CREATE INDEX credential_by_retirement ON credential (retire_time, account) WHERE retire_time IS NOT NULL;

-- How often each version was used, and failures of whoever presented something else while it was active.
CREATE TABLE version_use (
    account           BLOB    NOT NULL,
    resource          BLOB    NOT NULL,
    version           INTEGER NOT NULL,
    last_success_time INTEGER,
    successes         INTEGER NOT NULL,
    failures          INTEGER NOT NULL,
    PRIMARY KEY (account, resource, version)
) STRICT, WITHOUT ROWID;

-- Rotations that outlive their call.
CREATE TABLE rotation (
    account     BLOB    NOT NULL,
    id          TEXT    NOT NULL,
    parent      TEXT    NOT NULL, -- the last two parts of its name: credentials/{credential}
    resource    BLOB    NOT NULL, -- uid of that
    version     INTEGER NOT NULL, -- what it makes
    revision    INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    details     TEXT    NOT NULL, -- JSON
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    due_time    INTEGER,          -- when the vault must look at it
    sealed      BLOB,             -- the secret for its recipient (crypto/delivery.rs), until it was confirmed or expires
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX rotation_by_resource ON rotation (account, resource, version);

CREATE INDEX rotation_by_due_time ON rotation (due_time, account) WHERE due_time IS NOT NULL;

-- Public keys that secrets are sealed for.
CREATE TABLE recipient_key (
    account      BLOB    NOT NULL,
    id           TEXT    NOT NULL,
    public_key   BLOB    NOT NULL,
    display_name TEXT    NOT NULL,
    create_time  INTEGER NOT NULL,
    revoke_time  INTEGER,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

-- Whether new secrets leave only sealed for one of those.
ALTER TABLE account ADD COLUMN enrolled_keys_only INTEGER NOT NULL DEFAULT 0;
