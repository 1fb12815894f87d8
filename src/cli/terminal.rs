//! Text for terminals: what a stranger wrote made harmless, widths in columns, lines that fit.

use std::io::{IsTerminal as _, Write as _};

use anstyle::Style;
use terminal_size::terminal_size_of;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns and rows of the terminal that standard output is; None: it is none.
pub(super) fn size() -> Option<(usize, usize)> {
    let (width, height) = terminal_size_of(std::io::stdout())?;
    Some((usize::from(width.0), usize::from(height.0)))
}

/// Whether a person looks at what goes beside the answer.
pub(super) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether a terminal obeys this character in place of showing it: controls, and those that turn the direction
/// of text or break its line.
pub(super) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text from elsewhere, without what a terminal would obey.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// JSON whose strings a terminal shows as they are: inside of strings JSON escapes only what is below a space.
pub(super) fn harmless_json(json: &str) -> String {
    let escaped = |c: char| match c {
        '\n' => c.to_string(),
        c if is_obeyed(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    json.chars().map(escaped).collect()
}

/// A line beside the answer while a person waits; gone when dropped.
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn show(text: &str) -> Self {
        let shown = is_watched();
        if shown {
            let mut to = std::io::stderr();
            write!(to, "{} …", harmless(text)).and_then(|()| to.flush()).ok();
        }
        Self { shown }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            // To the line's beginning, and erase it.
            write!(std::io::stderr(), "\r\u{1b}[2K").ok();
        }
    }
}

/// A piece of text in one style.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    text: String,
    style: Style,
}

impl Span {
    pub(super) fn new(text: &str, style: Style) -> Self {
        Self { text: harmless(text), style }
    }

    pub(super) fn plain(text: &str) -> Self {
        Self::new(text, Style::new())
    }

    /// Its columns.
    pub(super) fn width(&self) -> usize {
        self.text.width()
    }

    /// Cut to at most this many columns, `…` included.
    pub(super) fn cut(self, most: usize) -> Self {
        if self.width() <= most {
            return self;
        }
        let mut text = first_columns(&self.text, most.saturating_sub(1));
        text.push('…');
        Self { text, ..self }
    }

    /// Filled with blanks to this many columns.
    pub(super) fn padded(mut self, width: usize) -> Self {
        let missing = width.saturating_sub(self.width());
        self.text.extend(std::iter::repeat_n(' ', missing));
        self
    }
}

/// The beginning of a text that is at most this wide.
fn first_columns(text: &str, most: usize) -> String {
    let mut width = 0;
    let fits = |c: &char| {
        width += c.width().unwrap_or(0);
        width <= most
    };
    text.chars().take_while(fits).collect()
}

/// What stands on one line.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(pub(super) Vec<Span>);

impl Line {
    /// Cut to at most this many columns, `…` included.
    pub(super) fn cut(self, most: usize) -> Self {
        if self.0.iter().map(Span::width).sum::<usize>() <= most {
            return self;
        }
        let mut left = most.saturating_sub(1);
        let kept = |span: Span| {
            let text = first_columns(&span.text, left);
            // What does not fit ends the line, even if less would still fit after it.
            left =
                if text.len() == span.text.len() { left.saturating_sub(span.width()) } else { 0 };
            Span { text, ..span }
        };
        let mut spans: Vec<Span> = self.0.into_iter().map(kept).collect();
        spans.push(Span::plain("…"));
        Self(spans)
    }

    /// Without blanks at its end.
    fn trim_end(&mut self) {
        while let Some(last) = self.0.last_mut() {
            last.text.truncate(last.text.trim_end().len());
            if !last.text.is_empty() {
                return;
            }
            self.0.pop();
        }
    }

    /// With the codes of its styles.
    pub(super) fn painted(&self) -> String {
        let paint = |span: &Span| format!("{0}{1}{0:#}", span.style, span.text);
        self.0.iter().map(paint).collect()
    }
}

/// Rows under a header, each with lines of its own below.
#[derive(Debug, Default)]
pub(super) struct Table {
    header: Vec<Span>,
    rows: Vec<(Vec<Span>, Vec<Line>)>,
}

/// Between two columns.
const GAP: usize = 2;

/// A column that must shrink keeps this many.
const NARROWEST: usize = 8;

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let style = Style::new().dimmed();
        let header = header.iter().map(|title| Span::new(title, style)).collect();
        Self { header, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<Span>, below: Vec<Line>) {
        self.rows.push((cells, below));
    }

    /// All lines, with columns as wide as their content. Where that is too much for `width`, the widest columns
    /// are cut; the lines below the rows never are.
    pub(super) fn lines(self, width: Option<usize>) -> Vec<Line> {
        let widths = self.widths(width);
        let line = |cells: Vec<Span>| {
            let fit = |(cell, &width): (Span, &usize)| cell.cut(width).padded(width + GAP);
            let mut line = Line(cells.into_iter().zip(&widths).map(fit).collect());
            line.trim_end();
            line
        };
        let rows = self.rows.into_iter();
        std::iter::once(line(self.header))
            .chain(rows.flat_map(|(cells, below)| std::iter::once(line(cells)).chain(below)))
            .collect()
    }

    fn widths(&self, most: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(Span::width).collect();
        for (cells, _) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.width().max(*width);
            }
        }
        let gaps = GAP * widths.len().saturating_sub(1);
        while let Some(most) = most
            && widths.iter().sum::<usize>() + gaps > most
            && let Some(widest) = widths.iter_mut().max()
            && *widest > NARROWEST
        {
            *widest -= 1;
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(&line.painted()).to_string()).collect()
    }

    fn table() -> Table {
        let mut table = Table::new(&["ID", "DISPLAY NAME", "N"]);
        let row = |cells: [&str; 3]| cells.map(Span::plain).to_vec();
        let below =
            Line(vec![Span::plain("  ✗ a long remark that is never cut: it says what to do")]);
        table.row(row(["main", "東京の電話回線とその予備", "3"]), vec![below]);
        table.row(row(["a-longer-id", "", "120"]), Vec::new());
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_content_or_cut_to_the_terminal() {
        assert_eq!(
            texts(&table().lines(None)),
            [
                "ID           DISPLAY NAME              N",
                "main         東京の電話回線とその予備  3",
                "  ✗ a long remark that is never cut: it says what to do",
                "a-longer-id                            120",
            ]
        );
        let narrow = table().lines(Some(30));
        assert_eq!(
            texts(&narrow),
            [
                "ID           DISPLAY NAME  N",
                "main         東京の電話…   3",
                "  ✗ a long remark that is never cut: it says what to do",
                "a-longer-id                120",
            ]
        );
    }

    #[test]
    fn a_line_is_cut_at_a_character() {
        let line = || Line(vec![Span::plain("ab"), Span::plain("東京"), Span::plain("c")]);
        for (most, cut) in [
            (9, "ab東京c"),
            (7, "ab東京c"),
            (6, "ab東…"),
            (5, "ab東…"),
            (4, "ab…"),
            (2, "a…"),
            (1, "…"),
        ] {
            assert_eq!(texts(&[line().cut(most)]), [cut], "{most}");
        }
    }

    #[test]
    fn a_terminal_obeys_nothing_that_came_from_elsewhere() {
        let evil = "a\u{1b}[2J\r\n\u{9b}31m\u{7f}\u{202e}b\u{2028}";
        let text = harmless(evil);
        assert!(!text.chars().any(is_obeyed) && text.starts_with('a'), "{text:?}");
        let json = serde_json::to_string(&[evil]).unwrap();
        let shown = harmless_json(&json);
        assert!(!shown.chars().any(is_obeyed), "{shown:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [evil]);
    }
}
