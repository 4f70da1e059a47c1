//! Listings as text: aligned columns and titled fields. What strangers wrote cannot move the cursor.

use std::fmt;

/// Two spaces between columns.
const GAP: &str = "  ";

/// Rows under headings, aligned. Nothing to show is said in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// A table without rows; `empty` is what is shown then.
    #[must_use]
    pub fn new(headings: &[&'static str], empty: &'static str) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: vec![],
            empty,
        }
    }

    /// Adds a row, a cell a heading.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)).to_vec());
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return f.write_str(self.empty);
        }
        let mut widths: Vec<usize> = self.headings.iter().map(|text| width(text)).collect();
        for row in &self.rows {
            for (wide, cell) in widths.iter_mut().zip(row) {
                *wide = (*wide).max(width(cell));
            }
        }
        let headings: Vec<String> = self.headings.iter().map(|&text| text.into()).collect();
        let lines = std::iter::once(&headings).chain(&self.rows);
        let text: Vec<String> = lines.map(|row| line(row, &widths)).collect();
        f.write_str(&text.join("\n"))
    }
}

/// Titled fields, one a line, aligned; a field may have several lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    fields: Vec<(&'static str, String)>,
}

impl Sheet {
    /// Adds a field. Lines behind the first are indented like it.
    pub fn field(&mut self, title: &'static str, value: impl fmt::Display) {
        self.fields.push((title, value.to_string()));
    }

    /// Adds a field if there is a value.
    pub fn maybe(&mut self, title: &'static str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.field(title, value);
        }
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.fields.iter().map(|(title, _)| width(title)).max();
        let widest = widest.unwrap_or_default();
        let mut lines = Vec::new();
        for (title, value) in &self.fields {
            let mut title = *title;
            for part in value.split('\n') {
                let text = format!("{title:<widest$}{GAP}{}", plain(part));
                lines.push(text.trim_end().to_owned());
                title = "";
            }
        }
        f.write_str(&lines.join("\n"))
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, wide)| {
        let padding = wide.saturating_sub(width(cell));
        format!("{cell}{}", " ".repeat(padding))
    });
    let padded: Vec<String> = padded.collect();
    padded.join(GAP).trim_end().to_owned()
}

/// Columns that text takes: a character each, which is right for all that names, digests and numbers are made of.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text without what could rewrite a terminal: control characters, and those that turn or hide others.
#[must_use]
pub fn plain(text: &str) -> String {
    let harmless = |c: char| {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || turns { ' ' } else { c }
    };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_rows_end_without_spaces() {
        let mut table = Table::new(&["NAME", "WHAT"], "nothing");
        assert_eq!(table.to_string(), "nothing");
        table.row(["gold-price".into(), "a".into()]);
        table.row(["é".into(), String::new()]);
        assert_eq!(table.to_string(), "NAME        WHAT\ngold-price  a\né");
    }

    #[test]
    fn fields_of_several_lines_are_indented() {
        let mut sheet = Sheet::default();
        sheet.field("name", "gold");
        sheet.field("interface", "one\ntwo");
        sheet.maybe("none", None::<String>);
        assert_eq!(
            sheet.to_string(),
            "name       gold\ninterface  one\n           two"
        );
    }

    #[test]
    fn what_strangers_wrote_cannot_move_the_cursor_or_turn_the_line() {
        assert_eq!(plain("a\u{1b}[2Kb\r\n\u{202e}c"), "a [2Kb   c");
        let mut table = Table::new(&["A"], "");
        table.row(["x\ny".into()]);
        assert_eq!(table.to_string(), "A\nx y");
    }
}
