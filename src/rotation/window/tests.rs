//! Windows against the clock on the wall, where that is set forward, back, by half an hour, or by a day.

use proptest::prelude::*;

use super::*;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn window(start: &str, minutes: i64, days: &[&str], zone: &str) -> Window {
    let days: Vec<_> = days.iter().map(|day| day_of(day).unwrap()).collect();
    Window::parse(start, MINUTE * i32::try_from(minutes).unwrap(), &days, zone).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Whether the clock on the wall shows a time within the window: looked up in another way than the openings are made.
pub(in crate::rotation) fn is_open(window: &Window, time: Timestamp) -> bool {
    let shown = time.to_zoned(window.zone.clone()).datetime();
    [shown.date(), shown.date().yesterday().unwrap()].into_iter().any(|day| {
        let start = day.to_datetime(window.start);
        let end = start.checked_add(window.length).unwrap();
        window.begins_on(day) && start <= shown && shown < end
    })
}

#[test]
fn openings_where_the_clock_is_set_forward_and_back() {
    for (window, from, start, end) in [
        // An hour is missing, or lived twice.
        (
            window("02:00", 120, &[], "Europe/Berlin"),
            "2026-03-28T12:00Z",
            "2026-03-29T01:00Z",
            "2026-03-29T02:00Z",
        ),
        (
            window("02:00", 120, &[], "Europe/Berlin"),
            "2026-10-24T12:00Z",
            "2026-10-25T00:00Z",
            "2026-10-25T03:00Z",
        ),
        (
            window("02:00", 120, &[], "Europe/Berlin"),
            "2026-05-01T12:00Z",
            "2026-05-02T00:00Z",
            "2026-05-02T02:00Z",
        ),
        (
            window("01:30", 60, &[], "America/New_York"),
            "2026-03-07T12:00Z",
            "2026-03-08T06:30Z",
            "2026-03-08T07:00Z",
        ),
        // It begins and ends in the hour that comes twice: two parts.
        (
            window("01:15", 30, &[], "America/New_York"),
            "2026-10-31T12:00Z",
            "2026-11-01T05:15Z",
            "2026-11-01T05:45Z",
        ),
        (
            window("01:15", 30, &[], "America/New_York"),
            "2026-11-01T05:45Z",
            "2026-11-01T06:15Z",
            "2026-11-01T06:45Z",
        ),
        // It lies in what is missing: the next day; or the next week.
        (
            window("02:15", 30, &[], "Europe/Berlin"),
            "2026-03-28T12:00Z",
            "2026-03-30T00:15Z",
            "2026-03-30T00:45Z",
        ),
        (
            window("02:15", 30, &["sun"], "Europe/Berlin"),
            "2026-03-28T12:00Z",
            "2026-04-05T00:15Z",
            "2026-04-05T00:45Z",
        ),
        // Half an hour.
        (
            window("02:00", 30, &[], "Australia/Lord_Howe"),
            "2026-10-03T00:00Z",
            "2026-10-04T15:00Z",
            "2026-10-04T15:30Z",
        ),
        (
            window("01:30", 30, &[], "Australia/Lord_Howe"),
            "2026-04-04T00:00Z",
            "2026-04-04T14:30Z",
            "2026-04-04T15:30Z",
        ),
        // Over midnight: of the day on which it begins.
        (
            window("22:00", 480, &["sat"], "Europe/Berlin"),
            "2026-10-23T12:00Z",
            "2026-10-24T20:00Z",
            "2026-10-25T05:00Z",
        ),
        (
            window("22:00", 480, &["sat"], "Europe/Berlin"),
            "2026-03-28T23:30Z",
            "2026-03-28T21:00Z",
            "2026-03-29T04:00Z",
        ),
        // There was no 30 December 2011, which would have been a Friday.
        (
            window("12:00", 60, &["fri"], "Pacific/Apia"),
            "2011-12-28T00:00Z",
            "2012-01-05T22:00Z",
            "2012-01-05T23:00Z",
        ),
        (
            window("23:00", 120, &["thu"], "Pacific/Apia"),
            "2011-12-28T00:00Z",
            "2011-12-30T09:00Z",
            "2011-12-30T10:00Z",
        ),
    ] {
        let opening = window.open_at_or_after(at(from)).unwrap();
        assert_eq!((opening.start, opening.end), (at(start), at(end)), "{window} from {from}");
    }
}

#[test]
fn what_makes_no_window_is_refused() {
    let parse = |start, length, zone| Window::parse(start, length, &[], zone).map_err(|it| it.0);
    for start in ["", "2:00", "24:00", "02:60", "02:00:00", "0200", "ab:cd", "+2:00", "02:0 "] {
        assert_eq!(parse(start, HOUR, "UTC"), Err("window.start"), "{start:?}");
    }
    for length in [MINUTE * 4, HOUR * 24 + MINUTE, HOUR + SignedDuration::from_secs(1), -HOUR] {
        assert_eq!(parse("02:00", length, "UTC"), Err("window.length"), "{length}");
    }
    for zone in ["", "Europe/Nowhere", "CET-1CEST", "+02:00", "../etc/passwd", "Europe/Berlin\n"] {
        assert_eq!(parse("02:00", HOUR, zone), Err("window.time_zone"), "{zone:?}");
    }
    assert_eq!(parse("02:00", HOUR, "europe/berlin").unwrap().time_zone(), "Europe/Berlin");
}

#[test]
fn windows_say_what_they_are() {
    for (days, says) in [
        (&[][..], ""),
        (&["mon", "tue", "wed", "thu", "fri"], " mon-fri"),
        (&["sun", "sat", "sat"], " sat,sun"),
        (&["mon", "wed", "fri"], " mon,wed,fri"),
        (&["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ""),
    ] {
        let window = window("23:30", 90, days, "UTC");
        assert_eq!(window.to_string(), format!("23:30-01:00 UTC{says}"));
    }
}

#[test]
fn windows_are_typed_as_they_are_shown() {
    for (typed, shown) in [
        ("02:00-04:00 Europe/Berlin mon-fri", "02:00-04:00 Europe/Berlin mon-fri"),
        ("22:00-02:00  utc  SUN,sat", "22:00-02:00 UTC sat,sun"),
        ("22:00-02:00 UTC fri-mon", "22:00-02:00 UTC mon,fri,sat,sun"),
        ("00:00-00:00 UTC sun-sat", "00:00-00:00 UTC"),
        ("23:59-00:59 Asia/Kathmandu wed", "23:59-00:59 Asia/Kathmandu wed"),
    ] {
        assert_eq!(typed.parse::<Window>().unwrap().to_string(), shown);
    }
    for bad in [
        "",
        "02:00-04:00",
        "02:00 UTC",
        "02:00-04:00 UTC mon tue",
        "02:00-04:00 UTC day",
        "2-4 UTC",
        "02:00-24:00 UTC",
    ] {
        assert!(bad.parse::<Window>().is_err(), "{bad}");
    }
}

/// Windows in zones with all kinds of changes.
pub(in crate::rotation) fn windows() -> impl Strategy<Value = Window> {
    let zone = prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/Sao_Paulo",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "Antarctica/Troll",
    ]);
    let days = prop::collection::vec(prop::sample::select(DAYS.map(|it| it.0).to_vec()), 0..4);
    (0..96_i8, 1..97_i32, days, zone).prop_map(|(start, length, days, zone)| {
        let start = format!("{:02}:{:02}", start / 4, start % 4 * 15);
        Window::parse(&start, MINUTE * 15 * length, &days, zone).unwrap()
    })
}

/// Times around changes of the clocks, and others.
pub(in crate::rotation) fn times() -> impl Strategy<Value = Timestamp> {
    let changes = [
        "2026-03-29T01:00Z",
        "2026-10-25T01:00Z",
        "2026-03-08T07:00Z",
        "2026-11-01T06:00Z",
        "2026-04-04T15:00Z",
        "2026-10-03T15:30Z",
        "2011-12-30T10:00Z",
        "2018-11-04T03:00Z",
        "2026-06-15T12:00Z",
    ];
    let days = 3 * 24 * 60;
    (prop::sample::select(changes.map(at).to_vec()), -days..days)
        .prop_map(|(change, minutes)| change + MINUTE * minutes)
}

proptest! {
    #[test]
    fn an_opening_is_what_the_clock_on_the_wall_shows(window in windows(), time in times()) {
        let opening = window.open_at_or_after(time).unwrap();
        prop_assert!(opening.start < opening.end && time < opening.end);
        let mut before = time;
        while before < opening.start {
            prop_assert!(!is_open(&window, before), "{before} was left out");
            before += MINUTE;
        }
        let mut within = opening.start;
        while within < opening.end {
            prop_assert!(is_open(&window, within), "{within} is outside");
            within += MINUTE;
        }
        let next = window.open_at_or_after(opening.end).unwrap();
        prop_assert!(next.start >= opening.end);
        prop_assert_eq!(is_open(&window, opening.end), next.start == opening.end);
    }

    #[test]
    fn windows_are_stored_as_they_were(window in windows()) {
        let json = serde_json::to_string(&window).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Window>(&json).unwrap(), &window);
        prop_assert_eq!(window.to_string().parse::<Window>(), Ok(window));
    }
}
