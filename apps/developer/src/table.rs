//! Listings as text: aligned columns and titled fields. What strangers wrote cannot move the cursor.

use std::fmt;

/// Two spaces between columns, and before what stands under a row.
const GAP: &str = "  ";

/// Rows under headings, aligned. What is too long for a column stands under its row. Nothing to show is said in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Row>,
    empty: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    cells: Vec<String>,
    under: Vec<(&'static str, String)>,
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
        self.rows.push(Row {
            cells: cells.map(|cell| plain(&cell)).to_vec(),
            under: vec![],
        });
    }

    /// Adds a titled line under the newest row.
    pub fn under(&mut self, title: &'static str, value: impl fmt::Display) {
        if let Some(row) = self.rows.last_mut() {
            row.under.push((title, plain(&value.to_string())));
        }
    }

    /// As [`Table::under`], if there is a value.
    pub fn maybe_under(&mut self, title: &'static str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.under(title, value);
        }
    }

    /// The rows without their headings, a text each.
    #[must_use]
    pub fn blocks(&self) -> Vec<String> {
        let (widths, titles) = (self.widths(), self.titles());
        let blocks = self.rows.iter().map(|row| row.block(&widths, titles));
        blocks.collect()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|text| width(text)).collect();
        for row in &self.rows {
            for (wide, cell) in widths.iter_mut().zip(&row.cells) {
                *wide = (*wide).max(width(cell));
            }
        }
        widths
    }

    /// Width of the titles under rows.
    fn titles(&self) -> usize {
        let under = self.rows.iter().flat_map(|row| &row.under);
        under
            .map(|(title, _)| width(title))
            .max()
            .unwrap_or_default()
    }
}

impl Row {
    fn block(&self, widths: &[usize], titles: usize) -> String {
        let under = self.under.iter().map(|(title, value)| {
            let text = format!("{GAP}{title:<titles$}{GAP}{value}");
            text.trim_end().to_owned()
        });
        let lines: Vec<_> = std::iter::once(line(&self.cells, widths))
            .chain(under)
            .collect();
        lines.join("\n")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return f.write_str(self.empty);
        }
        let headings: Vec<String> = self.headings.iter().map(|&text| text.into()).collect();
        let headings = line(&headings, &self.widths());
        let mut blocks = self.blocks();
        blocks.insert(0, headings);
        f.write_str(&blocks.join("\n"))
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
    let harmless = |c: char| if is_harmless(c) { c } else { ' ' };
    text.chars().map(harmless).collect()
}

/// JSON that says the same without what could rewrite a terminal: such characters are escaped. Line ends stay.
#[must_use]
pub fn plain_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || is_harmless(c) {
            text.push(c);
        } else {
            // All of them are below U+10000: one escape each.
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    text
}

fn is_harmless(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    );
    !c.is_control() && !turns
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
    fn what_stands_under_a_row_is_indented_and_aligned() {
        let mut table = Table::new(&["NAME", "WHAT"], "nothing");
        table.under("id", "of no row");
        table.row(["gold".into(), "a".into()]);
        table.under("id", "0x1\n2");
        table.maybe_under("consumer", Some("0x3"));
        table.maybe_under("none", None::<String>);
        assert_eq!(
            table.to_string(),
            "NAME  WHAT\ngold  a\n  id        0x1 2\n  consumer  0x3"
        );
        assert_eq!(
            table.blocks(),
            ["gold  a\n  id        0x1 2\n  consumer  0x3"]
        );
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
    fn json_without_what_moves_the_cursor_says_the_same() {
        let wild = "a\u{9b}2K\u{7f}\u{202e}b\u{61c}\n\u{1b}é";
        let json = serde_json::to_string(wild).unwrap();
        let safe = plain_json(&json);
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), wild);
        assert_eq!(plain(&safe), safe);
        assert_eq!(plain_json("{\n}"), "{\n}");
    }

    #[test]
    fn what_strangers_wrote_cannot_move_the_cursor_or_turn_the_line() {
        assert_eq!(plain("a\u{1b}[2Kb\r\n\u{202e}c"), "a [2Kb   c");
        let mut table = Table::new(&["A"], "");
        table.row(["x\ny".into()]);
        assert_eq!(table.to_string(), "A\nx y");
    }
}
