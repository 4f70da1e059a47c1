//! Writing to the terminal. A closed pipe ends the output quietly, it is nobody's failure.
//!
//! Notes, errors and JSON may hold words of strangers: nothing in them moves the cursor.

use crate::error::CliError;
use cryptlet_developer::{plain, plain_json};
use std::{
    fmt::Display,
    io::{IsTerminal, Write},
};

/// Writes a line to standard output.
pub(crate) fn say(line: impl Display) {
    let _closed_pipe = writeln!(std::io::stdout().lock(), "{line}");
}

/// Writes JSON to standard output.
pub(crate) fn say_json(json: impl Display) {
    say(plain_json(&json.to_string()));
}

/// Writes lines of progress to standard error.
pub(crate) fn note(lines: impl Display) {
    write_note("", lines);
}

fn write_note(title: &str, lines: impl Display) {
    let lines = lines.to_string();
    let lines: Vec<_> = lines.split('\n').map(plain).collect();
    let _closed_pipe = writeln!(std::io::stderr().lock(), "{title}{}", lines.join("\n"));
}

/// Writes an error and the next step to standard error.
pub(crate) fn complain(error: &CliError) {
    let title = paint("error", Paint::Bad, std::io::stderr().is_terminal());
    write_note(&format!("{title}: "), error);
    if let Some(step) = error.next_step() {
        note(format_args!(" next: {step}"));
    }
}

/// How a word is shown.
#[derive(Clone, Copy)]
pub(crate) enum Paint {
    /// It holds.
    Good,
    /// It does not.
    Bad,
    /// Less important.
    Dim,
}

/// `word` in colour, if standard output is a terminal and the user did not ask for none (NO_COLOR).
pub(crate) fn painted(word: impl Display, how: Paint) -> String {
    paint(word, how, std::io::stdout().is_terminal())
}

fn paint(word: impl Display, how: Paint, terminal: bool) -> String {
    let code = match how {
        Paint::Good => 32,
        Paint::Bad => 31,
        Paint::Dim => 2,
    };
    if terminal && std::env::var_os("NO_COLOR").is_none() {
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    } else {
        word.to_string()
    }
}

/// Where progress goes: standard output, or standard error when standard output is for JSON.
#[derive(Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    /// A printer that leaves standard output alone if `json`.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Writes a line.
    pub(crate) fn line(self, line: impl Display) {
        if self.json {
            note(line);
        } else {
            say(line);
        }
    }

    /// Writes a name and what it stands for, in two columns.
    pub(crate) fn fact(self, name: &str, value: impl Display) {
        self.line(format_args!("{name:<12} {value}"));
    }
}
