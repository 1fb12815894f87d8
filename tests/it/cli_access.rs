//! `credvault tokens`, `accounts` and `roles`: from the first token, beside the stopped vault, to an account's end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::cli::{Ran, words};
use crate::support::process::{Process, credvault, run};

/// A vault of `credvault serve`, and a folder in which its first operator types commands.
struct Office {
    dir: tempfile::TempDir,
    server: Process,
}

impl Office {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let init = ["init", "--data-dir", data.to_str().unwrap()];
        assert!(run(init).status.success());
        let mut first = credvault(["tokens", "create", "--local", "--role", "operator"]);
        first.args(["--out", "operator.token"]).env("CREDVAULT_DATA_DIR", &data);
        let first = Ran::from(first.current_dir(dir.path()).output().unwrap());
        first.says(0, &["vault/apiTokens/", "operator", "good for 30 days", "operator.token"]);
        assert!(first.out.is_empty() && !first.err.contains("cv1_"), "{first:?}");
        let server = Process::serve(&data, &[]);
        Self { dir, server }
    }

    /// Types a command with the token of this file. The server's surroundings name its store, and change nothing.
    fn command(&self, who: &str, words: &str) -> Command {
        let mut command = credvault(words.split(' '));
        command.current_dir(self.dir.path()).env("CREDVAULT_DATA_DIR", &self.server.data_dir);
        command.env("CREDVAULT_ADDRESS", self.server.address.to_string());
        command.env("CREDVAULT_TOKEN_FILE", format!("{who}.token"));
        command
    }

    fn run(&self, who: &str, words: &str) -> Ran {
        Ran::from(self.command(who, words).output().unwrap())
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

/// The id of a token in a file.
fn id(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lets_an_admin_in_who_lets_others_in() {
    let office = Office::open();
    assert_eq!(mode(&office.dir.path().join("operator.token")), 0o600);
    office.run("operator", "accounts list").says(0, &["no account yet", "accounts create acme"]);
    let first_admin = "`credvault tokens create --account acme --role account-admin`";
    office
        .run("operator", "accounts create acme --reason contract")
        .says(0, &["accounts/acme", first_admin]);
    let again = office.run("operator", "accounts create acme");
    again.says(1, &["ALREADY_EXISTS"]);
    let admin =
        "tokens create --account acme --role account-admin --out admin.token --display-name first";
    office.run("operator", admin).says(0, &["accounts/acme/apiTokens/"]);
    // The first is let in by an operator, all others by an admin.
    let second = office.run("operator", "tokens create --account acme --role reader");
    assert_eq!((second.status, second.out.as_str()), (1, ""), "{second:?}");

    let bob =
        office.run("admin", "tokens create --account acme --role rotator --role auditor --days 7");
    bob.says(0, &["rotator, auditor", "good for 7 days"]);
    let token = bob.out.trim();
    assert!(token.starts_with("cv1_") && !bob.err.contains(token), "{bob:?}");
    fs::write(office.dir.path().join("bob.token"), &bob.out).unwrap();
    // Written by a shell, for all to read.
    let open = office.run("bob", "credentials list --account acme");
    open.says(1, &["others may read it", "chmod 600 bob.token", "--token-file"]);
    let own = fs::Permissions::from_mode(0o600);
    fs::set_permissions(office.dir.path().join("bob.token"), own).unwrap();
    office
        .run("bob", "credentials list --account acme")
        .says(0, &["no credential in accounts/acme"]);
    let role =
        "`credvault tokens create --account acme --role account-admin` makes a token that may";
    office.run("bob", "tokens list --account acme").says(1, &["ROLE_MISSING", role]);

    let list = office.run("admin", "tokens list --account acme");
    list.says(0, &["first", "rotator, auditor", id(token)]);
    assert_eq!(words(list.out.lines().next().unwrap())[..3], ["ID", "DISPLAY NAME", "ROLES"]);
    assert_eq!(list.out.lines().count(), 3, "{list:?}");
    let listed = office.run("admin", "tokens list --account acme --output json").json();
    assert_eq!(listed["apiTokens"].as_array().unwrap().len(), 2);
    let get = office.run("admin", &format!("tokens get {} --account acme", id(token)));
    get.says(0, &["rotator, auditor"]);
    let name = format!("accounts/acme/apiTokens/{}", id(token));
    office
        .run("admin", &format!("tokens get {name} --output json"))
        .says(0, &["ROLE_ROTATOR", &name]);
    let whole = office.run("admin", &format!("tokens get {token} --account acme"));
    whole.says(1, &["token id"]);
    assert!(!whole.err.contains(token), "{whole:?}");

    office
        .run("admin", &format!("tokens revoke {} --account acme", id(token)))
        .says(0, &["is revoked"]);
    let revoked = office.run("bob", "credentials list --account acme");
    let says =
        ["UNAUTHENTICATED", "the token from bob.token", "--token-file", "--role reader", "--local"];
    revoked.says(1, &says);
    let last = format!("tokens revoke {} --account acme", id(&office.file("admin.token")));
    office.run("admin", &last).says(1, &["LAST_ADMIN", "makes another"]);
    office.run("operator", "tokens list --vault").says(0, &["operator"]);
    let last = format!("tokens revoke {} --vault", id(&office.file("operator.token")));
    office
        .run("operator", &last)
        .says(1, &["LAST_OPERATOR", "`credvault tokens create --role operator`"]);

    office.run("admin", "accounts list").says(1, &["ROLE_MISSING", "--role operator`"]);
    office.run("operator", "accounts delete acme").says(1, &["INVALID_STATE"]);
    office.run("operator", "accounts disable acme").says(0, &["true"]);
    let closed = office.run("admin", "tokens list --account acme");
    closed.says(1, &["ACCOUNT_DISABLED", "`credvault accounts enable acme`"]);
    office.run("operator", "accounts enable accounts/acme").says(0, &["accounts/acme"]);
    office.run("operator", "accounts disable acme").says(0, &[]);
    office
        .run("operator", "accounts delete acme --reason over")
        .says(0, &["accounts/acme is deleted"]);
    office
        .run("operator", "accounts get acme")
        .says(1, &["NOT_FOUND", "`credvault accounts list`"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_set_listed_and_taken() {
    let office = Office::open();
    office.run("operator", "accounts create acme").says(0, &[]);
    let admin = "tokens create --account acme --role account-admin --out admin.token";
    office.run("operator", admin).says(0, &[]);
    let edge = "spiffe://example.org/edge/*";
    let set = office
        .run("admin", &format!("roles set {edge} --role verifier --role reader --account acme"));
    set.says(0, &[edge, "reader, verifier"]);
    let list = office.run("admin", "roles list --account acme");
    list.says(0, &[edge, "account-admin", "PRINCIPAL"]);
    assert_eq!(list.out.lines().count(), 3, "{list:?}");
    let json = office.run("admin", "roles list --account acme --output json").json();
    assert_eq!(json["roleBindings"].as_array().unwrap().len(), 2);
    office
        .run("admin", &format!("roles delete {edge} --account acme"))
        .says(0, &["has no role in accounts/acme"]);
    office
        .run("admin", &format!("roles delete {edge} --account acme"))
        .says(1, &["NOT_FOUND", "roles list"]);
    let king = office.run("admin", &format!("roles set {edge} --role king --account acme"));
    king.says(2, &["account-admin", "token-writer"]);
    let wrong = office.run("admin", "roles set bob --role reader --account acme");
    wrong.says(1, &["INVALID_FIELD", "role_binding.principal"]);
    let ops = "roles set spiffe://example.org/ops --role operator --vault";
    office.run("operator", ops).says(0, &["operator"]);
    office.run("operator", "roles list --vault").says(0, &["spiffe://example.org/ops"]);
    office.run("operator", "roles list --vault --account acme").says(2, &["cannot be used with"]);
    office.run("operator", "roles list").says(1, &["which account?", "--account"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_beside_the_vault_need_it_stopped_and_no_other_options() {
    let office = Office::open();
    let says = ["another process uses the vault", "stop it first"];
    office.run("operator", "tokens create --local --role operator --out new.token").says(1, &says);
    assert!(
        !office.dir.path().join("new.token").exists(),
        "a file without a token is not left behind"
    );
    let twice = office.run("operator", "tokens create --role operator --out operator.token");
    twice.says(1, &["operator.token", "--out"]);
    let more = office.run("operator", "tokens create --local --role operator --reason lost");
    more.says(1, &["--reason", "leave them out"]);
    let mixed = office.run("operator", "tokens create --role operator --account acme");
    mixed.says(1, &["operators belong to the vault"]);
    let both = office.run("operator", "tokens create --role operator --out x --output json");
    both.says(2, &["cannot be used with"]);
    let made = office.run("operator", "tokens create --role operator --output json").json();
    assert!(made["token"].as_str().unwrap().starts_with("cv1_"), "{made}");

    // Without any token left, whoever has the files goes on.
    let operator = office.file("operator.token");
    let Office { dir, server } = office;
    let data = server.data_dir.clone();
    assert!(server.terminate().success());
    let data = data.to_str().unwrap();
    let revoke = Ran::from(run(["tokens", "revoke", id(&operator), "--data-dir", data]));
    revoke.says(0, &["is revoked"]);
    let server = Process::serve(Path::new(data), &[]);
    let office = Office { dir, server };
    office.run("operator", "accounts list").says(1, &["UNAUTHENTICATED", "--local"]);
}
