-- Pages of filtered lists. Each of these ends in the id (a part of the primary key), which is the order of a list.
-- None holds what a rotation changes: a rotation writes no more pages than before.
CREATE INDEX credential_by_realm ON credential (account, realm);

CREATE INDEX credential_by_username ON credential (account, username);

CREATE INDEX credential_disabled ON credential (account) WHERE enabled = 0;
