//! Calls of every kind, good and bad, each with secrets in it that are remembered.

mod carriers;
mod digests;
mod keys;
mod sealed;
mod tokens;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use credvault::grpc::proto::*;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Response, Status};

use crate::support::fakes::telepath::FakeTelepath;
use crate::support::fakes::twilio::{FakeTwilio, Fault};
use crate::support::fakes::vobiz::FakeVobiz;
use crate::support::process::Process;
use crate::support::random::Rng;
use crate::support::{Bearer, Clients, Wire, channel, md5_response};

const PARENT: &str = "accounts/dev";
const REALM: &str = "sip.test";

/// `CreateCredentialRequest` as a careless client might send it: its password is not text.
#[derive(Clone, PartialEq, prost::Message)]
struct Careless {
    #[prost(string, tag = "1")]
    parent: String,
    #[prost(bytes = "vec", tag = "4")]
    password: Vec<u8>,
}

/// The calls, and what must be looked for after them.
pub(super) struct Workload {
    clients: Clients,
    address: SocketAddr,
    token: String,
    twilio: Arc<FakeTwilio>,
    others: Arc<(FakeVobiz, FakeTelepath)>,
    rng: Rng,
    /// Generated passwords: sent once each.
    pub(super) issued: Vec<(String, Vec<u8>)>,
    /// Everything that is never sent.
    pub(super) secrets: Vec<(String, Vec<u8>)>,
    /// Messages, details and metadata of the answers, as the client decoded them: on the wire they
    /// are compressed.
    pub(super) decoded: Vec<(String, Vec<u8>)>,
    pub(super) calls: usize,
}

impl Workload {
    pub(super) fn new(
        address: SocketAddr,
        process: &Process,
        twilio: Arc<FakeTwilio>,
        others: Arc<(FakeVobiz, FakeTelepath)>,
    ) -> Self {
        let token = process.token();
        let mut workload = Self {
            clients: Clients::new(&channel(address), &token),
            address,
            token,
            twilio,
            others,
            rng: Rng::new(9),
            issued: Vec::new(),
            secrets: Vec::new(),
            decoded: Vec::new(),
            calls: 0,
        };
        let token = workload.token.split('_').nth(2).unwrap().to_owned();
        workload.secret("the API token", &token);
        let keys = std::fs::read_to_string(process.data_dir.join("dev.key")).unwrap();
        let key = keys.lines().find_map(|line| line.strip_prefix("cvk1_1_")).unwrap();
        workload.secret("the KEK", key.split('_').next().unwrap());
        workload
    }

    /// Remembers a secret that is never sent; of digits also the bytes that they stand for.
    fn secret(&mut self, what: &str, text: &str) {
        let bytes = hex::decode(text).ok().map(|bytes| (format!("{what}, decoded"), bytes));
        self.secrets.push((what.to_owned(), text.as_bytes().to_vec()));
        self.secrets.extend(bytes);
    }

    /// A new secret: a password of the caller's, or something that should have been one.
    fn password(&mut self, what: &str) -> String {
        let password = self.rng.password(20);
        self.secret(what, &password);
        password
    }

    fn carrier_token(&mut self, what: &str) -> String {
        let token = self.rng.hex(32);
        self.secret(what, &token);
        token
    }

    /// Remembers the hash that is as good as a password.
    fn ha1(&mut self, username: &str, password: &str) {
        let text = format!("{username}:{REALM}:{password}");
        let md5 = hex::encode(<md5::Md5 as md5::Digest>::digest(&text));
        self.secret(&format!("HA1 of {username}"), &md5);
        self.secret(&format!("SHA-256 HA1 of {username}"), &hex::encode(Sha256::digest(&text)));
        let longer = hex::encode(sha2::Sha512_256::digest(&text));
        self.secret(&format!("SHA-512-256 HA1 of {username}"), &longer);
    }

    fn issued(&mut self, username: &str, issued: Option<IssuedSecret>) -> Result<String, String> {
        let issued = issued.ok_or("a secret should have been issued")?;
        let what = format!("password {} of {username}", issued.version);
        self.issued.push((what, issued.password.as_bytes().to_vec()));
        self.ha1(username, &issued.password);
        Ok(issued.password)
    }

    /// Keeps what an answer said beside its message.
    fn keep<T>(&mut self, call: &str, result: &Result<Response<T>, Status>) {
        self.calls += 1;
        let (message, details, metadata) = match result {
            Ok(response) => ("", &[][..], response.metadata()),
            Err(status) => (status.message(), status.details(), status.metadata()),
        };
        let place = format!("the answer to {call}");
        let headers = metadata.clone().into_headers();
        let headers = headers.iter().flat_map(|(name, value)| {
            [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat()
        });
        let bytes = [message.as_bytes(), b"\n", details, b"\n"].concat();
        self.decoded.push((place, bytes.into_iter().chain(headers).collect()));
    }

    fn good<T>(&mut self, call: &str, result: Result<Response<T>, Status>) -> Result<T, String> {
        self.keep(call, &result);
        result.map(Response::into_inner).map_err(|status| format!("{call} failed: {status}"))
    }

    fn bad<T>(
        &mut self,
        call: &str,
        code: Code,
        result: Result<Response<T>, Status>,
    ) -> Result<(), String> {
        self.keep(call, &result);
        match result {
            Err(status) if status.code() == code => Ok(()),
            Err(status) => Err(format!("{call} answers {status}, not {code:?}")),
            Ok(_) => Err(format!("{call} was not refused")),
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), String> {
        self.credentials().await?;
        self.digests().await?;
        self.providers().await?;
        self.keys().await?;
        self.other_carriers().await?;
        self.sealed().await?;
        self.rotated_tokens().await?;
        self.lists().await?;
        self.wrong_fields().await?;
        self.wrong_passwords().await?;
        self.wrong_carrier_tokens().await?;
        self.wrong_callers().await?;
        self.malformed().await
    }

    fn new_credential(username: &str) -> CreateCredentialRequest {
        let (id, realm) = (username.to_owned(), REALM.to_owned());
        CreateCredentialRequest {
            parent: PARENT.to_owned(),
            credential_id: id.clone(),
            credential: Some(Credential { username: id, realm, ..Credential::default() }),
            ..CreateCredentialRequest::default()
        }
    }

    fn name(username: &str) -> String {
        format!("{PARENT}/credentials/{username}")
    }

    async fn verify(&mut self, user: &str, password: &str, valid: bool) -> Result<(), String> {
        let request = VerifySipDigestRequest {
            parent: PARENT.to_owned(),
            username: user.to_owned(),
            realm: REALM.to_owned(),
            method: "REGISTER".to_owned(),
            uri: format!("sip:{REALM}"),
            nonce: "n0nce".to_owned(),
            response: md5_response(user, REALM, password, "n0nce"),
            ..VerifySipDigestRequest::default()
        };
        let result = self.clients.uses.verify_sip_digest(request).await;
        let answer = self.good("VerifySipDigest", result)?;
        if answer.valid == valid { Ok(()) } else { Err(format!("{user}: valid is not {valid}")) }
    }

    async fn credentials(&mut self) -> Result<(), String> {
        for number in 0..6_u32 {
            let user = format!("desk-{number}");
            let mut request = Self::new_credential(&user);
            request.password_length = 16 + 8 * number;
            let result = self.clients.credentials.create_credential(request).await;
            let created = self.good("CreateCredential", result)?;
            let mut password = self.issued(&user, created.issued)?;
            for _ in 0..3 {
                self.verify(&user, &password, true).await?;
                let request = RotateCredentialRequest {
                    name: Self::name(&user),
                    request_id: self.rng.uuid4(),
                    reason: "the canary scan".to_owned(),
                    ..RotateCredentialRequest::default()
                };
                let result = self.clients.credentials.rotate_credential(request.clone()).await;
                let rotated = self.good("RotateCredential", result)?;
                let old = std::mem::replace(&mut password, self.issued(&user, rotated.issued)?);
                self.verify(&user, &old, false).await?;
                let again = self.clients.credentials.rotate_credential(request).await;
                self.bad("RotateCredential again", Code::FailedPrecondition, again)?;
            }
        }
        let mut request = Self::new_credential("chosen");
        let first = self.password("a chosen first password");
        request.password = Some(first.clone());
        let result = self.clients.credentials.create_credential(request.clone()).await;
        let etag = self.good("CreateCredential", result)?.credential.unwrap_or_default().etag;
        self.ha1("chosen", &first);
        let second = self.password("a chosen second password");
        self.ha1("chosen", &second);
        let update = UpdateCredentialRequest {
            credential: Some(Credential {
                name: Self::name("chosen"),
                etag: etag.clone(),
                description: Some("with a password of its own".to_owned()),
                ..Credential::default()
            }),
            password: Some(second.clone()),
            request_id: self.rng.uuid4(),
            ..UpdateCredentialRequest::default()
        };
        let result = self.clients.credentials.update_credential(update.clone()).await;
        self.good("UpdateCredential", result)?;
        self.verify("chosen", &second, true).await?;
        self.verify("chosen", &first, false).await?;

        let third = self.password("a password with a stale etag");
        let stale = UpdateCredentialRequest {
            password: Some(third),
            request_id: String::new(),
            ..update.clone()
        };
        let result = self.clients.credentials.update_credential(stale).await;
        self.bad("UpdateCredential with a stale etag", Code::Aborted, result)?;
        let other = self.password("a password under a used request id");
        let reused = UpdateCredentialRequest { password: Some(other), ..update };
        let result = self.clients.credentials.update_credential(reused).await;
        self.bad("UpdateCredential with a used id", Code::AlreadyExists, result)?;
        request.password = Some(self.password("a password for a taken id"));
        let result = self.clients.credentials.create_credential(request).await;
        self.bad("CreateCredential of a taken id", Code::AlreadyExists, result)?;

        let name = Self::name("desk-5");
        let request = DeleteCredentialRequest { name, ..DeleteCredentialRequest::default() };
        let result = self.clients.credentials.delete_credential(request).await;
        self.good("DeleteCredential", result).map(drop)
    }

    fn new_provider(id: &str, auth_token: String) -> CreateProviderRequest {
        let account_sid = format!("AC{}", "1".repeat(32));
        let kind =
            Some(provider::Kind::Twilio(TwilioProvider { account_sid, ..Default::default() }));
        CreateProviderRequest {
            parent: PARENT.to_owned(),
            provider_id: id.to_owned(),
            provider: Some(Provider { kind, ..Provider::default() }),
            auth_token,
            ..CreateProviderRequest::default()
        }
    }

    fn new_token(auth_token: String) -> UpdateTokenRequest {
        let name = format!("{PARENT}/providers/carrier");
        UpdateTokenRequest { name, auth_token, ..UpdateTokenRequest::default() }
    }

    async fn providers(&mut self) -> Result<(), String> {
        let sid = format!("AC{}", "1".repeat(32));
        // The carrier shows its primary token in every answer; nobody ever gives it to the vault.
        let primary = self.carrier_token("the carrier's primary token");
        self.twilio.add_account(&sid, &primary);
        let first = self.carrier_token("the first token");
        self.twilio.add_token(&sid, &first);
        let request = Self::new_provider("carrier", first);
        let result = self.clients.providers.create_provider(request).await;
        self.good("CreateProvider", result)?;
        for validate_only in [true, false] {
            let token = self.carrier_token(&format!("a new token, validate_only {validate_only}"));
            self.twilio.add_token(&sid, &token);
            let request = UpdateTokenRequest { validate_only, ..Self::new_token(token) };
            let result = self.clients.providers.update_token(request).await;
            self.good("UpdateToken", result)?;
        }
        let request = VerifyProviderRequest { name: format!("{PARENT}/providers/carrier") };
        let result = self.clients.providers.verify_provider(request).await;
        self.good("VerifyProvider", result).map(drop)
    }

    async fn lists(&mut self) -> Result<(), String> {
        let parent = PARENT.to_owned();
        let request = ListCredentialsRequest { parent: parent.clone(), ..Default::default() };
        let result = self.clients.credentials.list_credentials(request).await;
        self.good("ListCredentials", result)?;
        let request = WatchCredentialsRequest { parent: parent.clone(), ..Default::default() };
        let result = self.clients.credentials.watch_credentials(request).await;
        let mut watch = self.good("WatchCredentials", result)?;
        while let Some(told) = watch.message().await.map_err(|status| status.to_string())? {
            self.decoded.push(("what a watch tells".to_owned(), told.encode_to_vec()));
            if matches!(told.change, Some(watch_credentials_response::Change::CaughtUp(_))) {
                break;
            }
        }
        let request = ListProvidersRequest { parent: parent.clone(), ..Default::default() };
        let result = self.clients.providers.list_providers(request).await;
        self.good("ListProviders", result)?;
        let request = ListAuditEntriesRequest { parent, page_size: 200, ..Default::default() };
        let result = self.clients.audit.list_audit_entries(request).await;
        self.good("ListAuditEntries", result)?;
        let request = GetCredentialRequest { name: Self::name("desk-0") };
        let result = self.clients.credentials.get_credential(request).await;
        self.good("GetCredential", result)?;
        let request = GetProviderRequest { name: format!("{PARENT}/providers/carrier") };
        let result = self.clients.providers.get_provider(request).await;
        self.good("GetProvider", result).map(drop)
    }

    /// Secrets where they do not belong: refused, and not repeated.
    async fn wrong_fields(&mut self) -> Result<(), String> {
        type Put = fn(&mut CreateCredentialRequest, String);
        let fields: [(&str, Put); 11] = [
            ("parent", |it, secret| it.parent = secret),
            ("credential_id", |it, secret| it.credential_id = secret),
            ("request_id", |it, secret| it.request_id = secret),
            ("reason", |it, secret| it.reason = secret.repeat(11)),
            ("username", |it, secret| it.credential.as_mut().unwrap().username = secret + ":"),
            ("realm", |it, secret| it.credential.as_mut().unwrap().realm = secret + " "),
            ("description", |it, secret| {
                it.credential.as_mut().unwrap().description = Some(secret.repeat(52));
            }),
            ("label key", |it, secret| {
                it.credential.as_mut().unwrap().labels = BTreeMap::from([(secret, String::new())]);
            }),
            ("label value", |it, secret| {
                let labels = BTreeMap::from([("site".to_owned(), secret.repeat(13))]);
                it.credential.as_mut().unwrap().labels = labels;
            }),
            ("parent's account", |it, secret| it.parent = format!("accounts/{secret}")),
            ("password_length", |it, secret| {
                (it.password, it.password_length) = (Some(secret), 20);
            }),
        ];
        for (field, put) in fields {
            let secret = self.password(&format!("a secret as {field}"));
            let mut request = Self::new_credential("misplaced");
            put(&mut request, secret);
            let result = self.clients.credentials.create_credential(request).await;
            self.bad(&format!("a secret as {field}"), Code::InvalidArgument, result)?;
        }
        let path = self.password("a secret in a mask");
        let request = UpdateCredentialRequest {
            credential: Some(Credential { name: Self::name("desk-0"), ..Credential::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec![path] }),
            ..UpdateCredentialRequest::default()
        };
        let result = self.clients.credentials.update_credential(request).await;
        self.bad("a secret in a mask", Code::InvalidArgument, result)?;
        let page_token = self.password("a secret as page token");
        let parent = PARENT.to_owned();
        let request = ListCredentialsRequest { parent, page_token, ..Default::default() };
        let result = self.clients.credentials.list_credentials(request).await;
        self.bad("a secret as page token", Code::InvalidArgument, result)?;
        let name = Self::name(&self.password("a secret in a name"));
        let result = self.clients.credentials.get_credential(GetCredentialRequest { name }).await;
        self.bad("a secret in a name", Code::InvalidArgument, result)?;
        let etag = self.password("a secret as etag");
        let request =
            RotateCredentialRequest { name: Self::name("desk-0"), etag, ..Default::default() };
        let result = self.clients.credentials.rotate_credential(request).await;
        self.bad("a secret as etag", Code::Aborted, result)?;
        let response = self.password("a password as response");
        let request = VerifySipDigestRequest {
            parent: PARENT.to_owned(),
            username: "desk-0".to_owned(),
            realm: REALM.to_owned(),
            method: "REGISTER".to_owned(),
            uri: format!("sip:{REALM}"),
            nonce: "n0nce".to_owned(),
            response,
            ..VerifySipDigestRequest::default()
        };
        let result = self.clients.uses.verify_sip_digest(request).await;
        self.bad("a password as response", Code::InvalidArgument, result)?;
        let source = self.password("a password as source");
        let request = VerifySipDigestRequest {
            parent: PARENT.to_owned(),
            username: "desk-0".to_owned(),
            realm: REALM.to_owned(),
            method: "REGISTER".to_owned(),
            uri: format!("sip:{REALM}"),
            nonce: "n0nce".to_owned(),
            response: "0".repeat(32),
            source,
            ..VerifySipDigestRequest::default()
        };
        for _ in 0..10 {
            let result = self.clients.uses.verify_sip_digest(request.clone()).await;
            self.good("VerifySipDigest", result)?;
        }
        let result = self.clients.uses.verify_sip_digest(request).await;
        self.bad("a password as source", Code::ResourceExhausted, result)
    }

    async fn wrong_passwords(&mut self) -> Result<(), String> {
        for (what, tail) in
            [("a quote", "\""), ("a backslash", "\\"), ("a control", "\n"), ("é", "é")]
        {
            let password = self.password(&format!("a password with {what}")) + tail;
            let mut request = Self::new_credential("unfit");
            request.password = Some(password.clone());
            let result = self.clients.credentials.create_credential(request).await;
            self.bad(&format!("a password with {what}"), Code::InvalidArgument, result)?;
            let name = Self::name("desk-0");
            let request = UpdateCredentialRequest {
                credential: Some(Credential { name, ..Credential::default() }),
                password: Some(password),
                ..UpdateCredentialRequest::default()
            };
            let result = self.clients.credentials.update_credential(request).await;
            self.bad(&format!("an update with {what}"), Code::InvalidArgument, result)?;
        }
        let mut request = Self::new_credential("unfit");
        request.password = Some(self.password("a password that is too long").repeat(7));
        let result = self.clients.credentials.create_credential(request).await;
        self.bad("a password that is too long", Code::InvalidArgument, result)?;
        let mut request = Self::new_credential("unfit");
        request.password = Some(self.password("a password that is far too long").repeat(4_000));
        let result = self.clients.credentials.create_credential(request).await;
        self.bad("a message that is too large", Code::ResourceExhausted, result)
    }

    async fn wrong_carrier_tokens(&mut self) -> Result<(), String> {
        let token = self.carrier_token("a token that the carrier refuses");
        let result = self.clients.providers.update_token(Self::new_token(token)).await;
        self.bad("a refused token", Code::FailedPrecondition, result)?;
        let token = self.password("a token of another form");
        let result = self.clients.providers.update_token(Self::new_token(token)).await;
        self.bad("a token of another form", Code::InvalidArgument, result)?;
        let echo = self.password("what the carrier says");
        let body = format!("{{\"message\":\"{echo}\",\"sid\":\"{echo}\",\"status\":\"{echo}\"}}");
        let says = |status: u16| Fault::StatusWith {
            status,
            headers: vec![("x-echo", echo.clone()), ("retry-after", echo.clone())],
            body: body.clone().into_bytes(),
        };
        for (fault, code) in [
            (says(200), Code::FailedPrecondition),
            (says(401), Code::FailedPrecondition),
            (says(403), Code::FailedPrecondition),
            (says(418), Code::Unavailable),
            (says(429), Code::Unavailable),
            (says(503), Code::Unavailable),
            (Fault::Redirect(format!("http://127.0.0.1:9/{echo}")), Code::Unavailable),
            (Fault::SidMismatch, Code::FailedPrecondition),
            (Fault::MissingSid, Code::FailedPrecondition),
            (Fault::NotJson, Code::Unavailable),
            (Fault::HalfHead, Code::Unavailable),
            (Fault::HalfBody, Code::Unavailable),
            (Fault::CloseBeforeAnswer, Code::Unavailable),
            (Fault::ResetBeforeAnswer, Code::Unavailable),
        ] {
            let what = format!("a token at {fault:?}").replace(&echo, "…");
            let token = self.carrier_token(&what);
            self.twilio.add_token(&format!("AC{}", "1".repeat(32)), &token);
            self.twilio.fail_next(fault.clone());
            let result = self.clients.providers.update_token(Self::new_token(token.clone())).await;
            self.bad(&what, code, result)?;
            self.twilio.fail_next(fault);
            let request = Self::new_provider("another", token);
            let result = self.clients.providers.create_provider(request).await;
            self.bad(&what, code, result)?;
        }
        Ok(())
    }

    async fn wrong_callers(&mut self) -> Result<(), String> {
        let request = || GetCredentialRequest { name: Self::name("desk-0") };
        let (id, secret) = (self.rng.hex(24), self.rng.hex(64));
        self.secret("the secret of nobody's token", &secret);
        let body = format!("cv1_{id}_{secret}");
        let sum = &hex::encode(Sha256::digest(&body))[..8];
        let plain = self.password("a password as token");
        for (what, token) in [
            ("nobody's token", format!("{body}_{sum}")),
            ("a token with a wrong sum", format!("{body}_00000000")),
            ("a password as token", plain),
            ("no token", String::new()),
            ("a token twice", format!("{} {}", self.token, self.token)),
        ] {
            let mut clients = Clients::new(&channel(self.address), &token);
            let result = clients.credentials.get_credential(request()).await;
            self.bad(what, Code::Unauthenticated, result)?;
        }
        let mut twice = tonic::Request::new(request());
        let header = format!("Bearer {body}_{sum}").parse().unwrap();
        twice.metadata_mut().append("authorization", header);
        let plain = channel(self.address);
        let mut client = credential_service_client::CredentialServiceClient::new(plain);
        twice.metadata_mut().append("authorization", format!("Basic {body}").parse().unwrap());
        let result = client.get_credential(twice).await;
        self.bad("two tokens", Code::Unauthenticated, result)?;
        let mut beside = tonic::Request::new(request());
        let header = self.password("a secret in another header");
        beside.metadata_mut().insert("x-password", header.parse().unwrap());
        let result = self.clients.credentials.get_credential(beside).await;
        self.good("a secret in another header", result).map(drop)
    }

    fn grpc(&self) -> tonic::client::Grpc<Wire> {
        let wire = InterceptedService::new(channel(self.address), Bearer(self.token.clone()));
        tonic::client::Grpc::new(wire)
    }

    async fn malformed(&mut self) -> Result<(), String> {
        let create = "/credvault.v1.CredentialService/CreateCredential";
        let secret = self.password("a password that is not text");
        let careless = Careless {
            parent: PARENT.to_owned(),
            password: [secret.as_bytes(), &[0xff, 0xfe]].concat(),
        };
        let result = self.send(create, careless).await;
        self.bad("a password that is not text", Code::InvalidArgument, result)?;
        // A whole request where a password should be.
        let inner = Self::new_credential(&self.password("a secret in a nested message"));
        let careless = Careless { parent: PARENT.to_owned(), password: inner.encode_to_vec() };
        let result = self.send(create, careless).await;
        self.bad("a message as password", Code::InvalidArgument, result)?;
        let method = format!("/credvault.v1.CredentialService/{}", {
            let secret = self.rng.hex(32);
            self.secret("a secret as method", &secret);
            secret
        });
        let result = self.send(&method, Careless::default()).await;
        self.bad("a secret as method", Code::Unimplemented, result)
    }

    async fn send(
        &self,
        path: &str,
        message: Careless,
    ) -> Result<Response<CreateCredentialResponse>, Status> {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = PathAndQuery::try_from(path.to_owned()).unwrap();
        let codec = tonic_prost::ProstCodec::<Careless, CreateCredentialResponse>::default();
        grpc.unary(tonic::Request::new(message), path, codec).await
    }
}
