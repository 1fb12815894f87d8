//! Pages of credentials, as quick among millions as among thousands (docs/adr/0025).
//!
//! The order of a list is the id, whatever the filter, so that page tokens mean the same in every list. A filter is
//! served from an index that yields ids in this order, or from few enough rows to sort; what no index serves is
//! looked for row by row, a bounded number of them a page.

use jiff::Timestamp;
use rusqlite::{Connection, Row, ToSql, params};

use super::read::{CREDENTIAL, LOOKED_AT, Result, credential_row, json, search, text_size};
use crate::account::Account;
use crate::credential::{Credential, CredentialFilter};
use crate::store::Page;

/// Credentials that fit `filter`, by id, after `after`.
pub(super) fn list_credentials(
    connection: &Connection,
    account: &Account,
    filter: &CredentialFilter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Credential>> {
    page(connection, account, filter, after, (limit, LOOKED_AT))
}

fn page(
    connection: &Connection,
    account: &Account,
    filter: &CredentialFilter,
    after: Option<&str>,
    (limit, most): (usize, usize),
) -> Result<Page<Credential>> {
    let (owner, after) = (account.uid.as_bytes(), after.unwrap_or_default());
    let source = Source::of(connection, owner, filter, most)?;
    let sql = format!("SELECT {CREDENTIAL} FROM credential {}", source.sql());
    let mut arguments: Vec<&dyn ToSql> = vec![&owner, &after];
    match &source {
        Source::Usernames(first, end) => {
            let range: [&dyn ToSql; 2] = [first, end];
            arguments.extend(range);
        }
        Source::Realm(realm) => arguments.push(realm),
        Source::Disabled | Source::All => {}
    }
    let position = |row: &Row<'_>| row.get(0);
    search(connection, &sql, &*arguments, (limit, most), position, |row| {
        if !fits(row, filter)? {
            return Ok(None);
        }
        let credential = credential_row(row, account)?;
        let size = text_size(row, &[0, 2, 3, 5, 6])? + 16 * credential.labels.as_map().len();
        Ok(Some((credential, size)))
    })
}

/// From where the rows come, in the order of their ids. Each source holds every row that fits its part of the filter.
#[derive(Debug, PartialEq, Eq)]
enum Source<'a> {
    /// Few usernames: from the first one inclusive to the end exclusive.
    Usernames(&'a str, String),
    /// One realm.
    Realm(&'a str),
    /// What is disabled, which little is.
    Disabled,
    /// Everything.
    All,
}

impl<'a> Source<'a> {
    fn of(
        connection: &Connection,
        owner: &[u8; 16],
        filter: &'a CredentialFilter,
        most: usize,
    ) -> Result<Self> {
        if let Some(prefix) = &filter.username_prefix {
            let (first, end) = (prefix.as_str(), end_of_prefix(prefix.as_str()));
            let many = "SELECT 1 FROM credential INDEXED BY credential_by_username
                WHERE account = ?1 AND username >= ?2 AND username < ?3 LIMIT 1 OFFSET ?4";
            let mut many = connection.prepare_cached(many)?;
            // They are sorted for each page, so they must be few: twice as many as the rows that are looked at, since
            // these are entries of an index. Many are met soon without it.
            let most = i64::try_from(2 * most).unwrap_or(i64::MAX);
            if !many.exists(params![owner, first, end, most])? {
                return Ok(Self::Usernames(first, end));
            }
        }
        Ok(match (&filter.realm, filter.enabled) {
            (Some(realm), _) => Self::Realm(realm.as_str()),
            (None, Some(false)) => Self::Disabled,
            (None, _) => Self::All,
        })
    }

    fn sql(&self) -> &'static str {
        match self {
            // The plus keeps `id >` from being taken for the better way in.
            Self::Usernames(..) => {
                "WHERE account = ?1 AND +id > ?2 AND id IN
                (SELECT id FROM credential INDEXED BY credential_by_username
                    WHERE account = ?1 AND username >= ?3 AND username < ?4)
                ORDER BY id"
            }
            Self::Realm(_) => {
                "INDEXED BY credential_by_realm WHERE account = ?1 AND realm = ?3 AND id > ?2 ORDER BY id"
            }
            Self::Disabled => {
                "INDEXED BY credential_disabled WHERE account = ?1 AND enabled = 0 AND id > ?2 ORDER BY id"
            }
            Self::All => "WHERE account = ?1 AND id > ?2 ORDER BY id",
        }
    }
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
    use crate::store::sqlite::files::migrate;

    const MOST: usize = 20;

    /// Two accounts with the same 300 credentials, whose ids lie in another order than their usernames.
    fn filled() -> (Connection, Account) {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, 0).unwrap();
        connection
            .execute_batch(
                "INSERT INTO account VALUES (zeroblob(16), 'own', 0, 0), (x'01', 'other', 0, 0);
                 WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 299)
                 INSERT INTO credential SELECT uid, format('id-%03d', n * 7 % 300), randomblob(16),
                    format('%s-%d', iif(n % 40 = 0, 'rare', 'user'), n), 'realm-' || (n % 3), n % 50 <> 0, '',
                    iif(n % 60 = 0, '{\"site\":\"b\",\"team\":\"x\"}', '{\"site\":\"a\"}'),
                    1, 1, 0, 0, n, zeroblob(150), zeroblob(8)
                 FROM n, account;",
            )
            .unwrap();
        let account = Account {
            uid: Uid::ZERO,
            id: ResourceId::parse("own").unwrap(),
            disabled: false,
            create_time: Timestamp::UNIX_EPOCH,
        };
        (connection, account)
    }

    fn ids(page: &Page<Credential>) -> Vec<String> {
        page.items.iter().map(|item| item.name.id.as_str().to_owned()).collect()
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
                            });
                        }
                    }
                }
            }
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
            };
            let expected: Vec<_> = all.iter().filter(fits).map(|item| item.name.clone()).collect();
            for limit in [1, 7, 50] {
                let (mut found, mut after) = (Vec::new(), None);
                for turn in 0.. {
                    assert!(turn <= 300, "{filter:?} ends");
                    let page =
                        page(&connection, &account, &filter, after.as_deref(), (limit, MOST));
                    let page = page.unwrap();
                    assert!(page.items.len() <= limit);
                    let last = ids(&page).pop();
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
        assert_eq!((ids(&first), first.more), (vec![], true));
        assert_eq!(first.reached.as_deref(), Some("id-019"), "the last of {MOST}");

        for filter in filters() {
            let owner = account.uid.as_bytes();
            let source = Source::of(&connection, owner, &filter, MOST).unwrap();
            let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM credential {}", source.sql());
            let mut statement = connection.prepare(&sql).unwrap();
            let lines = |row: &Row<'_>| row.get::<_, String>(3);
            let arguments: &[&dyn ToSql] = match &source {
                Source::Usernames(first, end) => &[owner, &"", first, end],
                Source::Realm(realm) => &[owner, &"", realm],
                Source::Disabled | Source::All => &[owner, &""],
            };
            let plan = statement.query_map(arguments, lines).unwrap();
            let plan: Vec<_> = plan.map(Result::unwrap).collect();
            let whole =
                plan.iter().find(|line| line.contains("SCAN") || line.contains("TEMP B-TREE"));
            assert_eq!(whole, None, "{source:?}: {plan:?}");
        }
    }

    #[test]
    fn a_prefix_ends_before_the_next_text() {
        for (prefix, end) in [("a", "b"), ("user-9", "user-:"), ("z~", "z\u{7f}")] {
            assert_eq!(end_of_prefix(prefix), end);
        }
    }
}
