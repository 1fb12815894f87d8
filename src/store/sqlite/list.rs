//! Pages of credentials, as quick among millions as among thousands (docs/adr/0025).
//!
//! The order of a list is the id, or the username where a prefix of it is asked for. What an index yields in this
//! order comes from it; the rest is looked for row by row, a bounded number of them a page.

use std::borrow::Cow;

use jiff::Timestamp;
use rusqlite::{Connection, Row, ToSql};

use super::credentials::{COLUMNS, credential_row, residence};
use super::read::{LOOKED_AT, Result, json, search, text_size};
use crate::account::Account;
use crate::credential::{Credential, CredentialFilter};
use crate::store::Page;

/// Credentials that fit `filter`, in the order of its positions, after `after`.
pub(super) fn list_credentials(
    connection: &Connection,
    account: &Account,
    filter: &CredentialFilter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Credential>> {
    page(connection, account, filter, after, (limit, LOOKED_AT))
}

/// What a policy is longer by in an answer than in its row: the account of its recipient key, and framing.
const ON_THE_WIRE: usize = 120;

fn page(
    connection: &Connection,
    account: &Account,
    filter: &CredentialFilter,
    after: Option<&str>,
    bounds: (usize, usize),
) -> Result<Page<Credential>> {
    let (source, texts) = source(filter, after);
    let sql = format!("SELECT {COLUMNS} FROM credential {source}");
    let position =
        |row: &Row<'_>| Ok(filter.position(row.get_ref(2)?.as_str()?, row.get_ref(0)?.as_str()?));
    search(connection, &sql, &*arguments(account, &texts), bounds, position, |row| {
        if !fits(row, filter)? {
            return Ok(None);
        }
        let credential = credential_row(row, account)?;
        let schedule = row.get_ref(17)?.as_str_or_null()?.map_or(0, |it| it.len() + ON_THE_WIRE);
        let size = text_size(row, &[0, 2, 3, 5, 6])? + 16 * credential.labels.as_map().len();
        let size = size + schedule;
        Ok(Some((credential, size)))
    })
}

/// From where the rows come, in the order of the list: SQL, and the texts for it from `?2` on. The rows are all that fit
/// the part of the filter that an index serves, and may be more.
fn source<'a>(
    filter: &'a CredentialFilter,
    after: Option<&'a str>,
) -> (&'static str, Vec<Cow<'a, str>>) {
    let id = Cow::from(after.unwrap_or_default());
    match (&filter.username_prefix, &filter.realm, filter.enabled) {
        (Some(prefix), realm, _) => {
            let first = (prefix.as_str(), "");
            let (username, id) = after.and_then(|at| at.split_once(' ')).unwrap_or(first);
            let range = [username.into(), id.into(), end_of_prefix(prefix.as_str()).into()];
            let realm = realm.as_ref().map(|realm| realm.as_str().into());
            let sql = if realm.is_none() {
                "INDEXED BY credential_by_username
                WHERE account = ?1 AND (username, id) > (?2, ?3) AND username < ?4
                ORDER BY username, id"
            } else {
                // The index of UNIQUE (account, realm, username).
                "INDEXED BY sqlite_autoindex_credential_2
                WHERE account = ?1 AND (username, id) > (?2, ?3) AND username < ?4 AND realm = ?5
                ORDER BY username, id"
            };
            (sql, range.into_iter().chain(realm).collect())
        }
        (None, Some(realm), _) => {
            let sql = "INDEXED BY credential_by_realm
                WHERE account = ?1 AND id > ?2 AND realm = ?3 ORDER BY id";
            (sql, vec![id, realm.as_str().into()])
        }
        (None, None, Some(false)) => {
            let sql = "INDEXED BY credential_disabled
                WHERE account = ?1 AND id > ?2 AND enabled = 0 ORDER BY id";
            (sql, vec![id])
        }
        (None, None, _) => ("WHERE account = ?1 AND id > ?2 ORDER BY id", vec![id]),
    }
}

fn arguments<'a>(account: &'a Account, texts: &'a [Cow<'_, str>]) -> Vec<&'a dyn ToSql> {
    let texts = texts.iter().map(|text| -> &dyn ToSql { text });
    std::iter::once::<&dyn ToSql>(account.uid.as_bytes()).chain(texts).collect()
}

/// The first text behind all that begin with `prefix`: usernames are ASCII, of which none has the last character.
fn end_of_prefix(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    if let Some(last) = end.pop() {
        end.extend(char::from_u32(u32::from(last) + 1));
    }
    end
}

fn fits(row: &Row<'_>, filter: &CredentialFilter) -> Result<bool> {
    if let Some(enabled) = filter.enabled
        && row.get::<_, bool>(4)? != enabled
    {
        return Ok(false);
    }
    if let Some(realm) = &filter.realm
        && row.get_ref(3)?.as_str()? != realm.as_str()
    {
        return Ok(false);
    }
    if let Some(prefix) = &filter.username_prefix
        && !row.get_ref(2)?.as_str()?.starts_with(prefix.as_str())
    {
        return Ok(false);
    }
    if let Some(before) = filter.rotated_before.map(Timestamp::as_microsecond)
        && row.get::<_, i64>(11)? >= before
    {
        return Ok(false);
    }
    if let Some(provider) = &filter.provider
        && row.get_ref(14)?.as_str_or_null().ok().flatten() != Some(provider.as_str())
    {
        return Ok(false);
    }
    if let Some(carrier) = filter.provider_type
        && residence(row)?.is_none_or(|it| it.at.provider_type() != carrier)
    {
        return Ok(false);
    }
    if let Some(before) = filter.due_before.map(Timestamp::as_microsecond)
        && row.get::<_, Option<i64>>(18)?.is_none_or(|due| due >= before)
    {
        return Ok(false);
    }
    let wanted = filter.labels.as_map();
    if wanted.is_empty() {
        return Ok(true);
    }
    let labels: std::collections::BTreeMap<String, String> = json(row, 6)?;
    Ok(wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::credential::{Labels, Realm, Username};
    use crate::name::{ResourceId, Uid};
    use crate::provider::ProviderType;
    use crate::store::sqlite::files::migrate;

    const MOST: usize = 20;

    /// Two accounts with the same 300 credentials, whose ids lie in another order than their usernames. Two realms have the
    /// same username each time.
    fn filled() -> (Connection, Account) {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, 0).unwrap();
        connection
            .execute_batch(
                "INSERT INTO account (uid, id, disabled, create_time)
                 VALUES (zeroblob(16), 'own', 0, 0), (x'01', 'other', 0, 0);
                 WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 299)
                 INSERT INTO credential SELECT uid, format('id-%03d', n * 7 % 300), randomblob(16),
                    format('%s-%d', iif(n % 40 = 0, 'rare', 'user'), n / 2), 'realm-' || (n % 3), n % 50 <> 0, '',
                    iif(n % 60 = 0, '{\"site\":\"b\",\"team\":\"x\"}', '{\"site\":\"a\"}'),
                    1, 1, 0, 0, n, zeroblob(150), zeroblob(8), '[]', NULL, iif(n % 9 = 0, 'vobiz', NULL),
                    iif(n % 9 = 0, zeroblob(16), NULL),
                    iif(n % 9 = 0, format('{\"type\":\"vobiz\",\"credential_id\":\"%d\"}', n), NULL),
                    NULL, NULL
                 FROM n, account;",
            )
            .unwrap();
        let account = Account {
            uid: Uid::ZERO,
            id: ResourceId::parse("own").unwrap(),
            disabled: false,
            enrolled_keys_only: false,
            create_time: Timestamp::UNIX_EPOCH,
        };
        (connection, account)
    }

    fn position(filter: &CredentialFilter, item: &Credential) -> String {
        filter.position(item.username.as_str(), item.name.id.as_str())
    }

    fn filters() -> Vec<CredentialFilter> {
        let realm = |realm| Some(Realm::parse(realm).unwrap());
        let prefix = |prefix| Some(Username::parse(prefix).unwrap());
        let label = |key: &str, value: &str| {
            Labels::parse(BTreeMap::from([(key.to_owned(), value.to_owned())])).unwrap()
        };
        let before = |n| Some(Timestamp::from_microsecond(n).unwrap());
        let mut filters = Vec::new();
        for enabled in [None, Some(true), Some(false)] {
            for realm in [None, realm("realm-1"), realm("nowhere")] {
                for username_prefix in [None, prefix("user"), prefix("rare-1"), prefix("zz~")] {
                    for labels in [Labels::default(), label("site", "b"), label("site", "a")] {
                        for rotated_before in [None, before(0), before(5), before(250)] {
                            filters.push(CredentialFilter {
                                enabled,
                                realm: realm.clone(),
                                username_prefix: username_prefix.clone(),
                                labels: labels.clone(),
                                rotated_before,
                                due_before: None,
                                ..CredentialFilter::default()
                            });
                        }
                    }
                }
            }
        }
        for (provider, provider_type) in [
            (Some("vobiz"), None),
            (Some("telepath"), None),
            (None, Some(ProviderType::Vobiz)),
            (None, Some(ProviderType::Twilio)),
        ] {
            let provider = provider.map(|id| ResourceId::parse(id).unwrap());
            let rest = CredentialFilter::default();
            filters.push(CredentialFilter { provider, provider_type, ..rest });
        }
        filters
    }

    #[test]
    fn pages_of_every_filter_hold_in_order_what_fits_and_end() {
        let (connection, account) = filled();
        let all = page(&connection, &account, &CredentialFilter::default(), None, (1000, 1000));
        let all = all.unwrap().items;
        assert_eq!(all.len(), 300);
        for filter in filters() {
            let fits = |item: &&Credential| {
                filter.enabled.is_none_or(|enabled| item.enabled == enabled)
                    && filter.realm.as_ref().is_none_or(|realm| item.realm == *realm)
                    && filter.rotated_before.is_none_or(|before| item.rotate_time < before)
                    && filter
                        .username_prefix
                        .as_ref()
                        .is_none_or(|prefix| item.username.as_str().starts_with(prefix.as_str()))
                    && filter
                        .labels
                        .as_map()
                        .iter()
                        .all(|label| item.labels.as_map().iter().any(|own| own == label))
                    && filter.provider.as_ref().is_none_or(|provider| {
                        item.residence.as_ref().is_some_and(|it| it.provider == *provider)
                    })
                    && filter.provider_type.is_none_or(|carrier| {
                        item.residence.as_ref().is_some_and(|it| it.at.provider_type() == carrier)
                    })
            };
            let mut expected: Vec<_> = all.iter().filter(fits).collect();
            expected.sort_by_key(|item| position(&filter, item));
            let expected: Vec<_> = expected.into_iter().map(|item| item.name.clone()).collect();
            for limit in [1, 7, 50] {
                let (mut found, mut after) = (Vec::new(), None);
                for turn in 0.. {
                    assert!(turn <= 300, "{filter:?} ends");
                    let page =
                        page(&connection, &account, &filter, after.as_deref(), (limit, MOST));
                    let page = page.unwrap();
                    assert!(page.items.len() <= limit);
                    let last = page.items.last().map(|item| position(&filter, item));
                    found.extend(page.items.into_iter().map(|item| item.name));
                    if !page.more {
                        break;
                    }
                    let next = page.reached.or(last);
                    assert!(next > after, "{filter:?} gets on");
                    after = next;
                }
                assert_eq!(found, expected, "{filter:?} by {limit}");
            }
        }
    }

    #[test]
    fn a_page_looks_at_a_bounded_number_of_rows_and_sorts_no_more() {
        let (connection, account) = filled();
        let few =
            CredentialFilter { rotated_before: filters()[1].rotated_before, ..Default::default() };
        let first = page(&connection, &account, &few, None, (10, MOST)).unwrap();
        assert_eq!((first.items.len(), first.more), (0, true));
        assert_eq!(first.reached.as_deref(), Some("id-019"), "the last of {MOST}");

        for filter in filters() {
            let after = ["user-1 id-007", "id-007"][usize::from(filter.username_prefix.is_none())];
            let (source, texts) = source(&filter, Some(after));
            let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM credential {source}");
            let mut statement = connection.prepare(&sql).unwrap();
            let lines = |row: &Row<'_>| row.get::<_, String>(3);
            let plan = statement.query_map(&*arguments(&account, &texts), lines).unwrap();
            let plan: Vec<_> = plan.map(Result::unwrap).collect();
            let whole =
                plan.iter().find(|line| line.contains("SCAN") || line.contains("TEMP B-TREE"));
            assert_eq!(whole, None, "{source}: {plan:?}");
            let sought = filter.username_prefix.is_none()
                || plan.iter().any(|line| line.contains("(username,id)>(?,?)"));
            assert!(sought, "{source}: {plan:?}");
        }
    }

    #[test]
    fn a_prefix_ends_before_the_next_text() {
        for (prefix, end) in [("a", "b"), ("user-9", "user-:"), ("z~", "z\u{7f}")] {
            assert_eq!(end_of_prefix(prefix), end);
        }
    }
}
