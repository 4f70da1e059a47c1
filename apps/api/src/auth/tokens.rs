//! Bearer tokens: 32 random bytes in base64url, of which only the SHA-256 is kept.
//!
//! The file is read again whenever it was replaced, so that a token revoked by another process counts no more at the
//! next request. A file that is missing, broken or readable by others lets nobody in.

use crate::{
    clock::Clock,
    files::{self, FileError, Mark},
    types::{CreatedToken, Hex, NewToken, Page, PageQuery, TokenId, TokenInfo},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRngCore, rngs::OsRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

/// Largest file of tokens: 1 MiB.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most tokens. Expired ones make room.
const MAX_TOKENS: usize = 1_024;
const SECRET_BYTES: usize = 32;

/// Why tokens could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not one of tokens, or of a later version.
    #[error("{path} holds no tokens that this program can read: {reason}")]
    NotTokens {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is a file already.
    #[error("{0} exists already and is not overwritten")]
    Exists(PathBuf),
    /// There are as many tokens as there may be.
    #[error("there are {MAX_TOKENS} tokens, no more fit; revoke some")]
    Full,
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

impl TokenError {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::File(error) => error.is_retryable(),
            Self::NoRandomness => true,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Contents {
    version: u32,
    tokens: Vec<Record>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    info: TokenInfo,
    /// SHA-256 of the 32 bytes.
    digest: Hex<32>,
}

type Cached = Option<(Mark, Arc<Contents>)>;

/// The tokens of one host, in a file that only its owner may read.
pub struct TokenStore {
    path: PathBuf,
    clock: Clock,
    cached: Mutex<Cached>,
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl TokenStore {
    /// The tokens at `path`. The file is looked at when a token is: one that is missing lets nobody in.
    #[must_use]
    pub fn open(path: &Path, clock: Clock) -> Self {
        Self {
            path: path.to_owned(),
            clock,
            cached: Mutex::new(None),
        }
    }

    /// Makes a file without tokens.
    ///
    /// # Errors
    /// [`TokenError::Exists`], or [`TokenError::File`].
    pub fn create(path: &Path, clock: Clock) -> Result<Self, TokenError> {
        let store = Self::open(path, clock);
        let _lock = files::lock(path)?;
        if path.try_exists().map_err(files::at(path))? {
            return Err(TokenError::Exists(path.to_owned()));
        }
        store.write(&Contents {
            version: 1,
            tokens: Vec::new(),
        })?;
        Ok(store)
    }

    /// Makes a token. Its secret is in the answer and nowhere else. Blocks for as long as a file takes to be synced.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn add(&self, token: &NewToken) -> Result<CreatedToken, TokenError> {
        let now = (self.clock)();
        let mut secret = Zeroizing::new([0_u8; SECRET_BYTES]);
        fill(secret.as_mut())?;
        let info = TokenInfo {
            id: new_id()?,
            role: token.role,
            label: token.label.clone(),
            created: now,
            expires: now.saturating_add(token.lifetime_seconds.get()),
        };
        let record = Record {
            info: info.clone(),
            digest: digest(secret.as_ref()),
        };
        let token = URL_SAFE_NO_PAD.encode(secret.as_ref());
        self.change(|tokens| {
            tokens.retain(|each| now < each.info.expires);
            if tokens.len() >= MAX_TOKENS {
                return Err(TokenError::Full);
            }
            tokens.push(record);
            Ok(())
        })?;
        Ok(CreatedToken { token, info })
    }

    /// Tokens that have not expired, by id.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn list(&self, page: &PageQuery) -> Result<Page<TokenInfo>, TokenError> {
        let now = (self.clock)();
        let mut infos: Vec<_> = self
            .read()?
            .tokens
            .iter()
            .map(|record| record.info.clone())
            .filter(|info| now < info.expires)
            .collect();
        infos.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(page.cut(infos, |info| info.id.to_string()))
    }

    /// Revokes a token; it counts no more at the next request. Says whether there was one. Blocks for as long as a
    /// file takes to be synced.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn revoke(&self, id: &TokenId) -> Result<bool, TokenError> {
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|record| record.info.id != *id);
            Ok(tokens.len() < before)
        })
    }

    /// Until which second since 1970 a token counts; none if it is none of these, or has expired.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn expiry(&self, token: &str) -> Result<Option<u64>, TokenError> {
        Ok(self.find(token)?.map(|info| info.expires))
    }

    /// Whose token it is, if it is one and has not expired. Takes as long for a wrong one as for a right one.
    pub(crate) fn find(&self, token: &str) -> Result<Option<TokenInfo>, TokenError> {
        let contents = self.read()?;
        let mut secret = Zeroizing::new([0_u8; SECRET_BYTES]);
        let decoded = URL_SAFE_NO_PAD.decode_slice(token, secret.as_mut());
        let wanted = digest(secret.as_ref());
        let (mut found, mut position, mut at) = (Choice::from(0), 0_u32, 0_u32);
        for record in &contents.tokens {
            let equal = record.digest.0.ct_eq(wanted.0.as_slice());
            at.conditional_assign(&position, equal);
            found |= equal;
            position = position.saturating_add(1);
        }
        if decoded != Ok(SECRET_BYTES) || !bool::from(found) {
            return Ok(None);
        }
        let record = usize::try_from(at)
            .ok()
            .and_then(|at| contents.tokens.get(at));
        let now = (self.clock)();
        Ok(record
            .map(|record| record.info.clone())
            .filter(|info| now < info.expires))
    }

    fn read(&self) -> Result<Arc<Contents>, TokenError> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever goes wrong, what was known before counts no more.
        let known = cached.take();
        let mark = files::mark(&self.path)?;
        if let Some((of, contents)) = known
            && of == mark
        {
            *cached = Some((of, contents.clone()));
            return Ok(contents);
        }
        let (mark, contents) = self.load()?;
        *cached = Some((mark, contents.clone()));
        Ok(contents)
    }

    fn load(&self) -> Result<(Mark, Arc<Contents>), TokenError> {
        let wrong = |reason: String| TokenError::NotTokens {
            path: self.path.clone(),
            reason,
        };
        let (mark, bytes) = files::read_private(&self.path, MAX_FILE_BYTES)?;
        let contents: Contents =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if contents.version != 1 {
            return Err(wrong(format!("version {}, not 1", contents.version)));
        }
        let mut ids = HashSet::new();
        if !contents.tokens.iter().all(|each| ids.insert(&each.info.id)) {
            return Err(wrong("an id stands twice".to_owned()));
        }
        Ok((mark, Arc::new(contents)))
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Record>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let _lock = files::lock(&self.path)?;
        let (_, contents) = self.load()?;
        let mut contents = Arc::unwrap_or_clone(contents);
        let result = change(&mut contents.tokens)?;
        self.write(&contents)?;
        Ok(result)
    }

    fn write(&self, contents: &Contents) -> Result<(), TokenError> {
        let json = serde_json::to_vec_pretty(contents).map_err(|error| TokenError::NotTokens {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok(files::replace_private(&self.path, &json)?)
    }
}

fn digest(secret: &[u8]) -> Hex<32> {
    let digest: [u8; 32] = Sha256::digest(secret).into();
    Hex(digest.into())
}

fn fill(bytes: &mut [u8]) -> Result<(), TokenError> {
    OsRng
        .try_fill_bytes(bytes)
        .map_err(|_| TokenError::NoRandomness)
}

fn new_id() -> Result<TokenId, TokenError> {
    let mut bytes = [0_u8; 8];
    fill(&mut bytes)?;
    let id = format!("{:016x}", u64::from_be_bytes(bytes));
    id.parse().map_err(|_| TokenError::NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Role;
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        sync::atomic::{AtomicU64, Ordering},
    };

    struct Fixture {
        folder: tempfile::TempDir,
        now: Arc<AtomicU64>,
    }

    impl Fixture {
        fn new() -> (Self, TokenStore) {
            let fixture = Self {
                folder: tempfile::tempdir().unwrap(),
                now: Arc::new(AtomicU64::new(1_000)),
            };
            let store = TokenStore::create(&fixture.path(), fixture.clock()).unwrap();
            (fixture, store)
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("tokens.json")
        }

        fn clock(&self) -> Clock {
            let now = self.now.clone();
            Arc::new(move || now.load(Ordering::Relaxed))
        }
    }

    fn new_token(role: Role) -> NewToken {
        NewToken {
            role,
            label: "test".parse().unwrap(),
            lifetime_seconds: "60".parse().unwrap(),
        }
    }

    #[test]
    fn a_token_counts_until_it_expires() {
        let (fixture, store) = Fixture::new();
        let created = store.add(&new_token(Role::Publisher)).unwrap();
        assert_eq!(created.token.len(), 43);
        assert_eq!(
            store.find(&created.token).unwrap(),
            Some(created.info.clone())
        );
        fixture.now.store(1_059, Ordering::Relaxed);
        assert!(store.find(&created.token).unwrap().is_some());
        assert_eq!(store.expiry(&created.token).unwrap(), Some(1_060));
        fixture.now.store(1_060, Ordering::Relaxed);
        assert_eq!(store.find(&created.token).unwrap(), None);
        assert_eq!(store.expiry(&created.token).unwrap(), None);
        assert!(store.list(&PageQuery::default()).unwrap().items.is_empty());
    }

    #[test]
    fn wrong_tokens_find_nobody() {
        let (_fixture, store) = Fixture::new();
        let zero = URL_SAFE_NO_PAD.encode([0; SECRET_BYTES]);
        assert_eq!(store.find(&zero).unwrap(), None);
        let right = store.add(&new_token(Role::Reader)).unwrap();
        let rest = right.token.get(1..).unwrap();
        let first = if right.token.starts_with('A') {
            "B"
        } else {
            "A"
        };
        for wrong in [
            "",
            "A",
            &zero,
            rest,
            &format!("{}A", right.token),
            &format!("{}=", right.token),
            &format!("{first}{rest}"),
            &right.info.id.to_string(),
        ] {
            assert_eq!(store.find(wrong).unwrap(), None, "{wrong}");
        }
    }

    #[test]
    fn another_process_revokes_it_at_once() {
        let (fixture, store) = Fixture::new();
        let one = store.add(&new_token(Role::Reader)).unwrap();
        let two = store.add(&new_token(Role::Operator)).unwrap();
        assert!(store.find(&one.token).unwrap().is_some());
        let other = TokenStore::open(&fixture.path(), fixture.clock());
        assert!(other.revoke(&one.info.id).unwrap());
        assert!(!other.revoke(&one.info.id).unwrap());
        assert_eq!(store.find(&one.token).unwrap(), None);
        assert_eq!(store.find(&two.token).unwrap(), Some(two.info.clone()));
    }

    #[test]
    fn secrets_are_neither_in_the_file_nor_in_debug() {
        let (fixture, store) = Fixture::new();
        let created = store.add(&new_token(Role::Reader)).unwrap();
        let file = fs::read_to_string(fixture.path()).unwrap();
        assert!(!file.contains(&created.token));
        assert!(!format!("{created:?} {store:?}").contains(&created.token));
    }

    #[test]
    fn a_file_that_cannot_be_relied_on_lets_nobody_in() {
        let (fixture, store) = Fixture::new();
        let created = store.add(&new_token(Role::Operator)).unwrap();
        let good = fs::read(fixture.path()).unwrap();
        assert!(store.find(&created.token).unwrap().is_some());

        fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            store.find(&created.token),
            Err(TokenError::File(FileError::Exposed { .. }))
        ));

        let text = String::from_utf8(good.clone()).unwrap();
        let newer = text.replacen("\"version\": 1", "\"version\": 2", 1);
        let stranger = text.replacen("\"version\": 1", "\"version\": 1, \"all\": true", 1);
        for broken in [
            &b""[..],
            &good[..good.len() / 2],
            newer.as_bytes(),
            stranger.as_bytes(),
        ] {
            files::replace_private(&fixture.path(), broken).unwrap();
            assert!(matches!(
                store.find(&created.token),
                Err(TokenError::NotTokens { .. })
            ));
        }

        fs::remove_file(fixture.path()).unwrap();
        assert!(matches!(
            store.find(&created.token),
            Err(TokenError::File(FileError::Io { .. }))
        ));
        assert!(store.add(&new_token(Role::Reader)).is_err());

        files::replace_private(&fixture.path(), &good).unwrap();
        assert!(store.find(&created.token).unwrap().is_some());
        assert!(matches!(
            TokenStore::create(&fixture.path(), fixture.clock()),
            Err(TokenError::Exists(_))
        ));
    }

    #[test]
    fn tokens_made_at_once_by_many_are_all_there() {
        let (fixture, store) = Fixture::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let own = TokenStore::open(&fixture.path(), fixture.clock());
                    own.add(&new_token(Role::Reader)).unwrap();
                });
            }
        });
        assert_eq!(store.list(&PageQuery::default()).unwrap().items.len(), 8);
    }
}
