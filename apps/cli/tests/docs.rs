//! The documents hold: links and anchors lead somewhere, paths in code spans exist, and `docs/conformance.md` has one
//! row for every requirement, whose tests and examples exist.

use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Requirements by letter and number of rows.
const REQUIREMENTS: [(&str, usize); 9] = [
    ("T", 10),
    ("C", 13),
    ("P", 6),
    ("D", 9),
    ("S", 7),
    ("G", 9),
    ("H", 6),
    ("E", 11),
    ("K", 3),
];
/// Folders that hold what others wrote or what a build made.
const NOT_OURS: [&str; 6] = [
    "node_modules",
    "target",
    ".git",
    "out",
    "cache",
    "bletchley-demo",
];
/// Top folders: a code span that begins with one of them and a slash names a path from the root.
const TOP_FOLDERS: [&str; 13] = [
    ".ci",
    "adapters",
    "apps",
    "contracts",
    "core",
    "cryptlets",
    "data",
    "docs",
    "enclave",
    "node",
    "pipeline",
    "scripts",
    "vectors",
];

/// What a Markdown file says that can be checked.
#[derive(Debug, Default)]
struct Document {
    links: Vec<String>,
    anchors: BTreeSet<String>,
    code_spans: Vec<String>,
}

impl Document {
    fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut heading: Option<String> = None;
        let mut missing = |link: pulldown_cmark::BrokenLink<'_>| {
            let full = matches!(link.link_type, LinkType::Reference);
            full.then(|| {
                (
                    CowStr::from(format!("undefined-reference:{}", link.reference)),
                    CowStr::from(""),
                )
            })
        };
        let parser =
            Parser::new_with_broken_link_callback(text, Options::ENABLE_TABLES, Some(&mut missing));
        for event in parser {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    document.add_anchor(&heading.take().unwrap_or_default())
                }
                Event::Text(part) => heading.iter_mut().for_each(|title| title.push_str(&part)),
                Event::Code(part) => {
                    heading.iter_mut().for_each(|title| title.push_str(&part));
                    document.code_spans.push(part.into_string());
                }
                _ => {}
            }
        }
        document
    }

    /// Adds the anchor that code hosts give a heading; the second of the same name ends in `-1`.
    fn add_anchor(&mut self, title: &str) {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let slug: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(kept)
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let numbered = (1..).map(|number| format!("{slug}-{number}"));
        let free = std::iter::once(slug.clone())
            .chain(numbered)
            .find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }
}

/// The Markdown files below a root, by their path from it.
struct Library {
    root: PathBuf,
    documents: BTreeMap<PathBuf, Document>,
}

impl Library {
    fn read(root: &Path) -> io::Result<Self> {
        let mut documents = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    if !NOT_OURS.contains(&entry.file_name().to_string_lossy().as_ref()) {
                        folders.push(path);
                    }
                } else if path.extension().is_some_and(|extension| extension == "md") {
                    let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
                    documents.insert(relative, Document::parse(&fs::read_to_string(path)?));
                }
            }
        }
        Ok(Self {
            root: root.to_owned(),
            documents,
        })
    }

    /// Links that lead nowhere, one line each.
    fn broken_links(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (path, document) in &self.documents {
            for link in &document.links {
                if let Some(reason) = self.what_is_wrong(path, document, link) {
                    broken.push(format!("{}: {link}: {reason}", path.display()));
                }
            }
        }
        broken
    }

    fn what_is_wrong(&self, from: &Path, document: &Document, link: &str) -> Option<&'static str> {
        if link.starts_with("https://") {
            return None;
        }
        if link
            .split('/')
            .next()
            .is_some_and(|first| first.contains(':'))
        {
            return Some("neither https nor a path of this repository");
        }
        let (path, anchor) = link
            .split_once('#')
            .map_or((link, None), |(path, anchor)| (path, Some(anchor)));
        if path.is_empty() {
            return (!document.anchors.contains(anchor?)).then_some("no such heading here");
        }
        let Some(target) = below(from.parent()?, path) else {
            return Some("leaves the repository");
        };
        if !self.root.join(&target).exists() {
            return Some("no such file");
        }
        let anchor = anchor?;
        let known = self
            .documents
            .get(&target)
            .is_some_and(|other| other.anchors.contains(anchor));
        (!known).then_some("no such heading there")
    }

    /// Code spans of the documents in the root and in `docs` that name a path which does not exist, one line each.
    fn missing_paths(&self) -> Vec<String> {
        let at_root = |path: &Path| path.components().count() == 1 || path.starts_with("docs");
        let documents = self.documents.iter().filter(|(path, _)| at_root(path));
        documents
            .flat_map(|(path, document)| document.code_spans.iter().map(move |span| (path, span)))
            .filter(|(_, span)| names_a_path(span) && !self.shows(span))
            .map(|(path, span)| format!("{}: `{span}` does not exist", path.display()))
            .collect()
    }

    /// Whether `path` or `path::test` exists: the file is there and, if a test is named, has a function of that name.
    fn shows(&self, span: &str) -> bool {
        let (path, test) = span
            .split_once("::")
            .map_or((span, None), |(path, test)| (path, Some(test)));
        let file = self.root.join(path);
        let Some(test) = test else {
            return file.exists();
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let name = test.rsplit("::").next().unwrap_or(test);
        [format!("fn {name}("), format!("function {name}(")]
            .iter()
            .any(|function| text.contains(function))
    }
}

/// `path` as seen from `folder`, both below the root; nothing if it leaves the root.
fn below(folder: &Path, path: &str) -> Option<PathBuf> {
    let mut parts: Vec<_> = folder.components().collect();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(_) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.into_iter().collect())
}

/// Whether a code span names a path from the root, rather than a command, a pattern or something else.
fn names_a_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':');
    let first = span.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| TOP_FOLDERS.contains(&first)) && span.chars().all(plain)
}

fn ids() -> BTreeSet<String> {
    let of =
        |(letter, count): (&'static str, usize)| (1..=count).map(move |n| format!("{letter}{n}"));
    REQUIREMENTS.into_iter().flat_map(of).collect()
}

/// What is wrong with the conformance table, one line each. `shown` says whether a code span names what exists.
fn conformance_faults(text: &str, shown: impl Fn(&str) -> bool) -> Vec<String> {
    let ids = ids();
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for line in text.lines() {
        let row = line.strip_prefix('|').and_then(|row| row.strip_suffix('|'));
        let cells: Vec<_> = row.unwrap_or_default().split('|').map(str::trim).collect();
        let [id, _, state, evidence] = cells.as_slice() else {
            continue;
        };
        if !ids.contains(*id) {
            continue;
        }
        if !seen.insert((*id).to_owned()) {
            faults.push(format!("{id}: more than one row"));
        }
        let named: Vec<_> = Document::parse(evidence).code_spans;
        let tests = named.iter().filter(|span| names_a_path(span));
        match *state {
            "works" | "part" if !tests.clone().any(|span| shown(span)) => {
                faults.push(format!(
                    "{id}: {state}, but no test or example that exists is named"
                ));
            }
            "works" | "part" | "not yet" => {}
            other => faults.push(format!("{id}: {other:?} is not works, part or not yet")),
        }
    }
    faults.extend(ids.difference(&seen).map(|id| format!("{id}: no row")));
    faults
}

fn library() -> io::Result<Library> {
    Library::read(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()?,
    )
}

#[test]
fn every_link_leads_somewhere() {
    let library = library().unwrap();
    assert!(library.documents.contains_key(Path::new("ARCHITECTURE.md")));
    assert_eq!(library.broken_links(), Vec::<String>::new());
}

#[test]
fn every_path_in_a_code_span_exists() {
    assert_eq!(library().unwrap().missing_paths(), Vec::<String>::new());
}

#[test]
fn every_requirement_has_a_row_and_every_claim_a_test() {
    let library = library().unwrap();
    let text = fs::read_to_string(library.root.join("docs/conformance.md")).unwrap();
    assert_eq!(
        conformance_faults(&text, |span| library.shows(span)),
        Vec::<String>::new()
    );
}

#[test]
fn broken_links_and_missing_paths_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir_all(folder.path().join("docs/node_modules")).unwrap();
    write("docs/node_modules/theirs.md", "[broken](nowhere.md)");
    write("docs/code.rs", "fn shown() {}");
    write(
        "docs/a.md",
        "# A `title`, twice!\n# A title, twice\n[up](../README.md) [out](../../x.md)\n",
    );
    write(
        "README.md",
        "[a](docs/a.md#a-title-twice) [b](docs/a.md#a-title-twice-1) [c](docs/a.md#a-title-twice-2)\n\
         [d](docs/none.md) [e](#here) [f](http://plain.example) [g](https://fine.example) [h][undefined]\n\
         `docs/none.md` `docs/a.md` `docs/code.rs::shown` `docs/code.rs::hidden` `docs/*.md` `make docs/x`\n",
    );
    let library = Library::read(folder.path()).unwrap();
    assert_eq!(
        library.broken_links(),
        [
            "README.md: docs/a.md#a-title-twice-2: no such heading there",
            "README.md: docs/none.md: no such file",
            "README.md: #here: no such heading here",
            "README.md: http://plain.example: neither https nor a path of this repository",
            "README.md: undefined-reference:undefined: neither https nor a path of this repository",
            "docs/a.md: ../../x.md: leaves the repository",
        ]
    );
    assert_eq!(
        library.missing_paths(),
        [
            "README.md: `docs/none.md` does not exist",
            "README.md: `docs/code.rs::hidden` does not exist"
        ]
    );
}

#[test]
fn claims_without_a_test_are_found() {
    let good: String = ids()
        .iter()
        .map(|id| format!("| {id} | words | not yet | |\n"))
        .collect();
    assert_eq!(conformance_faults(&good, |_| true), Vec::<String>::new());
    let cases = [
        (
            good.replace("| T2 | words | not yet | |\n", ""),
            "T2: no row",
        ),
        (
            format!("{good}| E11 | words | not yet | |"),
            "E11: more than one row",
        ),
        (
            good.replace("| K3 | words | not yet |", "| K3 | words | soon |"),
            "K3: \"soon\" is not",
        ),
        (
            good.replace("| C1 | words | not yet | |", "| C1 | words | works | |"),
            "C1: works, but no test",
        ),
        (
            good.replace(
                "| C1 | words | not yet | |",
                "| C1 | words | part | `docs/gone.rs` |",
            ),
            "C1: part, but no test",
        ),
    ];
    for (text, fault) in cases {
        let faults = conformance_faults(&text, |span| span != "docs/gone.rs");
        assert!(
            faults.len() == 1 && faults.concat().starts_with(fault),
            "{fault}: {faults:?}"
        );
    }
}
