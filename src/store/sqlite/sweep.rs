//! Zeroes what SQLite leaves behind inside its pages.
//!
//! `secure_delete` zeroes cells and pages that are freed. It does not cover the gap between a page's cell
//! pointers and its cells: when a page is split or merged, cells move and their old bytes stay there, a
//! copy that outlives every later overwrite of the cell itself. So after each truncation of the log, and at
//! the stop, every such gap in the file is zeroed.
//!
//! Why this is safe, although it writes beside SQLite:
//!
//! - The gap holds nothing by definition (sqlite.org/fileformat2.html §1.6, "unallocated region"), so no
//!   reader cares what it holds, and a write that is torn by a power cut harms nothing.
//! - In WAL mode the file itself is written by checkpoints only, and the one thread that makes them is the
//!   one that sweeps.
//! - The file stays open as long as the store: closing it would drop the process's POSIX locks on it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::files;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// A pointer to a page of this number or above begins with a byte that looks like a page type. No vault has
/// so many pages (137 GB); one that had would not be swept.
const MAX_PAGES: u64 = 0x0200_0000;

/// Sweeps one store's file.
pub(super) struct Sweeper(File);

impl Sweeper {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    /// Zeroes the gaps of all pages; returns how many held something.
    pub(super) fn sweep(&self) -> io::Result<u64> {
        let mut header = [0; 100];
        self.0.read_exact_at(&mut header, 0)?;
        let Some(layout) = Layout::read(&header) else { return Ok(0) };
        let pages = self.0.metadata()?.len() / layout.page_size();
        if pages >= MAX_PAGES {
            tracing::warn!(pages, "the store is too large to be swept");
            return Ok(0);
        }
        let mut swept = 0;
        let mut chunk = vec![0; CHUNK.next_multiple_of(layout.page)];
        let mut offset = 0;
        while offset < pages * layout.page_size() {
            let read = self.0.read_at(&mut chunk, offset)?;
            let whole = read / layout.page;
            for (page, at) in chunk.chunks_exact(layout.page).take(whole).zip(0_u64..) {
                let start = offset + at * layout.page_size();
                if let Some((from, to)) = layout.gap(page, start == 0)
                    && page.get(from..to).is_some_and(|gap| gap.iter().any(|byte| *byte != 0))
                {
                    let from_start = u64::try_from(from).map_err(io::Error::other)?;
                    self.0.write_all_at(&vec![0; to - from], start + from_start)?;
                    swept += 1;
                }
            }
            if whole == 0 {
                break;
            }
            offset += u64::try_from(whole * layout.page).map_err(io::Error::other)?;
        }
        if swept > 0
            && let Err(error) = self.0.sync_data()
        {
            tracing::error!(%error, "sweep the store");
            files::exit(files::NO_FLUSH);
        }
        Ok(swept)
    }
}

/// How the file is divided.
struct Layout {
    page: usize,
    usable: usize,
}

impl Layout {
    /// Reads the file's header (fileformat2.html §1.3).
    fn read(header: &[u8; 100]) -> Option<Self> {
        let page = match u16_at(header, 16)? {
            1 => 65_536,
            size => usize::from(size),
        };
        let reserved = usize::from(*header.get(20)?);
        (header.starts_with(b"SQLite format 3\0") && page.is_power_of_two() && page >= 512)
            .then(|| Self { page, usable: page - reserved })
    }

    fn page_size(&self) -> u64 {
        u64::try_from(self.page).unwrap_or(u64::MAX)
    }

    /// The gap of a b-tree page, between its pointers and its cells. None: not such a page, or a damaged one.
    fn gap(&self, page: &[u8], first: bool) -> Option<(usize, usize)> {
        let header = if first { 100 } else { 0 };
        let length = match page.get(header)? {
            0x02 | 0x05 => 12,
            0x0a | 0x0d => 8,
            _ => return None,
        };
        let cells = usize::from(u16_at(page, header + 3)?);
        let content = match u16_at(page, header + 5)? {
            0 => 65_536,
            start => usize::from(start),
        };
        let from = header + length + 2 * cells;
        (from <= content && content <= self.usable).then_some((from, content))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|pair| u16::from_be_bytes(*pair))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn gaps_are_zeroed_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
                 CREATE INDEX by_text ON t (text);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                 INSERT INTO t SELECT i, printf('%064d', i) FROM n;",
            )
            .unwrap();
        drop(connection);
        let mut bytes = std::fs::read(&path).unwrap();
        let layout = Layout::read(bytes.first_chunk().unwrap()).unwrap();
        let before = bytes.clone();
        let mut spoilt = 0;
        for (number, page) in bytes.chunks_exact_mut(layout.page).enumerate() {
            if let Some((from, to)) = layout.gap(page, number == 0)
                && from < to
            {
                page[from..to].fill(0xee);
                spoilt += 1;
            }
        }
        assert!(spoilt > 20);
        std::fs::write(&path, &bytes).unwrap();

        let sweeper = Sweeper::open(&path).unwrap();
        assert_eq!(sweeper.sweep().unwrap(), spoilt);
        assert_eq!(sweeper.sweep().unwrap(), 0, "once is enough");
        let after = std::fs::read(&path).unwrap();
        for (number, (page, old)) in
            after.chunks_exact(layout.page).zip(before.chunks_exact(layout.page)).enumerate()
        {
            let (from, to) = layout.gap(page, number == 0).unwrap_or((0, 0));
            assert!(page[from..to].iter().all(|byte| *byte == 0));
            assert_eq!((&page[..from], &page[to..]), (&old[..from], &old[to..]), "page {number}");
        }
        let connection = Connection::open(&path).unwrap();
        let verdict: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
}
