//! A strict reader of Prometheus' text format 0.0.4: it takes what is right and says what is not.
//!
//! Stricter than the format: HELP and TYPE come once and before the samples, a family is in one
//! piece, and names say what a metric is (`promtool check metrics` asks for that as well).

use std::collections::{BTreeMap, BTreeSet};

/// A metric with all of its series.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) name: String,
    kind: String,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Everything in one answer of `/metrics`.
#[derive(Debug)]
pub(crate) struct Metrics(pub(crate) Vec<Family>);

impl Metrics {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut families: Vec<Family> = Vec::new();
        let lines = text.strip_suffix('\n').ok_or("the last line does not end")?;
        for (number, line) in (1..).zip(lines.split('\n')) {
            read(&mut families, line)
                .map_err(|problem| format!("line {number}: {problem}: {line}"))?;
        }
        let mut names = BTreeSet::new();
        let mut series = BTreeSet::new();
        for family in &families {
            family.check().map_err(|problem| format!("{}: {problem}", family.name))?;
            if !names.insert(&family.name) {
                return Err(format!("{} comes twice", family.name));
            }
            for Sample { name, labels, .. } in &family.samples {
                if !series.insert((name, labels)) {
                    return Err(format!("{name} {labels:?} comes twice"));
                }
            }
        }
        Ok(Self(families))
    }

    /// The sum of all series of that name with these labels. There must be one.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            let label = |(name, value): &(&str, &str)| {
                sample.labels.get(*name).map(String::as_str) == Some(*value)
            };
            sample.name == name && labels.iter().all(label)
        };
        let samples: Vec<_> = self.samples().filter(has).collect();
        assert!(!samples.is_empty(), "there is no {name} with {labels:?}");
        samples.iter().map(|sample| sample.value).sum()
    }

    /// How many series there are.
    pub(crate) fn count(&self) -> usize {
        self.samples().count()
    }

    /// The labels of all series of that name.
    pub(crate) fn labels(&self, name: &str, label: &str) -> BTreeSet<String> {
        let of = self.samples().filter(|sample| sample.name == name);
        of.filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter().flat_map(|family| &family.samples)
    }
}

fn read(families: &mut Vec<Family>, line: &str) -> Result<(), String> {
    if let Some(help) = line.strip_prefix("# HELP ") {
        let (name, text) = help.split_once(' ').ok_or("no help")?;
        if !is_name(name) || text.trim() != text || text.is_empty() {
            return Err("not a name with its help".to_owned());
        }
        families.push(Family { name: name.to_owned(), ..Family::default() });
        return Ok(());
    }
    let family = families.last_mut().ok_or("a sample before its HELP")?;
    if let Some(kind) = line.strip_prefix("# TYPE ") {
        let (name, kind) = kind.split_once(' ').ok_or("no type")?;
        let known = ["counter", "gauge", "histogram"].contains(&kind);
        if name != family.name || !known || !family.kind.is_empty() || !family.samples.is_empty() {
            return Err("a type that does not belong here".to_owned());
        }
        kind.clone_into(&mut family.kind);
        return Ok(());
    }
    if family.kind.is_empty() {
        return Err("a sample before its TYPE".to_owned());
    }
    family.samples.push(sample(line)?);
    Ok(())
}

fn sample(line: &str) -> Result<Sample, String> {
    let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
    let value = match value {
        "+Inf" | "-Inf" | "NaN" => return Err("not a number that we could have".to_owned()),
        value => value.parse().map_err(|_| "not a number")?,
    };
    let (name, rest) = series.split_at(series.find('{').unwrap_or(series.len()));
    if !is_name(name) {
        return Err("not a name".to_owned());
    }
    let mut labels = BTreeMap::new();
    if !rest.is_empty() {
        let mut rest = rest
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or("no end of labels")?;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("a label without a value")?;
            let (value, after) = quoted(after)?;
            if !is_name(label)
                || label.contains(':')
                || labels.insert(label.to_owned(), value).is_some()
            {
                return Err(format!("the label {label}"));
            }
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None if after.is_empty() => break,
                None => return Err("labels that do not end".to_owned()),
            }
        }
    }
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, and what comes after that.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err("an unknown escape".to_owned()),
            },
            _ => value.push(character),
        }
    }
    Err("a quote that does not end".to_owned())
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

impl Family {
    fn check(&self) -> Result<(), String> {
        if self.samples.is_empty() {
            return Err("no samples".to_owned());
        }
        let total = self.name.ends_with("_total");
        match self.kind.as_str() {
            "histogram" => return self.check_histogram(),
            "counter" if !total => return Err("a counter is called …_total".to_owned()),
            "gauge" if total => return Err("a gauge is not called …_total".to_owned()),
            _ => {}
        }
        for sample in &self.samples {
            if sample.name != self.name || sample.labels.contains_key("le") {
                return Err(format!("{} does not belong to it", sample.name));
            }
            if self.kind == "counter" && sample.value < 0.0 {
                return Err("less than nothing".to_owned());
            }
        }
        Ok(())
    }

    fn check_histogram(&self) -> Result<(), String> {
        let mut samples = self.samples.iter().peekable();
        while let Some(first) = samples.peek() {
            let mut of = first.labels.clone();
            of.remove("le");
            let (mut bound, mut below) = (f64::NEG_INFINITY, 0.0);
            while bound < f64::INFINITY {
                let bucket = samples.next().ok_or("no +Inf")?;
                let mut labels = bucket.labels.clone();
                let le = labels.remove("le").ok_or("a bucket without le")?;
                let next =
                    if le == "+Inf" { f64::INFINITY } else { le.parse().map_err(|_| "le")? };
                let named = bucket.name == format!("{}_bucket", self.name);
                if !named || labels != of || next <= bound || bucket.value < below {
                    return Err(format!("the bucket {le} of {of:?}"));
                }
                (bound, below) = (next, bucket.value);
            }
            let sum = samples.next().ok_or("no sum")?;
            let count = samples.next().ok_or("no count")?;
            let names = [&sum.name, &count.name]
                == [&format!("{}_sum", self.name), &format!("{}_count", self.name)];
            #[expect(clippy::float_cmp, reason = "both are counts")]
            let equal = count.value == below;
            if !names || sum.labels != of || count.labels != of || !equal || sum.value < 0.0 {
                return Err(format!("sum and count of {of:?}"));
            }
        }
        Ok(())
    }
}

#[test]
fn what_is_right_is_read() {
    let text = concat!(
        "# HELP a_total One.\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\\n,}\",y=\"\"} 3\na_total 4\n",
        "# HELP b Two.\n# TYPE b histogram\nb_bucket{le=\"0.5\"} 1\nb_bucket{le=\"+Inf\"} 2\nb_sum 0.75\nb_count 2\n",
    );
    let metrics = Metrics::parse(text).unwrap();
    assert_eq!(metrics.count(), 6);
    assert!((metrics.value("a_total", &[("x", "1\"\\\n,}")]) - 3.0).abs() < 1e-9);
    assert!((metrics.value("a_total", &[]) - 7.0).abs() < 1e-9);
}

#[test]
fn planted_mistakes_are_found() {
    const A: &str = "# HELP a_total One.\n# TYPE a_total counter\n";
    const B: &str = "# HELP b Two.\n# TYPE b histogram\n";
    for (text, says) in [
        ("", "last line"),
        ("a_total 1\n", "before its HELP"),
        ("# HELP a_total One.\na_total 1\n", "before its TYPE"),
        ("# HELP a_total\n# TYPE a_total counter\na_total 1\n", "no help"),
        (&format!("{A}a_total 1"), "last line"),
        (&format!("{A}a_total 1\n\na_total{{x=\"1\"}} 1\n"), "no value"),
        (&format!("{A}a_total 1\na_total 1\n"), "comes twice"),
        (&format!("{A}a_total 1\n{A}a_total{{x=\"1\"}} 1\n"), "comes twice"),
        (&format!("{A}# TYPE a_total counter\na_total 1\n"), "does not belong"),
        (&format!("{A}b_total 1\n"), "does not belong"),
        (&format!("{A}a_total -1\n"), "less than nothing"),
        (&format!("{A}a_total NaN\n"), "not a number"),
        (&format!("{A}a_total one\n"), "not a number"),
        (&format!("{A}a_total{{x=\"1\"x=\"2\"}} 1\n"), "do not end"),
        (&format!("{A}a_total{{x=\"1\",x=\"2\"}} 1\n"), "the label x"),
        (&format!("{A}a_total{{x=\"1}} 1\n"), "does not end"),
        (&format!("{A}a_total{{x=\"\\t\"}} 1\n"), "unknown escape"),
        (&format!("{A}a-total 1\n"), "not a name"),
        ("# HELP a One.\n# TYPE a counter\na 1\n", "called …_total"),
        ("# HELP a_total One.\n# TYPE a_total gauge\na_total 1\n", "not called …_total"),
        (A, "no samples"),
        (&format!("{B}b_bucket{{le=\"1\"}} 1\nb_sum 1\nb_count 1\n"), "without le"),
        (
            &format!("{B}b_bucket{{le=\"1\"}} 2\nb_bucket{{le=\"+Inf\"}} 1\nb_sum 1\nb_count 1\n"),
            "bucket",
        ),
        (&format!("{B}b_bucket{{le=\"+Inf\"}} 1\nb_sum 1\nb_count 2\n"), "sum and count"),
        (&format!("{B}b_bucket{{le=\"+Inf\"}} 1\nb_count 1\nb_sum 1\n"), "sum and count"),
    ] {
        let problem = Metrics::parse(text).unwrap_err();
        assert!(problem.contains(says), "{text}: {problem}");
    }
}
