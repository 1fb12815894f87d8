-- When the vault rotates a credential by itself: JSON of rotation::policy::Schedule. It is part of the row's checksum.
ALTER TABLE credential ADD COLUMN schedule TEXT;

-- When it is due, whatever is in the way.
ALTER TABLE credential ADD COLUMN next_rotation_time INTEGER;

CREATE INDEX credential_by_next_rotation ON credential (next_rotation_time, account, id)
    WHERE next_rotation_time IS NOT NULL;
