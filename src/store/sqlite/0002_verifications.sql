-- What kind of secret the token is: JSON of provider::TokenKind.
ALTER TABLE provider ADD COLUMN token_kind TEXT NOT NULL DEFAULT '{"type":"auth_token"}';

-- When the carrier last answered, as in `verification`: an older answer does not overwrite a newer one.
ALTER TABLE provider ADD COLUMN verify_time INTEGER;

-- Scheduled verification walks through the providers of all accounts by uid.
CREATE INDEX provider_by_uid ON provider (uid);

-- The last verifications of each provider.
CREATE TABLE provider_verification (
    provider     BLOB    NOT NULL, -- uid
    time         INTEGER NOT NULL,
    verification TEXT    NOT NULL, -- JSON of provider::Verification
    PRIMARY KEY (provider, time)
) STRICT, WITHOUT ROWID;
