//! The rules of who may call what, stated a second time: from the design, by role instead of by RPC, and without a
//! look at the product's own table. Where the two differ, one of them is wrong.

use super::rows::Rpc;

/// The RPCs about accounts themselves: for operators alone.
const ABOUT_ACCOUNTS: [&str; 6] = [
    "CreateAccount",
    "GetAccount",
    "ListAccounts",
    "DisableAccount",
    "EnableAccount",
    "DeleteAccount",
];

/// What a reader may: look at resources. Accounts, tokens, role bindings and the audit log are none of his.
const LOOKS: [&str; 12] = [
    "GetCredential",
    "ListCredentials",
    "WatchCredentials",
    "ListVersions",
    "GetRotation",
    "ListRotations",
    "ListRecipientKeys",
    "GetDeliveryPolicy",
    "GetAccessTokenPolicy",
    "GetProvider",
    "ListProviders",
    "ListVerifications",
];

/// What a rotator may beyond that.
const ROTATES: [&str; 4] =
    ["RotateCredential", "ConfirmRotation", "CancelRotation", "ResumeRotation"];

/// Who calls, as the vault should see it.
pub(super) enum Who {
    /// Nobody: the connection itself does not come about.
    Unconnected,
    /// Nobody: what is presented proves nothing.
    Unproven,
    /// Somebody who operates the vault or does not, with roles in accounts.
    Known { operator: bool, roles: Vec<(String, &'static str)> },
}

/// What a call is aimed at.
#[derive(Clone, Copy)]
pub(super) struct Aim<'a> {
    /// `vault`, or the id of an account.
    pub(super) owner: &'a str,
    pub(super) exists: bool,
    pub(super) disabled: bool,
}

/// What the caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    NoConnection,
    Unauthenticated,
    /// No member there, or there is no such account: recorded in the vault's chain.
    NotFound,
    /// No operator: recorded in the vault's chain.
    NotOperator,
    /// No role that allows it: recorded in the account's own chain.
    RoleMissing,
    /// Recorded there, too.
    Disabled,
    Allowed,
}

pub(super) fn decide(rpc: &Rpc, who: &Who, aim: Aim<'_>) -> Verdict {
    let (operator, roles) = match who {
        Who::Unconnected => return Verdict::NoConnection,
        Who::Unproven => return Verdict::Unauthenticated,
        Who::Known { operator, roles } => (*operator, roles),
    };
    let method = rpc.method.as_str();
    if aim.owner == "vault" || ABOUT_ACCOUNTS.contains(&method) {
        return if operator { Verdict::Allowed } else { Verdict::NotOperator };
    }
    // The one thing that an operator may do in an account: to let its first admin in.
    if operator && method == "CreateApiToken" && aim.exists {
        return Verdict::Allowed;
    }
    let mut here = roles.iter().filter(|(account, _)| account == aim.owner).map(|(_, role)| *role);
    let roles: Vec<&str> = here.by_ref().collect();
    if roles.is_empty() || !aim.exists {
        Verdict::NotFound
    } else if !roles.iter().any(|role| allows(role, rpc)) {
        Verdict::RoleMissing
    } else if aim.disabled {
        Verdict::Disabled
    } else {
        Verdict::Allowed
    }
}

fn allows(role: &str, rpc: &Rpc) -> bool {
    let method = rpc.method.as_str();
    match role {
        "reader" => LOOKS.contains(&method),
        "rotator" => allows("reader", rpc) || ROTATES.contains(&method),
        "token-writer" => {
            // Of rotations, those of tokens: no row here is about one.
            allows("reader", rpc)
                || ["UpdateToken", "RotateToken", "VerifyProvider"].contains(&method)
        }
        "verifier" => rpc.service == "UseService" && method != "ComputeSipDigest",
        "sip-client" => method == "ComputeSipDigest",
        "auditor" => rpc.service == "AuditService",
        "account-admin" => rpc.service != "UseService",
        // In an account it is no role at all.
        _ => false,
    }
}
