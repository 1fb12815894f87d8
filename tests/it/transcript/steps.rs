//! Transcripts in a text: what is typed, and what is said to it.

/// A command as it is typed, and what it says.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) says: String,
}

/// The fenced blocks of this kind, without their fences.
pub(crate) fn blocks<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let fence = format!("\n```{kind}\n");
    let fences = text.split(&fence).skip(1);
    fences.map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// The steps of a transcript: commands behind `$`, their further lines behind `>`.
pub(crate) fn steps(transcript: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), says: String::new() });
            continue;
        }
        let step = steps.last_mut().unwrap();
        match line.strip_prefix("> ") {
            Some(more) if step.says.is_empty() => step.command.extend(["\n", more]),
            _ => step.says.extend([line, "\n"]),
        }
    }
    steps
}
