//! The commands and files of a page, as they stand there: fenced blocks. `sh` is what a reader types, another word behind
//! it says that it is not a part of the walk; a file has its path behind its language.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use std::{fs, path::Path};

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The heading that it stands under.
    pub(crate) heading: String,
    /// What stands behind the fence: language, and a word of ours.
    pub(crate) info: String,
    /// Its text.
    pub(crate) text: String,
}

/// All fenced blocks of `docs/NAME`.
pub(crate) fn blocks(name: &str) -> Vec<Block> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    read(&fs::read_to_string(page).unwrap())
}

fn read(markdown: &str) -> Vec<Block> {
    let (mut found, mut heading, mut text) = (vec![], String::new(), String::new());
    let mut info = None;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::Heading { .. }) => text.clear(),
            Event::End(TagEnd::Heading(_)) => heading = std::mem::take(&mut text),
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(words))) => {
                text.clear();
                info = Some(words.to_string());
            }
            Event::End(TagEnd::CodeBlock) => found.extend(info.take().map(|info| Block {
                heading: heading.clone(),
                info,
                text: std::mem::take(&mut text),
            })),
            Event::Text(part) => text.push_str(&part),
            _ => {}
        }
    }
    found
}

/// The command lines under a heading.
pub(crate) fn commands(blocks: &[Block], heading: &str) -> Vec<String> {
    let under = blocks.iter().filter(|block| block.heading == heading);
    let commands = under.filter(|block| block.info == "sh");
    let lines: Vec<_> = commands
        .flat_map(|block| block.text.lines())
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "no commands under {heading:?}");
    lines
}

/// The one block with this info.
pub(crate) fn only<'a>(blocks: &'a [Block], info: &str) -> &'a str {
    let mut with = blocks.iter().filter(|block| block.info == info);
    match (with.next(), with.next()) {
        (Some(block), None) => &block.text,
        other => panic!("one block with {info:?}: {other:?}"),
    }
}

#[test]
fn commands_in_lists_are_read_and_belong_to_their_heading() {
    let text = "# A\n\n1. Say:\n\n   ```sh\n   one\n   two\n   ```\n\n```sh other\nthree\n```\n\n## B\n\n```sh\nfour\n```\n";
    let blocks = read(text);
    assert_eq!(commands(&blocks, "A"), ["one", "two"]);
    assert_eq!(commands(&blocks, "B"), ["four"]);
    assert_eq!(only(&blocks, "sh other"), "three\n");
}
