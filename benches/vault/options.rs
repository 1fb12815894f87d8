//! What to measure, and how much of it.

use std::time::Duration;

use crate::rows::ROWS;

const HELP: &str = "\
cargo bench --bench vault -- [OPTIONS]

  --quick            one short round of everything, small and not judged: does the harness work, is every answer right
  --only P1,P3       these rows only; `lists` for the pages of lists
  --credentials N    how many credentials P1 to P8, U5 and U6 work on [default: 100000]
  --rounds N         rounds, of which the median counts [default: 3]
  --seconds N        how long each measurement of a round takes [default: 4]
  --million          also P9, P12, U1 to U4 and the lists, with 1,000,000 credentials (a few minutes to fill)
  --many N           as --million, with another number";

pub(crate) struct Options {
    pub(crate) quick: bool,
    only: Vec<String>,
    pub(crate) credentials: u64,
    pub(crate) rounds: u64,
    pub(crate) round: Duration,
    /// How many credentials are many, for what needs so many.
    pub(crate) many: Option<u64>,
}

impl Options {
    /// Reads the command line, or says what can be asked for.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let arguments: Vec<_> = arguments.collect();
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let mut options = Self {
            quick,
            only: Vec::new(),
            credentials: if quick { 2_000 } else { 100_000 },
            rounds: if quick { 1 } else { 3 },
            round: Duration::from_millis(if quick { 500 } else { 4_000 }),
            many: quick.then_some(5_000),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().ok_or(format!("{argument} needs a value\n\n{HELP}"));
            let number = |text: String| {
                let number = text.parse().ok().filter(|number| *number > 0);
                number.ok_or(format!("{text} is not a number of something"))
            };
            match argument.as_str() {
                // `cargo bench` adds the second.
                "--quick" | "--bench" => {}
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--credentials" => options.credentials = number(value()?)?,
                "--rounds" => options.rounds = number(value()?)?,
                "--seconds" => options.round = Duration::from_secs(number(value()?)?),
                "--million" => options.many = Some(1_000_000),
                "--many" => options.many = Some(number(value()?)?),
                "--help" => return Err(HELP.to_owned()),
                _ => return Err(format!("{argument} is not an option\n\n{HELP}")),
            }
        }
        let known = |id: &String| id == "lists" || ROWS.iter().any(|row| row.id == id);
        match options.only.iter().find(|id| !known(id)) {
            Some(unknown) => Err(format!("there is no row {unknown}\n\n{HELP}")),
            None => Ok(options),
        }
    }

    /// Whether one of these rows is to be measured.
    pub(crate) fn wants(&self, ids: &[&str]) -> bool {
        self.only.is_empty() || ids.iter().any(|id| self.only.iter().any(|only| only == id))
    }
}
