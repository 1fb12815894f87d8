//! Messages of the contract, as every command prints them.

use anstyle::Style;

use super::client::Output;
use super::say;
use super::terminal::{Line, Span, Table, harmless_json, size};
use crate::grpc::json::{self, Described};

/// An answer as JSON.
pub(super) fn json(answer: &impl Described) -> anyhow::Result<String> {
    Ok(harmless_json(&json::pretty(answer)?))
}

/// A message as JSON on one line.
pub(super) fn compact(message: &impl Described) -> anyhow::Result<String> {
    Ok(harmless_json(&json::compact(message)?))
}

/// Prints an answer: its one resource as a line a field, or all of it as JSON.
pub(super) fn one<A: Described, M: Described>(
    output: Output,
    answer: &A,
    resource: Option<&M>,
) -> anyhow::Result<()> {
    if output == Output::Json {
        return say(json(answer)?);
    }
    lines(resource.map(json::fields).transpose()?.unwrap_or_default())
}

/// Prints fields, a line each.
pub(super) fn lines(fields: Vec<(String, String)>) -> anyhow::Result<()> {
    let widest = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        let name = Span::new(&name, Style::new().dimmed()).padded(widest + 2);
        say(Line(vec![name, Span::plain(&value)]).painted())?;
    }
    Ok(())
}

/// Prints an answer: its resources as a table of these fields of theirs, or all of it as JSON.
pub(super) fn list<A: Described, M: Described>(
    output: Output,
    answer: &A,
    resources: &[M],
    columns: &[&str],
    nothing: &str,
) -> anyhow::Result<()> {
    if output == Output::Json {
        return say(json(answer)?);
    }
    if resources.is_empty() {
        super::note(nothing);
        return Ok(());
    }
    let titles: Vec<String> = columns.iter().map(|name| title(name)).collect();
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for resource in resources {
        let fields = json::fields(resource)?;
        let cell = |column: &&str| {
            let value = fields.iter().find(|(name, _)| name == column).map(|(_, value)| value);
            match (*column, value) {
                (_, None) => Span::plain("-"),
                ("name", Some(name)) => Span::new(&short(name), Style::new().bold()),
                ("provider", Some(name)) => Span::plain(id(name)),
                (_, Some(value)) => Span::plain(value),
            }
        };
        table.row(columns.iter().map(cell).collect(), Vec::new());
    }
    for line in table.lines(size().map(|(width, _)| width)) {
        say(line.painted())?;
    }
    Ok(())
}

/// `main` of `accounts/acme/providers/main`.
pub(super) fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// `desk-1/x1` of `accounts/acme/credentials/desk-1/rotations/x1`, and `providers/main/x1` where that is a provider's: what
/// is below something else, with that. Of other names the id.
pub(super) fn short(name: &str) -> String {
    let ids: Vec<&str> = name.split('/').skip(3).step_by(2).collect();
    match (ids.as_slice(), name.split('/').nth(2)) {
        ([_, _, ..], Some(providers @ "providers")) => format!("{providers}/{}", ids.join("/")),
        ([_, _, ..], _) => ids.join("/"),
        _ => id(name).to_owned(),
    }
}

/// `EXPIRE TIME` of `expire_time`.
fn title(field: &str) -> String {
    let last = field.rsplit('.').next().unwrap_or(field);
    if last == "name" { "ID".to_owned() } else { last.replace('_', " ").to_uppercase() }
}
