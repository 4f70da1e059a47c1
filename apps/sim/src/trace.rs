//! What happened, line by line: the last lines are kept, all are hashed.

use crate::dice::{hash, hash_on};
use std::collections::VecDeque;

/// Lines that are kept.
const KEPT: usize = 400;

/// What happened.
#[derive(Debug)]
pub struct Trace {
    last: VecDeque<String>,
    lines: u64,
    hash: u64,
    all: Option<Vec<String>>,
}

impl Trace {
    /// Nothing yet. With `all`, every line is kept.
    #[must_use]
    pub fn new(all: bool) -> Self {
        Self {
            last: VecDeque::new(),
            lines: 0,
            hash: hash(b"trace"),
            all: all.then(Vec::new),
        }
    }

    /// Adds a line about the moment `millis`.
    pub fn add(&mut self, millis: u64, said: &str) {
        let line = format!("{:>9}.{:03} {said}", millis / 1000, millis % 1000);
        self.hash = hash_on(self.hash, line.as_bytes());
        self.lines += 1;
        if let Some(all) = &mut self.all {
            all.push(line);
            return;
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// How many lines there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lines
    }

    /// One number for all lines.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines that were kept, oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        match &self.all {
            Some(all) => all.clone(),
            None => self.last.iter().cloned().collect(),
        }
    }
}
