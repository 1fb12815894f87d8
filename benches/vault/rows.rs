//! The rows P1 to P12 and U1 to U6: what each is, its floor and its goal, what was measured, and how that is told.

use serde_json::{Value, json};

use crate::load::Outcome;

/// One row of the table.
pub(crate) struct Row {
    /// P1 to P12, U1 to U6.
    pub(crate) id: &'static str,
    what: &'static str,
    unit: &'static str,
    floor: f64,
    goal: f64,
    better: Better,
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    More,
    Less,
}

use Better::{Less, More};

pub(crate) const ROWS: [Row; 19] = [
    row("P1", "GetCredential / bare echo, 64 callers", "", 0.45, 0.65, More),
    row("P2", "VerifySipDigest / bare echo, 64 callers", "", 0.30, 0.45, More),
    row("P3", "RotateCredential / the naive server, 64 callers", " ×", 12.0, 20.0, More),
    row("P4", "RotateCredential / the naive server, 256 callers", " ×", 20.0, 32.0, More),
    row("P5", "RotateCredential p99, 64 callers / flush", " ×", 6.0, 4.0, Less),
    row("P6", "RotateCredential p50, one caller / flush", " ×", 1.5, 1.25, Less),
    row("P7", "rotations per flush, 64 callers", "", 12.0, 30.0, More),
    row(
        "P8",
        "GetCredential p99, 16 readers: while 64 callers rotate / alone",
        " ×",
        8.0,
        4.0,
        Less,
    ),
    row("P9", "GetCredential: many credentials / 1,000", "", 0.7, 0.9, More),
    row("P10", "GetCredential: TLS / plaintext", "", 0.7, 0.85, More),
    row("P11", "GetCredential: a JSON log line each / none", "", 0.75, 0.9, More),
    row("P12", "resident memory at many credentials", " MiB", 256.0, 128.0, Less),
    row("P12", "start-up to SERVING at many credentials", " s", 1.0, 0.3, Less),
    row("U1", "VerifySipDigest among 1,000 / bare echo, 64 callers", "", 0.30, 0.45, More),
    row("U2", "VerifySipDigest among many / bare echo, 64 callers", "", 0.30, 0.45, More),
    row("U3", "VerifyTwilioWebhook among 1,000 / bare echo, 64 callers", "", 0.30, 0.45, More),
    row("U4", "VerifyTwilioWebhook among many / bare echo, 64 callers", "", 0.30, 0.45, More),
    row(
        "U5",
        "VerifySipDigest p99, 16 callers: while 64 callers rotate / alone",
        " ×",
        8.0,
        4.0,
        Less,
    ),
    row(
        "U6",
        "VerifyTwilioWebhook p99, 16 callers: while 64 callers rotate / alone",
        " ×",
        8.0,
        4.0,
        Less,
    ),
];

const fn row(
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    floor: f64,
    goal: f64,
    better: Better,
) -> Row {
    Row { id, what, unit, floor, goal, better }
}

/// What was measured.
#[derive(Default)]
pub(crate) struct Report {
    /// By the place in [`ROWS`].
    figures: Vec<(usize, f64, String, Value)>,
    /// What has no goal of its own.
    pub(crate) lists: Vec<Value>,
    /// What whoever reads the figures should know.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Adds a figure: of the row that begins so, what it is made of in words, and in numbers.
    pub(crate) fn add(&mut self, what: &str, value: f64, detail: String, rounds: Value) {
        let is = |row: &Row| row.id == what || row.what.starts_with(what);
        let place = ROWS.iter().position(is).expect("a row of the table");
        println!("  {}: {value:.2}{} ({detail})", ROWS[place].id, ROWS[place].unit);
        self.figures.push((place, value, detail, rounds));
        self.figures.sort_by_key(|(place, ..)| *place);
    }

    /// The ratio of two series of rounds by their rates.
    pub(crate) fn add_ratio(&mut self, id: &str, ours: &[f64], theirs: &[f64], how: &str) {
        let (our, their) = (median(ours), median(theirs));
        let detail = format!("{our:.0} / {their:.0} per s, {how}");
        self.add(id, our / their, detail, json!({ "ours": ours, "theirs": theirs }));
    }

    /// The table. Of a run that is too small to judge, without verdicts.
    pub(crate) fn print(&self, judged: bool) {
        println!(
            "\n| | what | measured | floor | goal | | of which |\n|---|---|---|---|---|---|---|"
        );
        for (place, value, detail, _) in &self.figures {
            let Row { id, what, unit, floor, goal, .. } = &ROWS[*place];
            let verdict = if judged { ROWS[*place].verdict(*value) } else { "not judged" };
            println!(
                "| {id} | {what} | {value:.2}{unit} | {floor}{unit} | {goal}{unit} | {verdict} | {detail} |"
            );
        }
        for note in &self.notes {
            println!("\n{note}");
        }
    }

    pub(crate) fn json(&self, judged: bool) -> Value {
        let rows = self.figures.iter().map(|(place, value, detail, rounds)| {
            let Row { id, what, unit, floor, goal, .. } = &ROWS[*place];
            let verdict = judged.then(|| ROWS[*place].verdict(*value));
            json!({ "id": id, "what": what, "value": value, "unit": unit.trim(), "floor": floor, "goal": goal,
                "verdict": verdict, "detail": detail, "rounds": rounds })
        });
        json!({ "rows": rows.collect::<Vec<_>>(), "lists": self.lists, "notes": self.notes })
    }
}

impl Row {
    fn verdict(&self, value: f64) -> &'static str {
        let reaches = |bound| match self.better {
            More => value >= bound,
            Less => value <= bound,
        };
        match (reaches(self.goal), reaches(self.floor)) {
            (true, _) => "goal met",
            (false, true) => "floor met",
            (false, false) => "MISSED",
        }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

/// One figure of each round.
pub(crate) fn each(outcomes: &[Outcome], figure: fn(&Outcome) -> f64) -> Vec<f64> {
    outcomes.iter().map(figure).collect()
}

/// A count as a float; none of ours is as large as 2^32.
pub(crate) fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
