-- Where a credential lives that lives at a carrier: at which provider, and its id there (JSON of CarrierCredential).
ALTER TABLE credential ADD COLUMN provider TEXT;
ALTER TABLE credential ADD COLUMN provider_uid BLOB;
ALTER TABLE credential ADD COLUMN carrier TEXT;

-- What is rotated in two places at once would be lost in one of them.
CREATE UNIQUE INDEX credential_by_carrier ON credential (account, provider_uid, carrier)
    WHERE provider_uid IS NOT NULL;

-- When a rotation's next call to its carrier is due.
ALTER TABLE rotation ADD COLUMN work_time INTEGER;

CREATE INDEX rotation_by_work_time ON rotation (work_time, account) WHERE work_time IS NOT NULL;
