//! Reads Rust source as far as the rules need it: names and the paths made of them. No types, no
//! macros.

/// A name, `::` or a punctuation mark, and the line that it is on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// The tokens of a file, without comments, literals and white space.
pub(crate) fn tokens(mut rest: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    while !rest.is_empty() {
        let (keep, length) = lexeme(rest);
        let (text, after) = rest.split_at(length);
        if keep {
            tokens.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// The text of token `i`; empty past the end.
pub(crate) fn text_at<'a>(tokens: &[Token<'a>], i: usize) -> &'a str {
    tokens.get(i).map_or("", |token| token.text)
}

/// The paths in a file whose module lies `depth` below the crate root, and the line of each.
///
/// - `use a::{b, c::d};` is `a::b` and `a::c::d`.
/// - `super::…` is `crate::…` where it leads to the crate root; elsewhere it is left out.
pub(crate) fn paths(text: &str, depth: usize) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut braces = Vec::new();
    let mut i = 0;
    while let Some(token) = tokens.get(i) {
        let before = |back: usize| i.checked_sub(back).map_or("", |at| text_at(&tokens, at));
        let goes_on = before(1) == "::" && (before(2) == ">" || is_name(before(2)));
        let starts = text_at(&tokens, i + 1) == "::" || before(1) == "use";
        match token.text {
            "{" => braces.push(before(2) == "mod"),
            "}" => drop(braces.pop()),
            "super" if starts && !goes_on => {
                let inline = braces.iter().filter(|is_mod| **is_mod).count();
                let mut up = 0;
                while text_at(&tokens, i) == "super" && text_at(&tokens, i + 1) == "::" {
                    (up, i) = (up + 1, i + 2);
                }
                let prefix = if up == depth + inline { "crate" } else { "super" };
                i = tree(&tokens, i, prefix, &mut found);
                continue;
            }
            name if starts && !goes_on && is_name(name) => {
                i = tree(&tokens, i, "", &mut found);
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// Reads the path or `use` tree at `i`, which continues `prefix`, and returns where it ends.
fn tree(
    tokens: &[Token<'_>],
    mut i: usize,
    prefix: &str,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let Some(token) = tokens.get(i) else {
        return i;
    };
    if token.text == "{" {
        i += 1;
        while !["", "}"].contains(&text_at(tokens, i)) {
            let renamed = text_at(tokens, i) == "as";
            i = if renamed { i + 2 } else { tree(tokens, i, prefix, found) };
        }
        return i + 1;
    }
    let path = match (prefix, token.text) {
        (_, mark) if mark != "*" && !is_name(mark) => return i + 1,
        ("", name) => name.to_owned(),
        (prefix, "self") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}::{name}"),
    };
    let next = text_at(tokens, i + 2);
    if text_at(tokens, i + 1) == "::" && (["{", "*"].contains(&next) || is_name(next)) {
        return tree(tokens, i + 2, &path, found);
    }
    found.push((token.line, path));
    i + 1
}

/// Whether the first lexeme of `rest` is a token, and its length.
fn lexeme(rest: &str) -> (bool, usize) {
    let through = |end: &str, from: usize| {
        let found = rest.get(from..).and_then(|tail| tail.find(end));
        found.map_or(rest.len(), |found| from + found + end.len())
    };
    if let Some((open, hashes)) = raw_string(rest) {
        return (false, through(&format!("\"{}", "#".repeat(hashes)), open));
    }
    let mut chars = rest.chars();
    match (chars.next().unwrap_or(' '), chars.next(), chars.next()) {
        ('/', Some('/'), _) => (false, rest.find('\n').unwrap_or(rest.len())),
        ('/', Some('*'), _) => (false, through("*/", 2)),
        ('"', ..) => {
            let mut escaped = false;
            let closes = |(_, c): &(usize, char)| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            };
            let end = rest.char_indices().skip(1).find(closes);
            (false, end.map_or(rest.len(), |(quote, _)| quote + 1))
        }
        ('\'', Some('\\'), Some(escaped)) => (false, through("'", 2 + escaped.len_utf8())),
        ('\'', Some(c), Some('\'')) => (false, 2 + c.len_utf8()),
        (':', Some(':'), _) => (true, 2),
        (c, ..) if is_name_char(c) => (true, rest.find(|c| !is_name_char(c)).unwrap_or(rest.len())),
        (c, ..) => (!c.is_whitespace() && c != '\'', c.len_utf8()),
    }
}

/// If `rest` begins with a raw string: where its text starts, and how many `#` it has.
fn raw_string(rest: &str) -> Option<(usize, usize)> {
    let after = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r')?;
    let text = after.trim_start_matches('#').strip_prefix('"')?;
    Some((rest.len() - text.len(), after.len() - text.len() - 1))
}

fn is_name(text: &str) -> bool {
    text.starts_with(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
