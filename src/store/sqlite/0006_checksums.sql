-- What checksum.rs makes of the five columns that never change: a row that is damaged says so by itself, and no second look-up
-- has to (docs/adr/0011). A row that disagrees with its index was refused before, and gets none: it stays refused.
ALTER TABLE credential ADD COLUMN checksum BLOB NOT NULL DEFAULT x'';

UPDATE credential AS c SET checksum = checksum(account, id, uid, realm, username)
WHERE EXISTS (
    SELECT 1 FROM credential AS i INDEXED BY sqlite_autoindex_credential_2 -- UNIQUE (account, realm, username)
    WHERE i.account = c.account AND i.realm = c.realm AND i.username = c.username AND i.id = c.id
);
