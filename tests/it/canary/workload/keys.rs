//! API keys, and what is looked at beside a token: a carrier that repeats the secret everywhere it can.

use credvault::grpc::proto::{
    AccessTokenGrant, AccessTokenPolicy, CheckStatus, CreateProviderRequest,
    ListVerificationsRequest, MintTwilioAccessTokenRequest, Provider, TwilioApiKey, TwilioProvider,
    UpdateAccessTokenPolicyRequest, UpdateProviderRequest, UpdateTokenRequest, Verification,
    VerifyProviderRequest, VideoGrant, provider,
};
use tonic::Code;

use super::{PARENT, Workload};
use crate::support::fakes::twilio::{Fault, Trunk};

impl Workload {
    fn key(sid: &str, secret: &str) -> Option<TwilioApiKey> {
        (!sid.is_empty()).then(|| TwilioApiKey { sid: sid.to_owned(), secret: secret.to_owned() })
    }

    fn new_key(sid: &str, secret: &str) -> UpdateTokenRequest {
        let api_key = Self::key(sid, secret);
        UpdateTokenRequest { api_key, ..Self::new_token(String::new()) }
    }

    /// Verifies the provider, which is answered OK whatever the carrier says beside its verdict.
    async fn verify_carrier(&mut self, what: &str) -> Result<Verification, String> {
        let request = VerifyProviderRequest { name: format!("{PARENT}/providers/carrier") };
        let result = self.clients.providers.verify_provider(request).await;
        let provider = self.good(what, result)?.provider.unwrap_or_default();
        Ok(provider.verification.unwrap_or_default())
    }

    /// Stores an API key in the place of the token, and uses it in every way.
    pub(super) async fn keys(&mut self) -> Result<(), String> {
        let [account, sid, trunk, list] =
            ["AC", "SK", "TK", "CL"].map(|kind| format!("{kind}{}", "1".repeat(32)));
        let secret = self.carrier_token("the secret of an API key");
        self.twilio.add_api_key(&account, &sid, &secret);
        let credential_lists = vec![list.clone()];
        self.twilio.set_trunk(
            &account,
            Trunk { sid: trunk.clone(), credential_lists, ..Trunk::default() },
        );
        self.twilio.add_numbers(&account, 2, Some(&trunk));
        let kind = TwilioProvider {
            account_sid: account,
            sip_trunk_sid: Some(trunk),
            credential_list_sid: Some(list),
            ..TwilioProvider::default()
        };
        let carrier = Provider {
            name: format!("{PARENT}/providers/carrier"),
            kind: Some(provider::Kind::Twilio(kind)),
            ..Provider::default()
        };
        let request =
            UpdateProviderRequest { provider: Some(carrier), ..UpdateProviderRequest::default() };
        let result = self.clients.providers.update_provider(request).await;
        self.good("UpdateProvider with a trunk", result)?;
        for validate_only in [true, false] {
            let request = UpdateTokenRequest { validate_only, ..Self::new_key(&sid, &secret) };
            let result = self.clients.providers.update_token(request).await;
            self.good("UpdateToken with a key", result)?;
        }
        let request = CreateProviderRequest {
            api_key: Self::key(&sid, &secret),
            ..Self::new_provider("keyed", String::new())
        };
        let result = self.clients.providers.create_provider(request).await;
        self.good("CreateProvider with a key", result)?;
        let told = self.verify_carrier("VerifyProvider with a key").await?;
        if told.checks.len() != 5 || told.checks.iter().any(|it| it.status() != CheckStatus::Passed)
        {
            return Err(format!("the key does not pass: {:?}", told.checks));
        }

        self.minted().await?;
        self.wrong_keys(&sid).await?;
        self.echoes(&secret).await?;
        let parent = format!("{PARENT}/providers/carrier");
        let request = ListVerificationsRequest { parent, ..ListVerificationsRequest::default() };
        let result = self.clients.providers.list_verifications(request).await;
        self.good("ListVerifications", result).map(drop)
    }

    /// A token that the key signs: refused first, and then sent once.
    async fn minted(&mut self) -> Result<(), String> {
        let request = MintTwilioAccessTokenRequest {
            name: format!("{PARENT}/providers/keyed"),
            identity: "alice".to_owned(),
            video: Some(VideoGrant::default()),
            ..Default::default()
        };
        let result = self.clients.uses.mint_twilio_access_token(request.clone()).await;
        self.bad("MintTwilioAccessToken", Code::FailedPrecondition, result)?;
        let policy = AccessTokenPolicy {
            name: format!("{PARENT}/accessTokenPolicy"),
            grants: vec![AccessTokenGrant::Video.into()],
            max_lifetime: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        };
        let update = UpdateAccessTokenPolicyRequest {
            access_token_policy: Some(policy),
            ..Default::default()
        };
        let result = self.clients.access.update_access_token_policy(update).await;
        self.good("UpdateAccessTokenPolicy", result)?;
        let result = self.clients.uses.mint_twilio_access_token(request).await;
        let minted = self.good("MintTwilioAccessToken", result)?;
        self.issued.push(("an access token".to_owned(), minted.token.into_bytes()));
        Ok(())
    }

    /// Keys that are refused, by the carrier or before.
    async fn wrong_keys(&mut self, sid: &str) -> Result<(), String> {
        let refused = self.carrier_token("an API key that the carrier refuses");
        let result = self.clients.providers.update_token(Self::new_key(sid, &refused)).await;
        self.bad("a refused key", Code::FailedPrecondition, result)?;
        let misplaced = self.carrier_token("the secret of an API key in the place of its SID");
        let result = self.clients.providers.update_token(Self::new_key(&misplaced, sid)).await;
        self.bad("a secret as SID", Code::InvalidArgument, result)?;
        let odd = self.password("an API key of another form") + "-";
        let result = self.clients.providers.update_token(Self::new_key(sid, &odd)).await;
        self.bad("a key of another form", Code::InvalidArgument, result)?;
        let beside = self.carrier_token("a token beside an API key");
        let key = self.carrier_token("an API key beside a token");
        let both = UpdateTokenRequest { auth_token: beside, ..Self::new_key(sid, &key) };
        let result = self.clients.providers.update_token(both).await;
        self.bad("a token and a key", Code::InvalidArgument, result)
    }

    /// Answers about the trunk, the list and the numbers that repeat the secret they were asked with.
    async fn echoes(&mut self, secret: &str) -> Result<(), String> {
        let body = format!(
            "{{\"code\": \"{secret}\", \"message\": \"{secret}\", \"sid\": \"{secret}\", \"status\": \"{secret}\"}}"
        );
        // All that is read of a trunk and of numbers, each of it the secret.
        let trunk = format!(
            "{{\"sid\": \"TK{}\", \"domain_name\": \"{secret}\", \"transfer_mode\": \"enable-all\", \
             \"auth_type\": \"{secret}\", \"friendly_name\": \"{secret}\"}}",
            "1".repeat(32)
        );
        let mode = trunk.replace("enable-all", secret);
        let numbers = format!(
            "{{\"incoming_phone_numbers\": [{{\"sid\": \"{secret}\", \"trunk_sid\": \"{secret}\"}}], \
             \"next_page_uri\": \"/{secret}?{secret}\"}}"
        );
        let says = |status: u16, body: &str| Fault::StatusWith {
            status,
            headers: vec![("x-echo", secret.to_owned()), ("retry-after", secret.to_owned())],
            body: body.as_bytes().to_vec(),
        };
        let mut faults = Vec::new();
        for path in ["/v1/Trunks", "/CredentialLists", "PageSize=1000"] {
            faults
                .extend([200, 400, 401, 403, 404, 418, 429, 503].map(|it| (path, says(it, &body))));
            faults.push((path, Fault::Redirect(format!("http://127.0.0.1:9/{secret}"))));
        }
        faults.extend([
            ("/v1/Trunks", says(200, &trunk)),
            ("/v1/Trunks", says(200, &mode)),
            ("PageSize=1000", says(200, &numbers)),
        ]);
        for (path, fault) in faults {
            let what = format!("{path} at {fault:?}").replace(secret, "…");
            self.twilio.set_path_fault(path, Some(fault));
            let told = self.verify_carrier(&what).await?;
            if told.checks.iter().all(|it| it.status() == CheckStatus::Passed) {
                return Err(format!("{what} is taken for good"));
            }
            let request = Self::new_key(&format!("SK{}", "1".repeat(32)), secret);
            let result = self.clients.providers.update_token(request).await;
            self.good(&what, result)?;
            self.twilio.set_path_fault(path, None);
        }
        Ok(())
    }
}
