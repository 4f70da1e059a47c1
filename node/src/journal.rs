//! The state file: every change of the chain, one JSON object a line, appended before the change
//! is acknowledged.
//!
//! The first line names the format version and the genesis block. At start the lines are applied
//! in order and each block is executed again: its hash has to come out as recorded, so a file that
//! was altered or belongs to other rules is refused. A line reaches the operating system before
//! the caller gets its answer, so a killed process loses nothing that it acknowledged; the disk is
//! flushed at shutdown, so a power failure can lose what the system had not written yet. A last
//! line without its line break was never acknowledged and is dropped.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

/// Format version of the state file.
pub(crate) const VERSION: u32 = 1;

/// Longest line, in bytes. The largest block at the largest gas limit that a node takes fits.
const MAX_LINE_BYTES: u64 = 1 << 30;

/// Why a state file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file could not be read or written.
    #[error("state file {}: {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another node has the file open.
    #[error("state file {} is in use by another node", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line is not what the format allows, or contradicts the lines before it.
    #[error("state file {}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

impl JournalError {
    /// Whether the same call can succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Io { .. })
    }
}

/// One change of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(crate) enum Record {
    /// The first line.
    Genesis {
        version: u32,
        chain_id: u64,
        gas_limit: u64,
        timestamp: u64,
        hash: B256,
    },
    /// A mined block: its header as RLP, and the chain's clock after it.
    Block {
        header: Bytes,
        transactions: Vec<RecordedTransaction>,
        clock_offset: i64,
    },
    /// A transaction that was accepted and waits for a block.
    Transaction(RecordedTransaction),
    /// A waiting transaction was dropped because it can never be executed.
    Dropped { transaction: B256 },
    /// The clock was moved.
    Clock { offset: i64, next: Option<u64> },
    /// A development method changed an account.
    Account {
        address: Address,
        change: AccountChange,
    },
}

/// A transaction as it was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RecordedTransaction {
    /// EIP-2718 encoding.
    pub(crate) raw: Bytes,
    /// The sender, if it was impersonated and did not sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) impersonated: Option<Address>,
}

/// What a development method sets on an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(crate) enum AccountChange {
    Balance(U256),
    Nonce(u64),
    Code(Bytes),
    Storage { slot: U256, value: U256 },
}

/// An open state file, locked against other processes.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Drop for Journal {
    /// Closing alone would leave the lock to a child that was forked and has not yet become another program.
    fn drop(&mut self) {
        let _closed_next = self.file.unlock();
    }
}

impl Journal {
    /// Opens the file, or creates it with `genesis` as its first line, and hands every record to
    /// `apply`. `apply` returns what is wrong with a record.
    pub(crate) fn open(
        path: &Path,
        genesis: &Record,
        mut apply: impl FnMut(Record) -> Result<(), String>,
    ) -> Result<Self, JournalError> {
        if !path.exists() {
            create(path, genesis)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(path)
            .map_err(|source| io_error(path, "open", source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(path, "lock", source)),
        }
        let mut journal = Self {
            path: path.to_owned(),
            file,
            length: 0,
        };
        journal.length = journal.read(&mut apply)?;
        journal.truncate(journal.length)?;
        Ok(journal)
    }

    /// Applies all complete lines; returns their length in bytes.
    fn read(
        &self,
        apply: &mut impl FnMut(Record) -> Result<(), String>,
    ) -> Result<u64, JournalError> {
        let mut reader = BufReader::new(&self.file);
        let (mut length, mut number) = (0u64, 0u64);
        let mut line = Vec::new();
        loop {
            line.clear();
            number = number.saturating_add(1);
            let read = reader
                .by_ref()
                .take(MAX_LINE_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(|source| io_error(&self.path, "read", source))?;
            let refused = |reason: String| JournalError::Line {
                path: self.path.clone(),
                line: number,
                reason,
            };
            let read = u64::try_from(read).map_err(|error| refused(error.to_string()))?;
            if line.last() != Some(&b'\n') {
                if read == MAX_LINE_BYTES {
                    return Err(refused(format!("longer than {MAX_LINE_BYTES} bytes")));
                }
                if number == 1 {
                    return Err(refused("the first line is missing or incomplete".into()));
                }
                if read > 0 {
                    tracing::warn!(
                        line = number,
                        "dropping the incomplete end of the state file"
                    );
                }
                return Ok(length);
            }
            let record: Record =
                serde_json::from_slice(&line).map_err(|error| refused(error.to_string()))?;
            if matches!(record, Record::Genesis { .. }) != (number == 1) {
                return Err(refused(
                    "the genesis record must be the first line, and only that".into(),
                ));
            }
            apply(record).map_err(refused)?;
            length = length.saturating_add(read);
        }
    }

    /// Adds a record. If that fails the file is as it was before.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let line = encode(&self.path, record)?;
        if let Err(source) = self.file.write_all(&line) {
            // A part of the line may be there; the next record must not follow it.
            self.truncate(self.length)?;
            return Err(io_error(&self.path, "append", source));
        }
        self.length = self
            .length
            .saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Length of the file in bytes: the place to return to with [`Journal::truncate`].
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Forgets every record after the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: u64) -> Result<(), JournalError> {
        self.file
            .set_len(length)
            .map_err(|source| io_error(&self.path, "truncate", source))?;
        self.length = length;
        Ok(())
    }

    /// Flushes the file to the disk.
    pub(crate) fn sync(&self) -> Result<(), JournalError> {
        self.file
            .sync_all()
            .map_err(|source| io_error(&self.path, "flush", source))
    }
}

/// Creates the file with its first line, whole or not at all.
fn create(path: &Path, genesis: &Record) -> Result<(), JournalError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let line = encode(path, genesis)?;
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&line)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| io_error(path, "create", source))
}

fn encode(path: &Path, record: &Record) -> Result<Vec<u8>, JournalError> {
    let mut line = serde_json::to_vec(record)
        .map_err(|error| io_error(path, "encode a record for", error.into()))?;
    line.push(b'\n');
    Ok(line)
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> JournalError {
    JournalError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis() -> Record {
        Record::Genesis {
            version: VERSION,
            chain_id: 1,
            gas_limit: 2,
            timestamp: 3,
            hash: B256::ZERO,
        }
    }

    fn clock(offset: i64) -> Record {
        Record::Clock { offset, next: None }
    }

    fn read(path: &Path) -> Result<Vec<Record>, JournalError> {
        let mut records = Vec::new();
        Journal::open(path, &genesis(), |record| {
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }

    #[test]
    fn records_come_back_and_an_incomplete_end_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut journal = Journal::open(&path, &genesis(), |_| Ok(())).unwrap();
        journal.append(&clock(1)).unwrap();
        let mark = journal.length();
        journal.append(&clock(2)).unwrap();
        journal.truncate(mark).unwrap();
        journal.append(&clock(3)).unwrap();
        drop(journal);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"clock\":{\"off").unwrap();
        assert_eq!(read(&path).unwrap(), [genesis(), clock(1), clock(3)]);
        assert_eq!(read(&path).unwrap(), [genesis(), clock(1), clock(3)]);
    }

    #[test]
    fn a_second_node_is_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let _held = Journal::open(&path, &genesis(), |_| Ok(())).unwrap();
        assert!(matches!(read(&path), Err(JournalError::InUse { .. })));
    }

    #[test]
    fn a_copy_of_the_file_in_a_forked_child_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let journal = Journal::open(&path, &genesis(), |_| Ok(())).unwrap();
        let _as_a_fork_has = journal.file.try_clone().unwrap();
        drop(journal);
        read(&path).unwrap();
    }

    #[test]
    fn anything_that_the_format_does_not_know_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = String::from_utf8(encode(&path, &genesis()).unwrap()).unwrap();
        for bad in [
            "{\"clock\":{\"offset\":1,\"next\":null,\"more\":1}}\n",
            "{\"other\":{}}\n",
            "garbage\n",
            "\n",
            first.as_str(),
        ] {
            std::fs::write(&path, format!("{first}{bad}")).unwrap();
            assert!(
                matches!(read(&path), Err(JournalError::Line { line: 2, .. })),
                "accepted {bad:?}"
            );
        }
        std::fs::write(&path, "").unwrap();
        assert!(matches!(
            read(&path),
            Err(JournalError::Line { line: 1, .. })
        ));
    }
}
