//! Windows: the hours in which something may be rotated, as a clock on the wall of some time zone shows them.
//!
//! Where that clock is set forward, what it skips is in no window; where it is set back, it shows the same hours
//! twice, and both are. The rules of all zones are part of the program, so that a window is the same on every machine.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::policy::Fault;
use crate::name::Invalid;

/// The shortest window: some looks of the vault.
const SHORTEST: SignedDuration = SignedDuration::from_mins(5);

/// The longest window: it must not reach into its own next day.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// How far ahead the next opening is looked for. A weekly window may be skipped with the hour that it lies in, but not
/// many times in a row.
const DAYS_AHEAD: i64 = 60;

/// More than any zone is away from UTC.
const FARTHEST_OFFSET: SignedDuration = SignedDuration::from_hours(26);

const DAYS: [(Weekday, &str); 7] = [
    (Weekday::Monday, "mon"),
    (Weekday::Tuesday, "tue"),
    (Weekday::Wednesday, "wed"),
    (Weekday::Thursday, "thu"),
    (Weekday::Friday, "fri"),
    (Weekday::Saturday, "sat"),
    (Weekday::Sunday, "sun"),
];

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// When something may be rotated: some hours, on some days, in a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Window {
    start: Time,
    length: SignedDuration,
    /// In their order, each once; empty: all.
    days: Vec<Weekday>,
    zone: TimeZone,
}

/// A time in which a window is open, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Its first moment.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
}

impl Window {
    /// Parses a window: from `HH:MM` on, as long as said, on the days on which it begins, of which none means all.
    pub fn parse(
        start: &str,
        length: SignedDuration,
        days: &[Weekday],
        time_zone: &str,
    ) -> Result<Self, Fault> {
        let start = time_of_day(start).ok_or(Fault(
            "window.start",
            Invalid("must be a time of day, HH:MM from 00:00 to 23:59"),
        ))?;
        let is_whole = length.as_secs() % 60 == 0 && length.subsec_nanos() == 0;
        if !is_whole || !(SHORTEST..=LONGEST).contains(&length) {
            let rule = "must be from 300s (five minutes) to 86400s (24 hours), in whole minutes";
            return Err(Fault("window.length", Invalid(rule)));
        }
        // A POSIX rule or an offset would be a zone to others; here it has to have a name.
        let zone = ZONES.get(time_zone).ok().filter(|zone| zone.iana_name().is_some());
        let zone = zone.ok_or(Fault(
            "window.time_zone",
            Invalid("must be a time zone of the IANA database, such as Europe/Berlin, or UTC"),
        ))?;
        let mut days = days.to_vec();
        days.sort_by_key(|day| day.to_monday_zero_offset());
        days.dedup();
        if days.len() == DAYS.len() {
            days.clear();
        }
        Ok(Self { start, length, days, zone })
    }

    /// When it opens, `HH:MM`.
    pub fn start(&self) -> String {
        self.start.strftime("%H:%M").to_string()
    }

    /// How long it is open, on the clock on the wall.
    pub fn length(&self) -> SignedDuration {
        self.length
    }

    /// The days on which it opens; none means all.
    pub fn days(&self) -> &[Weekday] {
        &self.days
    }

    /// The time zone.
    pub fn time_zone(&self) -> &str {
        self.zone.iana_name().unwrap_or_default()
    }

    /// The opening that `time` lies in, or else the next one. None: not in two months.
    pub fn open_at_or_after(&self, time: Timestamp) -> Option<Opening> {
        // It may have begun the day before; and the day before that, where a zone has lived the same day twice.
        let mut day =
            self.zone.to_datetime(time).date().checked_sub(SignedDuration::from_hours(48)).ok()?;
        let (mut first, mut days_left) = (None::<Opening>, DAYS_AHEAD);
        while days_left > 0 {
            let openings = if self.begins_on(day) { self.openings_of(day)? } else { Vec::new() };
            let later = openings.into_iter().filter(|opening| opening.end > time);
            let found = first.into_iter().chain(later).min_by_key(|opening| opening.start);
            if first.is_none() && found.is_some() {
                // Of a day that comes twice, a part may lie behind that of the day after.
                days_left = 3;
            }
            first = found;
            day = day.tomorrow().ok()?;
            days_left -= 1;
        }
        first
    }

    fn begins_on(&self, day: Date) -> bool {
        self.days.is_empty() || self.days.contains(&day.weekday())
    }

    /// When the clock on the wall shows the window that begins on `day`, in order: once, in two parts, or never.
    fn openings_of(&self, day: Date) -> Option<Vec<Opening>> {
        // On the wall, as if that were UTC.
        let start = Offset::UTC.to_timestamp(day.to_datetime(self.start)).ok()?;
        let end = start.checked_add(self.length).ok()?;
        let last = end.checked_add(FARTHEST_OFFSET).ok()?;
        let mut from = start.checked_sub(FARTHEST_OFFSET).ok()?;
        let mut openings = Vec::<Opening>::new();
        // From one change of the offset to the next, the clock on the wall runs like any other.
        loop {
            let offset = SignedDuration::from_secs(i64::from(self.zone.to_offset(from).seconds()));
            let change = self.zone.following(from).next().map(|it| it.timestamp());
            let until = change.filter(|change| *change < last).unwrap_or(last);
            let opening = Opening {
                start: start.checked_sub(offset).ok()?.max(from),
                end: end.checked_sub(offset).ok()?.min(until),
            };
            match openings.last_mut() {
                _ if opening.start >= opening.end => {}
                Some(before) if before.end == opening.start => before.end = opening.end,
                _ => openings.push(opening),
            }
            if until >= last {
                return Some(openings);
            }
            from = until;
        }
    }
}

/// For people: `02:00-04:00 Europe/Berlin mon-fri`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.start.wrapping_add(self.length);
        write!(f, "{}-{} {}", self.start(), end.strftime("%H:%M"), self.time_zone())?;
        let on = |day: &Weekday| self.days.contains(day);
        let is_row = |days: &[Weekday]| {
            days.windows(2).all(|pair| matches!(pair, [one, next] if one.next() == *next))
        };
        match self.days.as_slice() {
            [] => Ok(()),
            [first, _, .., last] if is_row(&self.days) && self.days.len() > 2 => {
                write!(f, " {}-{}", short(*first), short(*last))
            }
            _ => {
                let days: Vec<_> = DAYS.iter().filter(|(day, _)| on(day)).map(|it| it.1).collect();
                write!(f, " {}", days.join(","))
            }
        }
    }
}

/// As people type it: `02:00-04:00 Europe/Berlin`, with days behind it or none.
impl FromStr for Window {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        const SHAPE: Fault = Fault(
            "",
            Invalid(
                "must be hours, a time zone and, if not all, days: '02:00-04:00 Europe/Berlin mon-fri'",
            ),
        );
        let words: Vec<_> = text.split_whitespace().collect();
        let (hours, zone, days) = match words.as_slice() {
            [hours, zone] => (*hours, *zone, ""),
            [hours, zone, days] => (*hours, *zone, *days),
            _ => return Err(SHAPE),
        };
        let (start, end) = hours.split_once('-').ok_or(SHAPE)?;
        let begin = time_of_day(start).ok_or(SHAPE)?;
        let end = time_of_day(end).ok_or(SHAPE)?;
        // From an hour to the same: a day. Over midnight: into the next.
        let length = begin.duration_until(end);
        let length = if length.is_positive() { length } else { length + LONGEST };
        let days = days.split(',').filter(|days| !days.is_empty()).map(days_of);
        let days: Option<Vec<_>> = days.collect();
        Self::parse(start, length, &days.ok_or(SHAPE)?.concat(), zone)
    }
}

/// The days of `mon`, or from one to another: `fri-mon`.
fn days_of(text: &str) -> Option<Vec<Weekday>> {
    let text = text.to_ascii_lowercase();
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let (mut day, last) = (day_of(first)?, day_of(last)?);
    let mut days = vec![day];
    while day != last {
        day = day.next();
        days.push(day);
    }
    Some(days)
}

fn short(day: Weekday) -> &'static str {
    DAYS.iter().find(|(known, _)| *known == day).map_or("", |(_, name)| name)
}

/// The day of a short name: `mon`.
pub fn day_of(name: &str) -> Option<Weekday> {
    DAYS.iter().find(|(_, known)| *known == name).map(|(day, _)| *day)
}

fn time_of_day(text: &str) -> Option<Time> {
    let is_shaped = text.len() == 5
        && text.bytes().enumerate().all(
            |(at, byte)| {
                if at == 2 { byte == b':' } else { byte.is_ascii_digit() }
            },
        );
    let (hour, minute) = text.split_once(':').filter(|_| is_shaped)?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

/// A window as stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    start: String,
    #[serde(with = "seconds")]
    length: SignedDuration,
    days: Vec<String>,
    time_zone: String,
}

impl TryFrom<Stored> for Window {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let days: Option<Vec<_>> = stored.days.iter().map(|day| day_of(day)).collect();
        let days = days.ok_or("a day of the week is unknown")?;
        Self::parse(&stored.start, stored.length, &days, &stored.time_zone)
            .map_err(|Fault(field, rule)| format!("{field} {}", rule.0))
    }
}

impl From<Window> for Stored {
    fn from(window: Window) -> Self {
        Self {
            start: window.start(),
            length: window.length,
            days: window.days.iter().map(|day| short(*day).to_owned()).collect(),
            time_zone: window.time_zone().to_owned(),
        }
    }
}

/// Lengths as whole seconds.
pub(super) mod seconds {
    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::rotation) fn serialize<S: Serializer>(
        length: &SignedDuration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(length.as_secs())
    }

    pub(in crate::rotation) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<SignedDuration, D::Error> {
        i64::deserialize(from).map(SignedDuration::from_secs)
    }
}

#[cfg(test)]
pub(super) mod tests;
