//! A disk that loses power: the log of what a process did to its files, and what may be left of them.
//!
//! The log comes from `disk_shim.c`, with the notes of the clients in between. [`Disk`] replays it. For each
//! file it keeps what is on the platter, and what was done to it since its last sync; for each name likewise,
//! since the last sync of the directory. [`Disk::image`] decides about everything that was not synced.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::random::Rng;

/// What a disk writes in one piece, or not at all.
const SECTOR: usize = 512;

/// Compiles the shim; returns where it lies.
pub(crate) fn compile_shim(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/durability/disk_shim.c");
    let shim = dir.join("disk_shim.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]);
    let done = cc.arg(&shim).arg(source).status().expect("there is a C compiler");
    assert!(done.success(), "the shim does not compile");
    shim
}

/// A line of the log. `data` lies in the bytes of the log.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) what: What,
    pub(crate) fd: i32,
    data: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What {
    Open {
        creates: bool,
    },
    Close,
    Write {
        offset: usize,
    },
    Truncate {
        length: usize,
    },
    Sync,
    Unlink,
    Note,
    /// A call that was made to fail.
    Failed {
        sync: bool,
    },
}

/// All that was done, in order.
pub(crate) struct Log {
    bytes: Vec<u8>,
    pub(crate) records: Vec<Record>,
}

impl Log {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let mut records = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let number =
                |from: usize| u64::from_le_bytes(*bytes[at + from..].first_chunk().unwrap());
            let half = |from: usize| u32::from_le_bytes(*bytes[at + from..].first_chunk().unwrap());
            let (offset, length) = (size(number(8)), size(number(16)));
            let what = match half(0) {
                1 => What::Open { creates: offset == 1 },
                2 => What::Close,
                3 => What::Write { offset },
                4 => What::Truncate { length: offset },
                5 => What::Sync,
                6 => What::Unlink,
                7 => What::Note,
                8 => What::Failed { sync: offset == 5 },
                other => panic!("the log has a record {other} at {at}"),
            };
            let data = at + 24..at + 24 + length;
            records.push(Record { what, fd: half(4).cast_signed(), data: data.clone() });
            at = data.end;
        }
        Self { bytes, records }
    }

    pub(crate) fn data(&self, record: &Record) -> &[u8] {
        &self.bytes[record.data.clone()]
    }
}

/// Appends a note of a client to a log that the shim writes to as well.
pub(crate) struct Notes(File);

impl Notes {
    pub(crate) fn open(log: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(log).unwrap())
    }

    /// In one write, so that it stands whole in its place.
    pub(crate) fn write(&self, text: &str) {
        let mut record = Vec::from(7_u64.to_le_bytes());
        record.extend(0_u64.to_le_bytes());
        record.extend(u64::try_from(text.len()).unwrap().to_le_bytes());
        record.extend(text.as_bytes());
        (&self.0).write_all(&record).unwrap();
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// What happens to what was not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// All of it is gone.
    All,
    /// None of it is.
    None,
    /// Each write and truncation is there or not.
    Half,
    /// The same, and of a write that is there each sector is there or not.
    Torn,
}

impl Loss {
    pub(crate) const ALL: [Self; 4] = [Self::All, Self::None, Self::Half, Self::Torn];
}

enum Change {
    Write { offset: usize, data: Range<usize> },
    Truncate { length: usize },
}

#[derive(Default)]
struct Content {
    synced: Vec<u8>,
    since: Vec<Change>,
}

/// Which content a name leads to.
#[derive(Default)]
struct Name {
    synced: Option<usize>,
    since: Vec<Option<usize>>,
}

impl Name {
    fn now(&self) -> Option<usize> {
        self.since.last().copied().unwrap_or(self.synced)
    }
}

enum Open {
    Directory,
    Content(usize),
}

/// The files of one directory.
pub(crate) struct Disk<'a> {
    log: &'a Log,
    dir: &'a str,
    contents: Vec<Content>,
    names: BTreeMap<String, Name>,
    open: BTreeMap<i32, Open>,
}

impl<'a> Disk<'a> {
    /// The directory as it was before the log began, with one file in it.
    pub(crate) fn new(log: &'a Log, dir: &'a str, file: &str, content: Vec<u8>) -> Self {
        let contents = vec![Content { synced: content, since: Vec::new() }];
        let name = Name { synced: Some(0), since: Vec::new() };
        let names = BTreeMap::from([(file.to_owned(), name)]);
        Self { log, dir, contents, names, open: BTreeMap::new() }
    }

    /// Does what the record says.
    pub(crate) fn apply(&mut self, record: &Record) {
        let text = || String::from_utf8_lossy(self.log.data(record)).into_owned();
        match record.what {
            What::Open { creates } => {
                let path = text();
                let name = path.strip_prefix(self.dir).expect("a file of the directory");
                let open = match name.strip_prefix('/') {
                    None | Some("") => Open::Directory,
                    Some(name) => Open::Content(self.find(name, creates)),
                };
                self.open.insert(record.fd, open);
            }
            What::Close => drop(self.open.remove(&record.fd)),
            What::Write { offset } => {
                let change = Change::Write { offset, data: record.data.clone() };
                self.content(record.fd).since.push(change);
            }
            What::Truncate { length } => {
                self.content(record.fd).since.push(Change::Truncate { length });
            }
            What::Sync if matches!(self.open[&record.fd], Open::Directory) => {
                for name in self.names.values_mut() {
                    name.synced = name.now();
                    name.since.clear();
                }
            }
            What::Sync => {
                let bytes = &self.log.bytes;
                let content = self.content(record.fd);
                for change in std::mem::take(&mut content.since) {
                    change.apply(&mut content.synced, bytes, |_| true);
                }
            }
            What::Unlink => {
                let path = text();
                let name = path.strip_prefix(self.dir).unwrap().trim_start_matches('/');
                self.names.get_mut(name).expect("a known file").since.push(None);
            }
            What::Note | What::Failed { .. } => {}
        }
    }

    fn find(&mut self, name: &str, creates: bool) -> usize {
        let name = self.names.entry(name.to_owned()).or_default();
        name.now().unwrap_or_else(|| {
            assert!(creates, "a file that is not there was opened");
            self.contents.push(Content::default());
            name.since.push(Some(self.contents.len() - 1));
            self.contents.len() - 1
        })
    }

    fn content(&mut self, fd: i32) -> &mut Content {
        match self.open[&fd] {
            Open::Content(content) => &mut self.contents[content],
            Open::Directory => panic!("a write to a directory"),
        }
    }

    /// What a process would find if the power went now.
    pub(crate) fn image(&self, loss: Loss, rng: &mut Rng) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for (name, leads_to) in &self.names {
            let content = match loss {
                Loss::All => leads_to.synced,
                Loss::None => leads_to.now(),
                Loss::Half | Loss::Torn => match rng.below(leads_to.since.len() + 1) {
                    0 => leads_to.synced,
                    n => leads_to.since[n - 1],
                },
            };
            let Some(content) = content.map(|content| &self.contents[content]) else { continue };
            let mut bytes = content.synced.clone();
            for change in &content.since {
                let is_there = match loss {
                    Loss::All => false,
                    Loss::None => true,
                    Loss::Half | Loss::Torn => rng.below(2) == 0,
                };
                if is_there {
                    change.apply(&mut bytes, &self.log.bytes, |_| {
                        loss != Loss::Torn || rng.below(2) == 0
                    });
                }
            }
            files.insert(name.clone(), bytes);
        }
        files
    }
}

impl Change {
    /// Does it to `file`; of a write only the sectors that `keeps` says.
    fn apply(&self, file: &mut Vec<u8>, log: &[u8], mut keeps: impl FnMut(usize) -> bool) {
        match self {
            Self::Truncate { length } => file.resize(*length, 0),
            Self::Write { offset, data } => {
                let end = offset + data.len();
                let mut from = *offset;
                while from < end {
                    let to = end.min((from / SECTOR + 1) * SECTOR);
                    if keeps(from / SECTOR) {
                        if file.len() < to {
                            file.resize(to, 0);
                        }
                        let start = data.start + from - offset;
                        file[from..to].copy_from_slice(&log[start..start + to - from]);
                    }
                    from = to;
                }
            }
        }
    }
}
