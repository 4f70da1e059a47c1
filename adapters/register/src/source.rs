//! A cryptlet's source, packed: a gzip (RFC 1952) of a plain POSIX `ustar` archive.
//!
//! Packing is deterministic: files sorted by path, no times, no owners, one mode. What comes from strangers is read
//! whole and refused as a whole, before anything is written: only regular files and folders; relative paths of plain
//! UTF-8 names, at most [`MAX_DEPTH`] of them; nothing twice; no extension headers, so that every reader sees the same
//! paths; at most [`MAX_SOURCE_BYTES`] packed, [`MAX_UNPACKED_BYTES`] unpacked, [`MAX_ENTRIES`] files and folders, and no
//! more than [`MAX_RATIO`] times what was packed once it is over a mebibyte.

use crate::{RegisterError, Result, file::at};
use cryptlet_seal::package::MAX_SOURCE_BYTES;
use cryptlet_types::bounded::clip;
use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};
use tar::{Archive, Builder, EntryType, Header};

/// Largest archive when unpacked, in bytes, headers of entries included: 64 MiB.
pub const MAX_UNPACKED_BYTES: u64 = 64 << 20;
/// Most files and folders of an archive; folders that only paths name are made, too, and count.
pub const MAX_ENTRIES: usize = 10_000;
/// Most names in a path.
pub const MAX_DEPTH: usize = 32;
/// How many times larger than packed an archive may be, once it is over [`FREE_BYTES`].
pub const MAX_RATIO: u64 = 200;
/// Unpacked size up to which the ratio does not matter, in bytes: headers of small files compress very well.
const FREE_BYTES: u64 = 1 << 20;
/// Largest file that is packed, in bytes: 4 MiB. Source is what people read.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// Longest path, in bytes: what `ustar` holds.
const MAX_PATH_BYTES: usize = 255;
/// Folders that are not source: build output, version control, where connection files lie, which hold a token, and where keys of
/// secret code do.
const SKIPPED: [&str; 4] = ["target", ".git", ".cryptlet", "secret-code"];

/// A packed folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedSource {
    /// The archive.
    pub bytes: Vec<u8>,
    /// Paths that were left out: build output, version control, connections, keys of secret code, links, files over [`MAX_FILE_BYTES`].
    pub skipped: Vec<String>,
}

/// A file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path, relative, with `/`.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Packs the files of `folder`. The same files give the same bytes.
///
/// # Errors
/// [`RegisterError::Source`] for names that are not plain and for more than an archive may hold,
/// [`RegisterError::Io`].
pub fn pack(folder: &Path) -> Result<PackedSource> {
    let mut walk = Walk::default();
    walk.folder(folder, "")?;
    walk.files.sort();
    let gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    let mut archive = Builder::new(gzip);
    for path in &walk.files {
        append(&mut archive, &folder.join(path), path)?;
    }
    let packed = archive.into_inner().and_then(|gzip| gzip.finish());
    let bytes = packed.map_err(at(folder))?;
    inspect(&bytes)?;
    walk.skipped.sort();
    Ok(PackedSource {
        bytes,
        skipped: walk.skipped,
    })
}

#[derive(Default)]
struct Walk {
    files: Vec<String>,
    skipped: Vec<String>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(at(folder))? {
            let entry = entry.map_err(at(folder))?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| {
                let shown = format!("{prefix}{}", name.to_string_lossy());
                refused(&shown, "the name is not UTF-8")
            })?;
            let path = format!("{prefix}{name}");
            check_path(&path).map_err(|reason| refused(&path, reason))?;
            // Of the entry itself: links are not followed.
            let metadata = entry.metadata().map_err(at(&entry.path()))?;
            if metadata.is_dir() && !SKIPPED.contains(&name) {
                self.folder(&entry.path(), &format!("{path}/"))?;
            } else if metadata.is_file() && metadata.len() <= MAX_FILE_BYTES {
                self.files.push(path);
            } else {
                self.skipped.push(path);
            }
            if self.files.len() > MAX_ENTRIES {
                return Err(refused("", format!("more than {MAX_ENTRIES} files")));
            }
        }
        Ok(())
    }
}

fn append<W: Write>(archive: &mut Builder<W>, file: &Path, path: &str) -> Result<()> {
    let mut content = Vec::new();
    File::open(file)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut content))
        .map_err(at(file))?;
    let mut header = Header::new_ustar();
    header
        .set_path(path)
        .map_err(|error| refused(path, error.to_string()))?;
    header.set_size(content.len().try_into().unwrap_or(u64::MAX));
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    archive
        .append(&header, content.as_slice())
        .map_err(at(file))
}

/// Reads an archive and gives back its files, in its order; nothing is written.
///
/// # Errors
/// [`RegisterError::Source`] names the entry and what is wrong with it.
pub fn inspect(packed: &[u8]) -> Result<Vec<SourceFile>> {
    if packed.len() > MAX_SOURCE_BYTES {
        let reason = format!("at most {MAX_SOURCE_BYTES} bytes packed");
        return Err(refused("", reason));
    }
    let broken = |error: io::Error| refused("", error.to_string());
    let mut archive = Archive::new(Bounded::new(packed));
    let mut files = vec![];
    let mut names = Names::default();
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refuse = |reason: &str| refused(&path, reason);
        if entry.header().as_ustar().is_none() {
            return Err(refuse("not a POSIX ustar header"));
        }
        let folder = match entry.header().entry_type() {
            EntryType::Regular => false,
            EntryType::Directory => true,
            EntryType::Symlink | EntryType::Link => return Err(refuse("a link")),
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Err(refuse("a device")),
            _ => return Err(refuse("an extension header, neither file nor folder")),
        };
        if std::str::from_utf8(&entry.path_bytes()).is_err() {
            return Err(refuse("the name is not UTF-8"));
        }
        names.add(&path, folder).map_err(|reason| refuse(&reason))?;
        let mut content = vec![];
        entry
            .read_to_end(&mut content)
            .map_err(|error| refuse(&error.to_string()))?;
        if u64::try_from(content.len()).ok() != entry.header().entry_size().ok() {
            return Err(refuse("cut short"));
        }
        match folder {
            true if content.is_empty() => {}
            true => return Err(refuse("a folder with content")),
            false => files.push(SourceFile { path, content }),
        }
    }
    archive.into_inner().finish()?;
    Ok(files)
}

/// Unpacks an archive into `folder`, which is empty or not there yet. Nothing is written of an archive that is
/// refused.
///
/// # Errors
/// [`RegisterError::Source`] as [`inspect`], or if the folder is not empty; [`RegisterError::Io`].
pub fn unpack(packed: &[u8], folder: &Path) -> Result<Vec<SourceFile>> {
    let files = inspect(packed)?;
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut present = fs::read_dir(folder).map_err(at(folder))?;
    if present.next().is_some() {
        let reason = "is not empty: source is unpacked into an empty folder only";
        return Err(refused(&folder.to_string_lossy(), reason));
    }
    for file in &files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)
            .and_then(|mut written| written.write_all(&file.content))
            .map_err(at(&path))?;
    }
    Ok(files)
}

/// The paths seen so far.
#[derive(Default)]
struct Names {
    files: HashSet<String>,
    /// Folders, and whether they have an entry of their own: others are named by what lies in them.
    folders: HashMap<String, bool>,
}

impl Names {
    fn add(&mut self, path: &str, folder: bool) -> std::result::Result<(), String> {
        let path = match path.strip_suffix('/') {
            Some(path) if folder => path,
            _ => path,
        };
        check_path(path)?;
        for (end, _) in path.match_indices('/') {
            let above = path.get(..end).unwrap_or_default();
            if self.files.contains(above) {
                return Err(format!("lies below {above:?}, which is a file"));
            }
            if !self.folders.contains_key(above) {
                self.check_room()?;
                self.folders.insert(above.into(), false);
            }
        }
        match (folder, self.folders.get_mut(path)) {
            (true, Some(own)) if !*own => *own = true,
            (_, Some(_)) => return Err("is there twice".into()),
            (_, None) if self.files.contains(path) => return Err("is there twice".into()),
            (_, None) => {
                self.check_room()?;
                if folder {
                    self.folders.insert(path.into(), true);
                } else {
                    self.files.insert(path.into());
                }
            }
        }
        Ok(())
    }

    fn check_room(&self) -> std::result::Result<(), String> {
        if self.files.len() + self.folders.len() < MAX_ENTRIES {
            Ok(())
        } else {
            Err(format!("more than {MAX_ENTRIES} files and folders"))
        }
    }
}

/// Whether a path is relative and made of plain names.
fn check_path(path: &str) -> std::result::Result<(), String> {
    if path.is_empty() || path.len() > MAX_PATH_BYTES {
        return Err(format!("a path has 1 to {MAX_PATH_BYTES} bytes"));
    }
    if path.starts_with('/') {
        return Err("an absolute path".into());
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("a path with control characters or backslashes".into());
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if path.split('/').count() > MAX_DEPTH {
        return Err(format!("a path of more than {MAX_DEPTH} names"));
    }
    if !path.split('/').all(plain) {
        return Err("a path with an empty part, \".\" or \"..\"".into());
    }
    Ok(())
}

fn refused(entry: &str, reason: impl Into<String>) -> RegisterError {
    RegisterError::Source {
        entry: clip(entry),
        reason: clip(&reason.into()),
    }
}

/// Unpacks up to a limit that the packed size sets.
struct Bounded<'p> {
    inner: GzDecoder<&'p [u8]>,
    limit: u64,
    read: u64,
}

impl<'p> Bounded<'p> {
    fn new(packed: &'p [u8]) -> Self {
        let size = u64::try_from(packed.len()).unwrap_or(u64::MAX);
        Self {
            inner: GzDecoder::new(packed),
            limit: size
                .saturating_mul(MAX_RATIO)
                .clamp(FREE_BYTES, MAX_UNPACKED_BYTES),
            read: 0,
        }
    }

    /// After the archive only its padding may follow, and then nothing.
    fn finish(mut self) -> Result<()> {
        let mut rest = Vec::new();
        self.read_to_end(&mut rest)
            .map_err(|error| refused("", error.to_string()))?;
        if rest.iter().any(|byte| *byte != 0) || !self.inner.into_inner().is_empty() {
            return Err(refused("", "something follows the archive"));
        }
        Ok(())
    }
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += u64::try_from(count).unwrap_or(u64::MAX);
        if self.read > self.limit {
            let limit = self.limit;
            return Err(io::Error::other(format!(
                "unpacks to more than {limit} bytes"
            )));
        }
        Ok(count)
    }
}
