-- Tokens beside the active one, as a provider's `versions` says (JSON of versions::Versions). They lie in `secret_version`.
ALTER TABLE provider ADD COLUMN versions TEXT NOT NULL DEFAULT '[]';

-- When the next of them must go.
ALTER TABLE provider ADD COLUMN retire_time INTEGER;

CREATE INDEX provider_by_retirement ON provider (retire_time, account) WHERE retire_time IS NOT NULL;

-- What kind of secret a token is: JSON of provider::TokenKind. Passwords have none.
ALTER TABLE secret_version ADD COLUMN token_kind TEXT;
