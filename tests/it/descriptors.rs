//! "Never returned after first issue", proved on the contract itself: a walk over every message that an RPC
//! can answer, and a golden list of the secrets that go in and out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use credvault::grpc::proto::DESCRIPTORS;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

const GOLDEN: &str = "tests/it/descriptors.golden";

const SERVICES: [&str; 6] = [
    "credvault.v1.AccessService",
    "credvault.v1.AuditService",
    "credvault.v1.CredentialService",
    "credvault.v1.ProviderService",
    "credvault.v1.RotationService",
    "credvault.v1.UseService",
];

/// The one RPC with many answers.
const STREAM: &str = "credvault.v1.CredentialService/WatchCredentials";

const ISSUED_SECRET: &str = "credvault.v1.IssuedSecret";

/// The one other message that lets a secret out: a new API token.
const NEW_TOKEN: &str = "credvault.v1.CreateApiTokenResponse";

/// The only two answers that may hold an [`ISSUED_SECRET`].
const ISSUING: [&str; 2] =
    ["credvault.v1.CreateCredentialResponse", "credvault.v1.RotateCredentialResponse"];

/// What only its recipient opens, and the only answers that may hold it.
const SEALED_SECRET: &str = "credvault.v1.SealedSecret";
const DELIVERING: [&str; 3] = [ISSUING[0], ISSUING[1], "credvault.v1.GetRotationResponse"];

/// What a stored secret makes, and the only answers that may hold it.
const DERIVING: [&str; 3] = [
    "credvault.v1.MintTwilioAccessTokenResponse",
    "credvault.v1.VerifySipDigestResponse",
    "credvault.v1.ComputeSipDigestResponse",
];

/// Messages that can hold anything, so that nobody can say what leaves in them.
const UNTYPED: [&str; 4] = [
    "google.protobuf.Any",
    "google.protobuf.Struct",
    "google.protobuf.Value",
    "google.protobuf.ListValue",
];

/// A message of Google's whose only text is names of our own fields.
const FIELD_MASK: &str = "google.protobuf.FieldMask";

#[test]
fn the_contract_lets_out_what_it_says_and_nothing_else() {
    assert_eq!(problems(&contract()), Vec::<String>::new());
}

#[test]
fn the_secrets_of_every_call_are_those_of_the_golden_list() {
    let golden = std::fs::read_to_string(root().join(GOLDEN)).unwrap();
    let computed = secret_paths(&contract());
    assert!(
        golden == computed,
        "{GOLDEN} lists, for each RPC, the request fields that bring a secret in (`in`) and the \
         response fields that let one out (`out`).\nThe contract in proto/ no longer agrees with \
         it.\n\nlines that the contract does not have any more:\n{}\nlines that are new:\n{}\n\
         A new `in` is a new way for a secret to arrive: is it sealed, redacted, and left out of \
         logs and audit entries?\nA new `out` breaks the promise that a stored secret never \
         leaves.\nIf the change is meant, let somebody review it and write this to {GOLDEN}:\n\n\
         {computed}",
        missing(&golden, &computed),
        missing(&computed, &golden),
    );
}

/// The walk and the list, at work on contracts with one thing wrong.
mod planted {
    use super::*;

    #[test]
    fn planted_text_without_a_sensitivity_is_reported() {
        let contract = changed(
            "credential_service.proto",
            "message GetCredentialResponse {",
            "message GetCredentialResponse { string note = 7;",
        );
        reports(&contract, &["GetCredentialResponse.note has no sensitivity"]);
    }

    #[test]
    fn planted_text_deep_in_an_answer_is_reported() {
        let nested =
            "message AuditEntry { message More { bytes raw = 1; map<string, int32> n = 2; }
            oneof more { string plain = 30; More nested = 31; }
            repeated string many = 32; map<string, More> each = 33;";
        let contract = changed("audit_service.proto", "message AuditEntry {", nested);
        reports(
            &contract,
            &[
                "AuditEntry.plain has no sensitivity",
                "AuditEntry.More.raw has no sensitivity",
                "AuditEntry.More.n has no sensitivity",
                "AuditEntry.many has no sensitivity",
                "AuditEntry.each has no sensitivity",
            ],
        );
    }

    #[test]
    fn planted_issue_outside_of_issued_secret_is_reported() {
        let contract = changed(
            "credential_service.proto",
            "message GetCredentialResponse {",
            "message GetCredentialResponse {
                string password = 7 [(sensitivity) = SENSITIVITY_SECRET_OUT_ONCE];",
        );
        reports(
            &contract,
            &["GetCredentialResponse.password is SECRET_OUT_ONCE outside of IssuedSecret"],
        );
        assert!(
            missing(&secret_paths(&contract), &secret_paths(&super::contract()))
                .contains("CredentialService/GetCredential"),
            "the golden list would change"
        );
    }

    #[test]
    fn planted_issued_secret_in_another_answer_is_reported() {
        let contract = changed(
            "credential_service.proto",
            "message ListCredentialsResponse {",
            "message ListCredentialsResponse { repeated IssuedSecret issued = 7;",
        );
        reports(&contract, &["ListCredentialsResponse.issued lets an IssuedSecret out"]);
    }

    #[test]
    fn planted_sealed_secret_in_another_answer_is_reported() {
        let contract = changed(
            "rotation_service.proto",
            "message ListRotationsResponse {",
            "message ListRotationsResponse { repeated SealedSecret sealed = 7;
                bytes other = 8 [(sensitivity) = SENSITIVITY_SEALED];
                string more = 9 [(sensitivity) = SENSITIVITY_DERIVED];",
        );
        reports(
            &contract,
            &[
                "ListRotationsResponse.more is DERIVED outside of what may be",
                "ListRotationsResponse.sealed lets a SealedSecret out",
                "ListRotationsResponse.other is SEALED outside of SealedSecret",
            ],
        );
    }

    #[test]
    fn planted_secret_that_comes_back_is_reported() {
        let contract = changed(
            "provider_service.proto",
            "message TwilioProvider {",
            "message TwilioProvider {
                string auth_token = 70 [(sensitivity) = SENSITIVITY_SECRET_IN];",
        );
        reports(&contract, &["TwilioProvider.auth_token is SECRET_IN in an answer"]);
    }

    #[test]
    fn planted_untyped_content_is_reported() {
        for (import, field, problem) in [
            ("any", "google.protobuf.Any more = 70;", "holds google.protobuf.Any"),
            ("struct", "google.protobuf.Struct more = 70;", "holds google.protobuf.Struct"),
            ("struct", "google.protobuf.Value more = 70;", "holds google.protobuf.Value"),
            (
                "any",
                "map<string, bytes> more = 70 [(sensitivity) = SENSITIVITY_PUBLIC];",
                "is a map to bytes",
            ),
        ] {
            let contract = edited("audit_service.proto", |text| {
                let import = format!("import \"google/protobuf/{import}.proto\";");
                text.replacen("import", &format!("{import}\nimport"), 1).replacen(
                    "message AuditEntry {",
                    &format!("message AuditEntry {{ {field}"),
                    1,
                )
            });
            reports(&contract, &[&format!("AuditEntry.more {problem}")]);
        }
    }

    #[test]
    fn planted_rpcs_out_of_form_are_reported() {
        for (rpc, problem) in [
            ("rpc Watch(WatchRequest) returns (stream WatchResponse);", "UseService/Watch streams"),
            ("rpc Push(stream WatchRequest) returns (WatchResponse);", "UseService/Push streams"),
            (
                "rpc Other(WatchRequest) returns (WatchResponse);",
                "UseService/Other takes WatchRequest, not OtherRequest",
            ),
            (
                "rpc Watch(WatchRequest) returns (VerifySipDigestResponse);",
                "UseService/Watch returns VerifySipDigestResponse, not WatchResponse",
            ),
        ] {
            let contract = edited("use_service.proto", |text| {
                format!("{text}\nmessage WatchRequest {{}}\nmessage WatchResponse {{}}\n").replacen(
                    "service UseService {",
                    &format!("service UseService {{ {rpc}"),
                    1,
                )
            });
            reports(&contract, &[problem]);
        }
        let contract =
            edited("use_service.proto", |text| format!("{text}\nservice BackDoorService {{}}\n"));
        reports(&contract, &["credvault.v1.BackDoorService is not a known service"]);
    }

    #[test]
    fn planted_secret_on_its_way_in_changes_the_golden_list() {
        let contract = changed(
            "use_service.proto",
            "message VerifySipDigestRequest {",
            "message VerifySipDigestRequest { string ha1 = 30;",
        );
        let list = secret_paths(&contract);
        assert!(list.contains("UseService/VerifySipDigest  in: body, ha1"), "{list}");
    }

    fn reports(contract: &DescriptorPool, expected: &[&str]) {
        let found = problems(contract);
        for problem in expected {
            assert!(
                found.iter().any(|found| found.contains(problem)),
                "not reported: {problem}\nreported: {found:#?}"
            );
        }
    }
}

// The walk.

/// Everything about a contract that breaks a rule.
fn problems(contract: &DescriptorPool) -> Vec<String> {
    let mut walk = Walk { problems: BTreeSet::new() };
    let mut users: BTreeMap<String, u32> = BTreeMap::new();
    for service in contract.services() {
        if !SERVICES.contains(&service.full_name()) {
            walk.report(format!("{} is not a known service", service.full_name()));
        }
        for rpc in service.methods() {
            walk.rpc(&rpc);
            for message in [rpc.input(), rpc.output()] {
                *users.entry(message.full_name().to_owned()).or_default() += 1;
            }
        }
    }
    for (message, _) in users.iter().filter(|(_, users)| **users > 1) {
        walk.report(format!("{message} serves more than one RPC"));
    }
    for known in SERVICES {
        if contract.get_service_by_name(known).is_none() {
            walk.report(format!("{known} is missing"));
        }
    }
    for message in contract.all_messages() {
        for field in message.fields() {
            let may = [ISSUED_SECRET, NEW_TOKEN].contains(&message.full_name());
            if sensitivity(&field) == "SECRET_OUT_ONCE" && !may {
                let name = field.full_name();
                walk.report(format!("{name} is SECRET_OUT_ONCE outside of IssuedSecret"));
            }
            let may = DERIVING.contains(&message.full_name());
            if sensitivity(&field) == "DERIVED" && !may {
                let name = field.full_name();
                walk.report(format!("{name} is DERIVED outside of what may be"));
            }
            if sensitivity(&field) == "SEALED" && message.full_name() != SEALED_SECRET {
                walk.report(format!("{} is SEALED outside of SealedSecret", field.full_name()));
            }
        }
    }
    walk.problems.into_iter().collect()
}

struct Walk {
    problems: BTreeSet<String>,
}

impl Walk {
    fn report(&mut self, problem: String) {
        self.problems.insert(problem);
    }

    fn rpc(&mut self, rpc: &MethodDescriptor) {
        let name = format!("{}/{}", rpc.parent_service().full_name(), rpc.name());
        if rpc.is_client_streaming() || rpc.is_server_streaming() != (name == STREAM) {
            self.report(format!("{name} streams"));
        }
        let (input, output) = (rpc.input(), rpc.output());
        if input.name() != format!("{}Request", rpc.name()) {
            self.report(format!("{name} takes {}, not {}Request", input.name(), rpc.name()));
        }
        if output.name() != format!("{}Response", rpc.name()) {
            self.report(format!("{name} returns {}, not {}Response", output.name(), rpc.name()));
        }
        each_field(&output, |path, field| self.field_of_answer(&output, path, field));
        each_field(&input, |_, field| self.untyped(field));
    }

    fn field_of_answer(&mut self, answer: &MessageDescriptor, path: &str, field: &FieldDescriptor) {
        let name = field.full_name();
        self.untyped(field);
        match sensitivity(field).as_str() {
            "UNSPECIFIED" if holds_text(field) => {
                self.report(format!("{name} has no sensitivity"));
            }
            "SECRET_IN" => self.report(format!("{name} is SECRET_IN in an answer")),
            _ => {}
        }
        let holds = |name| message_of(field).is_some_and(|message| message.full_name() == name);
        if holds(ISSUED_SECRET) && !ISSUING.contains(&answer.full_name()) {
            self.report(format!("{}.{path} lets an IssuedSecret out", answer.full_name()));
        }
        if holds(SEALED_SECRET) && !DELIVERING.contains(&answer.full_name()) {
            self.report(format!("{}.{path} lets a SealedSecret out", answer.full_name()));
        }
    }

    fn untyped(&mut self, field: &FieldDescriptor) {
        if let Some(message) = message_of(field)
            && UNTYPED.contains(&message.full_name())
        {
            self.report(format!("{} holds {}", field.full_name(), message.full_name()));
        }
        if let Some((_, Kind::Bytes)) = map_kinds(field) {
            self.report(format!("{} is a map to bytes", field.full_name()));
        }
    }
}

/// Calls `visit` with path and field for all that a message can hold, at any depth; each message type is
/// entered once on a path, so that one which holds itself comes to an end.
fn each_field(message: &MessageDescriptor, mut visit: impl FnMut(&str, &FieldDescriptor)) {
    fn walk(
        message: &MessageDescriptor,
        above: &mut Vec<String>,
        path: &str,
        visit: &mut impl FnMut(&str, &FieldDescriptor),
    ) {
        if above.iter().any(|name| name == message.full_name()) {
            return;
        }
        above.push(message.full_name().to_owned());
        for field in message.fields() {
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{}", field.name());
            visit(&path, &field);
            if let Some(below) = message_of(&field) {
                walk(&below, above, &path, visit);
            }
        }
        above.pop();
    }
    walk(message, &mut Vec::new(), "", &mut visit);
}

/// The message that a field holds, directly, repeated or as the values of a map.
fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let kind = map_kinds(field).map_or_else(|| field.kind(), |(_, value)| value);
    kind.as_message().cloned()
}

/// Key and value of a map. The sensitivity stands on the map itself.
fn map_kinds(field: &FieldDescriptor) -> Option<(Kind, Kind)> {
    let kind = field.kind();
    let entry = kind.as_message().filter(|_| field.is_map())?;
    Some((entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind()))
}

fn holds_text(field: &FieldDescriptor) -> bool {
    let text = |kind: &Kind| matches!(kind, Kind::String | Kind::Bytes);
    match map_kinds(field) {
        Some((key, value)) => text(&key) || text(&value),
        None => text(&field.kind()),
    }
}

/// The option on a field: the enum's name without its prefix.
fn sensitivity(field: &FieldDescriptor) -> String {
    let pool = field.parent_pool();
    let option = pool.get_extension_by_name("credvault.v1.sensitivity").unwrap();
    let number = field.options().get_extension(&option).as_enum_number().unwrap();
    let kind = option.kind();
    let value = kind.as_enum().unwrap().get_value(number).unwrap();
    value.name().trim_start_matches("SENSITIVITY_").to_owned()
}

// The golden list.

/// One line an RPC: which of its fields hold a secret, or text of which nobody said that it holds none.
fn secret_paths(contract: &DescriptorPool) -> String {
    let mut lines = BTreeSet::new();
    for rpc in contract.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let service = rpc.parent_service().full_name().to_owned();
        let (going_in, out) = (secrets_of(&rpc.input()), secrets_of(&rpc.output()));
        lines.insert(format!("{service}/{}  in: {going_in}  out: {out}", rpc.name()));
    }
    let mut list = String::new();
    for line in lines {
        writeln!(list, "{line}").unwrap();
    }
    list
}

fn secrets_of(message: &MessageDescriptor) -> String {
    let mut paths = Vec::new();
    each_field(message, |path, field| {
        let known = field.parent_message().full_name() == FIELD_MASK;
        if holds_text(field) && sensitivity(field) != "PUBLIC" && !known {
            paths.push(path.to_owned());
        }
    });
    if paths.is_empty() { "-".to_owned() } else { paths.join(", ") }
}

/// The lines of `of` that `from` does not have.
fn missing(of: &str, from: &str) -> String {
    let gone = of.lines().filter(|line| !from.lines().any(|other| other == *line));
    gone.fold(String::new(), |list, line| list + "  " + line + "\n")
}

// Contracts: the real one, and the real one with a change.

fn contract() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The contract with one text of one file replaced.
fn changed(file: &str, from: &str, to: &str) -> DescriptorPool {
    edited(file, |text| {
        assert!(text.contains(from), "{file} has no `{from}` to plant in");
        text.replacen(from, to, 1)
    })
}

fn edited(file: &str, edit: impl FnOnce(String) -> String) -> DescriptorPool {
    let name = format!("credvault/v1/{file}");
    let text = edit(std::fs::read_to_string(root().join("proto").join(&name)).unwrap());
    let mut files = ChainFileResolver::new();
    files.add(Edited { name, text });
    files.add(IncludeFileResolver::new(root().join("proto")));
    files.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.include_imports(true);
    for service in ["audit", "credential", "provider", "use"] {
        compiler.open_file(format!("credvault/v1/{service}_service.proto")).unwrap();
    }
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

/// One file that stands in for the real one of its name.
struct Edited {
    name: String,
    text: String,
}

impl FileResolver for Edited {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == self.name {
            File::from_source(name, &self.text)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

/// The `Debug` of messages that can carry a secret is made by `build.rs` from the sensitivity option.
#[test]
fn messages_with_secrets_print_none() {
    use credvault::grpc::proto::{
        CreateApiTokenResponse, CreateCredentialRequest, CreateProviderRequest, IssuedSecret,
        UpdateCredentialRequest, UpdateTokenRequest,
    };
    let secret = || "hunter2-canary".to_owned();
    let issued = IssuedSecret { password: secret(), version: 1 };
    let create = CreateCredentialRequest { password: Some(secret()), ..Default::default() };
    let update = UpdateCredentialRequest { password: Some(secret()), ..Default::default() };
    let provider = CreateProviderRequest { auth_token: secret(), ..Default::default() };
    let token = UpdateTokenRequest { auth_token: secret(), ..Default::default() };
    let made = CreateApiTokenResponse { token: secret(), ..Default::default() };
    for printed in [
        format!("{made:?}"),
        format!("{issued:?}"),
        format!("{create:#?}"),
        format!("{update:?}"),
        format!("{provider:?}"),
        format!("{token:?}"),
    ] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
