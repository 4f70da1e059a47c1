//! The text of an interface, before it is parsed: which characters it may have, where its comments are, and where each of
//! its items begins and ends.
//!
//! The parser of the items reads Rust's tokens, and Rust's comments are not Solidity's (they nest, and they end at fewer
//! line ends): what one takes for a comment the other may take for code. So comments are found here, by Solidity's rules,
//! over characters on which both agree, and the parser never sees one.

use crate::{HeaderError, MAX_INTERFACE_BYTES};

/// Arrays of arrays: more are never useful, and each is a level of the parser's stack.
const MAX_BRACKETS: usize = 4;

/// An item without its comments, and the line where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// An interface, cut into what stands before its opening brace, and its items.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    pub(crate) head: Piece,
    pub(crate) items: Vec<Piece>,
}

/// Cuts an author's file.
pub(crate) fn cut(source: &str) -> Result<Pieces, HeaderError> {
    if source.len() > MAX_INTERFACE_BYTES {
        return Err(HeaderError::InterfaceTooLarge(source.len()));
    }
    for (index, line) in source.split('\n').enumerate() {
        check_line(line).map_err(|reason| HeaderError::line(index + 1, reason))?;
    }
    let code = without_comments(source)?;
    let mut cutter = Cutter::default();
    for c in code.chars() {
        cutter
            .take(c)
            .map_err(|reason| HeaderError::line(cutter.line, reason))?;
    }
    cutter.finish()
}

/// The error says which character is not allowed. What is left is the same to every reader of Solidity or Rust, and to
/// every editor: no other line ends, no letters that look alike, none that turn the direction of writing.
fn check_line(line: &str) -> Result<(), String> {
    if let Some(c) = line.chars().find(|c| !matches!(c, ' '..='~' | '\t')) {
        return Err(format!(
            "character {c:?} is not allowed: printable ASCII, tabs and Unix line ends only"
        ));
    }
    match line.contains("SPDX-License-Identifier") {
        true => Err("the header bears one licence line for the whole file: remove this one".into()),
        false => Ok(()),
    }
}

/// The same text with a space for each character of a comment; line ends stay.
fn without_comments(source: &str) -> Result<String, HeaderError> {
    #[derive(PartialEq)]
    enum In {
        Code,
        Line,
        Block(usize),
    }
    let (mut place, mut line) = (In::Code, 1);
    let mut code = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        line += usize::from(c == '\n');
        match (&place, c, next) {
            (In::Code, '/', Some('/')) => place = In::Line,
            (In::Code, '/', Some('*')) => {
                chars.next();
                code.push(' ');
                place = In::Block(line);
            }
            (In::Code, _, _) => {
                code.push(c);
                continue;
            }
            (In::Line, '\n', _) => place = In::Code,
            (In::Block(_), '*', Some('/')) => {
                chars.next();
                code.push(' ');
                place = In::Code;
            }
            _ => {}
        }
        code.push(if c == '\n' { '\n' } else { ' ' });
    }
    match place {
        In::Block(begun) => Err(HeaderError::line(begun, "this comment has no end")),
        _ => Ok(code),
    }
}

/// Reads code character by character and cuts it where an item ends.
#[derive(Debug)]
struct Cutter {
    line: usize,
    /// Where the item in `text` began.
    begun: usize,
    text: String,
    head: Option<Piece>,
    items: Vec<Piece>,
    braces: usize,
    in_parentheses: bool,
    in_brackets: bool,
    /// Pairs of brackets that followed each other.
    brackets: usize,
    closed: bool,
}

impl Default for Cutter {
    fn default() -> Self {
        Self {
            line: 1,
            begun: 1,
            text: String::new(),
            head: None,
            items: Vec::new(),
            braces: 0,
            in_parentheses: false,
            in_brackets: false,
            brackets: 0,
            closed: false,
        }
    }
}

impl Cutter {
    fn take(&mut self, c: char) -> Result<(), String> {
        if c.is_ascii_whitespace() {
            self.line += usize::from(c == '\n');
            if !self.text.is_empty() {
                self.text.push(c);
            }
            return Ok(());
        }
        if self.closed {
            return Err("nothing may follow the interface: one file, one interface".into());
        }
        if self.in_brackets && c != ']' && !c.is_ascii_digit() {
            return Err("the size of an array is a number, or nothing".into());
        }
        self.in_order(c)
    }

    fn in_order(&mut self, c: char) -> Result<(), String> {
        if !matches!(c, '[' | ']' | '0'..='9') {
            self.brackets = 0;
        }
        match c {
            '{' if self.braces == 0 => {
                self.braces = 1;
                self.head = Some(self.piece());
                return Ok(());
            }
            '{' if self.braces == 1 && !self.in_parentheses => self.braces = 2,
            '}' if self.braces == 2 => {
                self.push(c);
                self.braces = 1;
                let item = self.piece();
                self.items.push(item);
                return Ok(());
            }
            '}' if self.braces == 1 => return self.close(),
            ';' if self.braces == 1 && !self.in_parentheses => {
                self.push(c);
                let item = self.piece();
                self.items.push(item);
                return Ok(());
            }
            ';' if self.braces == 2 => {}
            '(' if !self.in_parentheses && self.braces == 1 => self.in_parentheses = true,
            ')' if self.in_parentheses => self.in_parentheses = false,
            '[' if self.brackets < MAX_BRACKETS => {
                (self.in_brackets, self.brackets) = (true, self.brackets + 1);
            }
            ']' if self.in_brackets => self.in_brackets = false,
            ',' | '_' | 'a'..='z' | 'A'..='Z' | '0'..='9' => {}
            _ => return Err(unexpected(c)),
        }
        self.push(c);
        Ok(())
    }

    fn push(&mut self, c: char) {
        if self.text.is_empty() {
            self.begun = self.line;
        }
        self.text.push(c);
    }

    fn piece(&mut self) -> Piece {
        Piece {
            line: self.begun,
            text: std::mem::take(&mut self.text),
        }
    }

    fn close(&mut self) -> Result<(), String> {
        if !self.text.is_empty() || self.in_parentheses {
            return Err("the last item ends with neither ; nor }".into());
        }
        (self.braces, self.closed) = (0, true);
        Ok(())
    }

    fn finish(self) -> Result<Pieces, HeaderError> {
        match self.head {
            Some(head) if self.closed => Ok(Pieces {
                head,
                items: self.items,
            }),
            _ => Err(HeaderError::line(
                self.line,
                "the file ends before the interface does: interface IName { ... }",
            )),
        }
    }
}

fn unexpected(c: char) -> String {
    format!(
        "{c:?} is not expected here: an interface declares structs, enums, types, events, errors and functions without bodies"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str) -> String {
        cut(source).unwrap_err().to_string()
    }

    #[test]
    fn items_come_with_their_lines() {
        let source = "// about\ninterface IA {\n  /* two\n lines */ event E(uint a);\n  struct S { uint x; }\n}\n";
        let pieces = cut(source).unwrap();
        assert_eq!(pieces.head.text.trim(), "interface IA");
        let lines: Vec<_> = pieces.items.iter().map(|item| item.line).collect();
        assert_eq!(lines, [4, 5]);
        assert_eq!(pieces.items[1].text, "struct S { uint x; }");
    }

    #[test]
    fn comments_are_solidity_s_not_rust_s() {
        // Rust nests comments and would see nothing but the interface here.
        let nested = "interface IA { } /* /* */ contract Evil { } /* */ */";
        assert!(refused(nested).contains("nothing may follow"));
        assert!(cut("interface IA { /***/ /**/ event E(); /*/ event F(); */ }").is_ok());
        assert!(refused("interface IA {}\n/* open").contains("line 2: this comment has no end"));
    }

    #[test]
    fn line_ends_that_only_solidity_knows_are_refused() {
        for end in [
            '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}', '\u{202e}', '\0',
        ] {
            let source = format!("interface IA {{ // {end} }} contract Evil {{}}\n }}");
            assert!(refused(&source).contains("is not allowed"), "{end:?}");
        }
    }

    #[test]
    fn nothing_but_declarations_passes() {
        let cases = [
            (
                "interface IA { function f() external { x; } ",
                "ends before",
            ),
            ("interface IA { string constant S = \"x\"; }", "'='"),
            ("interface IA { uint[1 + 2] a; }", "size of an array"),
            ("interface IA { event E(uint[][][][][] a); }", "'['"),
            ("interface IA { event E((uint, uint) a); }", "'('"),
            ("interface IA { event E(uint a) }", "neither ; nor }"),
            ("interface IA { } interface IB { }", "nothing may follow"),
            ("interface IA { event E(", "ends before"),
            ("", "ends before"),
            ("pragma solidity 1; interface IA { }", "';'"),
            (
                "// SPDX-License-Identifier: MIT\ninterface IA {}",
                "licence",
            ),
        ];
        for (source, reason) in cases {
            assert!(
                refused(source).contains(reason),
                "{source}: {}",
                refused(source)
            );
        }
        assert!(matches!(
            cut(&" ".repeat(MAX_INTERFACE_BYTES + 1)),
            Err(HeaderError::InterfaceTooLarge(_))
        ));
    }
}
