-- What an account allows in Twilio Access Tokens: the bits of access_token::Grant, none at first, and the longest lifetime.
ALTER TABLE account ADD COLUMN access_token_grants INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN access_token_seconds INTEGER NOT NULL DEFAULT 3600;
