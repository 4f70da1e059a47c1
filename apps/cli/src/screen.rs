//! Writing to the terminal. A closed pipe ends the output quietly, it is nobody's failure.
//!
//! Notes, errors and JSON may hold words of strangers: nothing in them moves the cursor.

use crate::error::CliError;
use cryptlet_developer::{plain, plain_json};
use std::{
    fmt::Display,
    io::{IsTerminal, Write},
};

/// Writes lines to standard output.
pub(crate) fn say(lines: impl Display) {
    say_as_it_is(plain_but_painted(&lines.to_string()));
}

/// Writes JSON to standard output.
pub(crate) fn say_json(json: impl Display) {
    say_as_it_is(plain_json(&json.to_string()));
}

/// Writes this program's own words to standard output, whatever is in them.
pub(crate) fn say_as_it_is(text: impl Display) {
    let _closed_pipe = writeln!(std::io::stdout().lock(), "{text}");
}

/// `lines` with nothing in them that moves the cursor. The colours of [`painted`] stay.
fn plain_but_painted(lines: &str) -> String {
    let line = |line: &str| {
        let mut parts = line.split(ESCAPE);
        let mut safe = plain(parts.next().unwrap_or_default());
        for part in parts {
            match COLOURS
                .iter()
                .find_map(|code| part.strip_prefix(code).map(|rest| (code, rest)))
            {
                Some((code, rest)) => {
                    safe.push(ESCAPE);
                    safe.push_str(code);
                    safe.push_str(&plain(rest));
                }
                None => {
                    safe.push(' ');
                    safe.push_str(&plain(part));
                }
            }
        }
        safe
    };
    let safe: Vec<_> = lines.split('\n').map(line).collect();
    safe.join("\n")
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

const ESCAPE: char = '\u{1b}';
/// What follows [`ESCAPE`] in words that are painted.
const COLOURS: [&str; 4] = ["[32m", "[31m", "[2m", "[0m"];

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
    let [good, bad, dim, end] = COLOURS;
    let code = match how {
        Paint::Good => good,
        Paint::Bad => bad,
        Paint::Dim => dim,
    };
    if terminal && std::env::var_os("NO_COLOR").is_none() {
        format!("{ESCAPE}{code}{word}{ESCAPE}{end}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_strangers_do_not_move_the_cursor_and_our_colours_stay() {
        let painted = paint("FAIL", Paint::Bad, true);
        let said = format!("{painted} a\u{1b}[2K\u{1b}[1Aok\r\u{202e}\nb");
        let safe = plain_but_painted(&said);
        assert_eq!(safe, format!("{painted} a [2K [1Aok  \nb"));
    }
}
