//! What a credential's row says of whose it is, in a form that damage does not leave right (docs/adr/0011).

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use sha2::{Digest as _, Sha256};

use crate::credential::{CarrierCredential, Credential, Residence};
use crate::name::Uid;

/// The first bytes of a SHA-256 over account, uid, id, realm, username, and where it lives if that is at a carrier, none
/// of which ever changes; and over the schedule, if there is one: it says for whom the vault seals a password that
/// nobody asked for.
pub(super) type Checksum = [u8; 8];

/// The checksum of a row. It finds damage, not intent: there is no key in it.
pub(super) fn of(account: Uid, row: &Credential, schedule: Option<&str>) -> Checksum {
    let texts = [row.name.id.as_str(), row.realm.as_str(), row.username.as_str()];
    let mut hash = hash(account.as_bytes(), row.uid.as_bytes(), texts);
    if let Some(Residence { provider, provider_uid, at }) = &row.residence {
        hash.update(provider_uid.as_bytes());
        let parts: &[&str] = match at {
            CarrierCredential::Twilio { credential_list_sid, credential_sid } => {
                &[credential_list_sid.as_str(), credential_sid.as_str()]
            }
            CarrierCredential::Vobiz { credential_id } => &[credential_id.as_str()],
            CarrierCredential::Telepath { trunk_id } => &[trunk_id.as_str()],
        };
        add_texts(&mut hash, [provider.as_str(), at.provider_type().as_str()]);
        add_texts(&mut hash, parts.iter().copied());
    }
    add_texts(&mut hash, schedule);
    finish(hash)
}

fn hash(account: &[u8], uid: &[u8], texts: [&str; 3]) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(account);
    hash.update(uid);
    add_texts(&mut hash, texts);
    hash
}

fn add_texts<'a>(hash: &mut Sha256, texts: impl IntoIterator<Item = &'a str>) {
    for text in texts {
        // None of them has a zero in it.
        hash.update(text);
        hash.update([0]);
    }
}

fn finish(hash: Sha256) -> Checksum {
    let mut checksum = Checksum::default();
    checksum.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    checksum
}

/// Lets SQL say `checksum(account, id, uid, realm, username)`, for rows from before they had one.
pub(super) fn teach(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("checksum", 5, flags, |row| {
        let text = |column| Ok::<_, rusqlite::Error>(row.get_raw(column).as_str()?);
        let (account, uid) = (row.get_raw(0).as_blob()?, row.get_raw(2).as_blob()?);
        Ok(finish(hash(account, uid, [text(1)?, text(3)?, text(4)?])))
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::credential::{Description, Labels, Realm, Username};
    use crate::name::{CredentialName, ResourceId};
    use crate::provider::telepath::TrunkId;
    use crate::versions::Versions;

    fn row() -> Credential {
        Credential {
            uid: Uid::from_bytes([1; 16]),
            name: CredentialName {
                account: ResourceId::parse("acme").unwrap(),
                id: ResourceId::parse("desk").unwrap(),
            },
            username: Username::parse("alice").unwrap(),
            realm: Realm::parse("sip.test").unwrap(),
            enabled: true,
            description: Description::parse("").unwrap(),
            labels: Labels::default(),
            version: 1,
            revision: 1,
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
            rotate_time: Timestamp::UNIX_EPOCH,
            versions: Versions::default(),
            residence: None,
            schedule: None,
        }
    }

    #[test]
    fn whatever_says_whose_a_row_is_changes_its_checksum() {
        let (row, account) = (row(), Uid::from_bytes([2; 16]));
        let own = of(account, &row, None);
        assert_eq!(of(account, &Credential { version: 2, revision: 2, ..row.clone() }, None), own);
        assert_ne!(of(Uid::from_bytes([3; 16]), &row, None), own);
        assert_ne!(of(account, &row, Some("{}")), own);
        assert_ne!(of(account, &row, Some("{}")), of(account, &row, Some("{ }")));
        let name = CredentialName { id: ResourceId::parse("desl").unwrap(), ..row.name.clone() };
        let residence = |provider: &str, trunk: &str| {
            Some(Residence {
                provider: ResourceId::parse(provider).unwrap(),
                provider_uid: Uid::from_bytes([4; 16]),
                at: CarrierCredential::Telepath { trunk_id: TrunkId::parse(trunk).unwrap() },
            })
        };
        let at_carrier = Credential { residence: residence("telepath", "one"), ..row.clone() };
        for other in [("telepath", "two"), ("elsewhere", "one")] {
            let other = Credential { residence: residence(other.0, other.1), ..row.clone() };
            assert_ne!(of(account, &other, None), of(account, &at_carrier, None));
        }
        for other in [
            at_carrier,
            Credential { uid: Uid::from_bytes([3; 16]), ..row.clone() },
            Credential { name, ..row.clone() },
            Credential { username: Username::parse("alicf").unwrap(), ..row.clone() },
            Credential { realm: Realm::parse("sip.tesu").unwrap(), ..row.clone() },
        ] {
            assert_ne!(of(account, &other, None), own);
        }
    }

    #[test]
    fn sql_says_the_same() {
        let connection = Connection::open_in_memory().unwrap();
        teach(&connection).unwrap();
        let (row, account) = (row(), Uid::from_bytes([2; 16]));
        let sql = "SELECT checksum(?1, 'desk', ?2, 'sip.test', 'alice')";
        let said: Vec<u8> = connection
            .query_row(sql, [account.as_bytes(), row.uid.as_bytes()], |row| row.get(0))
            .unwrap();
        assert_eq!(said, of(account, &row, None));
    }
}
