-- Tokens and role bindings belong to an account, or to the vault itself (operators): then `account` is 16 zero bytes.
CREATE TABLE bound_role (
    principal   TEXT    NOT NULL, -- token:{id}, a SPIFFE ID, or a path of them that ends in /*
    account     BLOB    NOT NULL,
    role        TEXT    NOT NULL,
    update_time INTEGER NOT NULL,
    PRIMARY KEY (principal, account, role)
) STRICT, WITHOUT ROWID;

INSERT INTO bound_role (principal, account, role, update_time)
SELECT principal, account, role,
    coalesce((SELECT create_time FROM api_token WHERE 'token:' || id = principal), 0)
FROM role_binding;

DROP TABLE role_binding;

ALTER TABLE bound_role RENAME TO role_binding;

CREATE INDEX role_binding_by_account ON role_binding (account, principal);

ALTER TABLE api_token ADD COLUMN account BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';

ALTER TABLE api_token ADD COLUMN display_name TEXT NOT NULL DEFAULT '';

UPDATE api_token SET account = coalesce(
    (SELECT account FROM role_binding WHERE principal = 'token:' || api_token.id ORDER BY account LIMIT 1), account);

CREATE INDEX api_token_by_account ON api_token (account, id);
