//! The process provider: regions are processes of the container's program.
//!
//! The container isolates itself (namespaces, landlock, seccomp; its evidence names what is in force). This side starts it
//! once, with an empty environment, no arguments, and a socket as its only open descriptor beside two that lead nowhere.
//! What is started is a sealed copy in memory of the bytes that were hashed: changing the file afterwards changes nothing.
//! From then on processes come about by division (`zygote`): one for each package and settings, which loads them, and from
//! that one a copy for each region.

use crate::{
    CallOutHandler, CodeAsked, IsolationError, IsolationProvider, Region, frames,
    region::{Conversation, Expected, Line, RegionProcess, other_answer},
    zygote::{Child, Requests, stream_of},
};
use alloy_primitives::{B256, keccak256};
use async_trait::async_trait;
use cryptlet_seal::{measure, package, sha256};
use cryptlet_types::{
    Measurement, Provider, Sha256Digest,
    region::{
        CallIn, CallInAnswer, CallOut, CallOutAnswer, Created, Package, RegionConfig, RegionFault,
        RegionSettings, ToHost, ToRegion,
    },
};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    process::Command,
    sync::Mutex as AsyncMutex,
    time::timeout,
};

/// Time to load a package: the largest component compiles in a fraction of it.
const LOAD_TIME: Duration = Duration::from_secs(60);
/// Most packages that are kept loaded for their next region; beyond that, the one that was asked for longest ago makes room.
const MAX_LOADED: usize = 128;

/// Starts containers.
#[derive(Debug)]
pub struct ProcessProvider {
    container: File,
    digest: Sha256Digest,
    provider: Provider,
    zygote: AsyncMutex<Option<Arc<Zygote>>>,
    places: Mutex<Places>,
}

/// The program that was started. Dropping it ends it and all that it became.
#[derive(Debug)]
struct Zygote {
    dividing: Arc<Dividing>,
    _program: tokio::process::Child,
}

/// A process that has loaded a package. Dropping it ends it and its regions, which therefore hold it.
#[derive(Debug)]
pub(crate) struct Loaded {
    dividing: Arc<Dividing>,
    _process: Child,
    _zygote: Arc<Zygote>,
}

/// A process that divides, and the socket for requests to it as long as that is of use.
#[derive(Debug)]
struct Dividing {
    process: u32,
    requests: AsyncMutex<Option<Requests>>,
}

impl Dividing {
    /// Of a process with this number; one that has ended has none, and does not divide.
    fn new(process: Option<u32>, requests: Requests) -> Arc<Self> {
        Arc::new(Self {
            process: process.unwrap_or_default(),
            requests: AsyncMutex::new(process.map(|_| requests)),
        })
    }

    /// A child that gets `descriptors`. Goes on to the end if it is dropped: others wait for the same process.
    async fn divide(self: &Arc<Self>, descriptors: Vec<OwnedFd>) -> Result<Child, IsolationError> {
        let dividing = self.clone();
        let divided = tokio::spawn(async move {
            let mut place = dividing.requests.lock().await;
            let mut requests = place.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let rights: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            let child = requests.divide(dividing.process, &rights).await?;
            *place = Some(requests);
            io::Result::Ok(child)
        });
        let divided = divided.await.map_err(io::Error::other);
        divided.flatten().map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => {
                IsolationError::Died("the container that was to become it has ended".into())
            }
            io::ErrorKind::InvalidData => IsolationError::Protocol(
                "the container that was to become it has answered with something else than its child".into(),
            ),
            _ => start("cannot be divided")(error),
        })
    }
}

/// Packages that are loaded, each with when it was last asked for.
#[derive(Debug, Default)]
struct Places {
    of: HashMap<Measurement, (Place, u64)>,
    asked: u64,
}

type Place = Arc<AsyncMutex<Option<Arc<Loaded>>>>;

impl Places {
    fn of(&mut self, measurement: Measurement) -> Place {
        self.asked = self.asked.saturating_add(1);
        if !self.of.contains_key(&measurement) && self.of.len() >= MAX_LOADED {
            let oldest = self.of.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(measurement, _)| *measurement) {
                self.of.remove(&oldest);
            }
        }
        let (place, last) = self.of.entry(measurement).or_default();
        *last = self.asked;
        place.clone()
    }
}

fn start(what: &'static str) -> impl Fn(io::Error) -> IsolationError {
    move |source| IsolationError::Start { what, source }
}

impl ProcessProvider {
    /// A provider of regions in which `container`, the program `cryptlet-container`, runs. The file is read
    /// once, here.
    ///
    /// # Errors
    /// [`IsolationError::Start`] if it cannot be read.
    pub fn new(container: &Path) -> Result<Self, IsolationError> {
        Self::of(container, Provider::Process)
    }

    /// A provider of regions whose evidence must name `provider`.
    pub(crate) fn of(container: &Path, provider: Provider) -> Result<Self, IsolationError> {
        let bytes = std::fs::read(container).map_err(start("cannot be read"))?;
        Ok(Self {
            digest: sha256(&bytes),
            provider,
            container: sealed_copy(&bytes).map_err(start("cannot be copied"))?,
            zygote: AsyncMutex::default(),
            places: Mutex::default(),
        })
    }

    /// The program, started if it is not there.
    async fn zygote(&self) -> Result<Arc<Zygote>, IsolationError> {
        let mut zygote = self.zygote.lock().await;
        if let Some(zygote) = zygote.as_ref() {
            return Ok(zygote.clone());
        }
        let started = self.start().map_err(start("cannot be started"))?;
        Ok(zygote.insert(Arc::new(started)).clone())
    }

    fn start(&self) -> io::Result<Zygote> {
        let (requests, theirs) = Requests::pair()?;
        let program = Command::new(format!("/proc/self/fd/{}", self.container.as_raw_fd()))
            .arg0("cryptlet-container")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Zygote {
            dividing: Dividing::new(program.id(), requests),
            _program: program,
        })
    }

    /// Forgets a program that does not divide any more.
    async fn forget(&self, zygote: &Arc<Zygote>) {
        let mut current = self.zygote.lock().await;
        current.take_if(|known| Arc::ptr_eq(known, zygote));
    }

    /// A process for a package, with what it gets: the stream and the requests' socket of this side. A program that was killed
    /// is started again.
    async fn begun(&self) -> Result<(Arc<Zygote>, Child, StdStream, Requests), IsolationError> {
        let mut again = true;
        loop {
            let zygote = self.zygote().await?;
            let (ours, stream) = StdStream::pair().map_err(start("cannot be reached"))?;
            let (requests, theirs) = Requests::pair().map_err(start("cannot be reached"))?;
            match zygote.dividing.divide(vec![stream.into(), theirs]).await {
                Ok(process) => return Ok((zygote, process, ours, requests)),
                Err(error) => {
                    self.forget(&zygote).await;
                    if !std::mem::take(&mut again) {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn load(
        &self,
        config: RegionConfig,
        secret: Option<Secret<'_>>,
    ) -> Result<Arc<Loaded>, IsolationError> {
        let (zygote, mut process, stream, requests) = self.begun().await?;
        let stream = stream_of(stream).map_err(start("cannot be reached"))?;
        match told_to_load(stream, config, secret).await {
            Ok(()) => Ok(Arc::new(Loaded {
                dividing: Dividing::new(process.number(), requests),
                _process: process,
                _zygote: zygote,
            })),
            Err(IsolationError::Died(_)) => Err(IsolationError::Died(process.ended().await)),
            Err(error) => Err(error),
        }
    }

    /// A process in which the package is loaded, and which is not `used_up`.
    async fn loaded(
        &self,
        wanted: &Wanted<'_>,
        used_up: Option<&Arc<Loaded>>,
    ) -> Result<Arc<Loaded>, IsolationError> {
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.of(wanted.expected.measurement)
        };
        let mut place = place.lock().await;
        let usable = place
            .as_ref()
            .filter(|known| used_up.is_none_or(|used_up| !Arc::ptr_eq(known, used_up)));
        if let Some(known) = usable {
            return Ok(known.clone());
        }
        // Only here: what is loaded already was checked when it was.
        let opened = package::open(&wanted.config.package)?;
        let mut config = wanted.config.clone();
        let secret = opened
            .manifest
            .config
            .secret_code
            .map(|_| wanted.secret(opened.digest));
        config.challenge = secret.as_ref().map(|secret| secret.expected.nonce);
        Ok(place.insert(self.load(config, secret).await?).clone())
    }

    /// A fresh region's process.
    async fn divided(&self, wanted: &Wanted<'_>) -> Result<Line, IsolationError> {
        let mut loaded = self.loaded(wanted, None).await?;
        let (ours, theirs) = StdStream::pair().map_err(start("cannot be reached"))?;
        let (divided, ours) = match loaded.dividing.divide(vec![theirs.into()]).await {
            Ok(child) => (child, ours),
            // Somebody killed it since: that is no reason to fail while another one can be loaded.
            Err(_) => {
                loaded = self.loaded(wanted, Some(&loaded)).await?;
                let (ours, theirs) = StdStream::pair().map_err(start("cannot be reached"))?;
                (loaded.dividing.divide(vec![theirs.into()]).await?, ours)
            }
        };
        let socket = ours.try_clone().map_err(start("cannot be reached"))?;
        let stream = stream_of(ours).map_err(start("cannot be reached"))?;
        Ok(Line {
            stream: Box::new(stream),
            process: Some(RegionProcess {
                child: divided,
                socket: socket.into(),
                _loaded: loaded,
            }),
        })
    }
}

/// A region to be, of a process that may have to be made first.
struct Wanted<'a> {
    config: RegionConfig,
    call_out: &'a dyn CallOutHandler,
    expected: Expected,
}

impl Wanted<'_> {
    /// What the process shows that loads the package, in which no region is yet.
    fn secret(&self, package: Sha256Digest) -> Secret<'_> {
        Secret {
            call_out: self.call_out,
            package,
            expected: Expected {
                nonce: challenge(self.expected.nonce),
                ..self.expected
            },
        }
    }
}

/// Who loads a package with secret code is asked to show this, and is then given the key that `call_out` has.
pub(crate) struct Secret<'a> {
    pub(crate) call_out: &'a dyn CallOutHandler,
    pub(crate) package: Sha256Digest,
    pub(crate) expected: Expected,
}

impl Secret<'_> {
    /// What is answered to who asks for the key.
    async fn answer(self, created: Created) -> Result<ToRegion, IsolationError> {
        self.expected.compare(&created)?;
        let asked = CodeAsked {
            package: self.package,
            created,
            nonce: self.expected.nonce,
        };
        let grant = self.call_out.code_key(asked).await;
        let answer = grant.map(|grant| CallOutAnswer::CodeKey(Box::new(grant)));
        Ok(ToRegion::Answer(answer))
    }
}

/// The challenge for who loads a package, beside that for the region that it will be: as fresh, and another.
pub(crate) fn challenge(region: B256) -> B256 {
    keccak256([&b"bletchley code challenge v1"[..], region.as_slice()].concat())
}

/// Has a container load a package, within [`LOAD_TIME`]. Whose code is `secret`, it asks for a key meanwhile, once.
pub(crate) async fn told_to_load(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    config: RegionConfig,
    secret: Option<Secret<'_>>,
) -> Result<(), IsolationError> {
    let loaded = timeout(LOAD_TIME, loading(stream, config, secret)).await;
    loaded.unwrap_or_else(|_| {
        let millis = LOAD_TIME.as_millis().try_into().unwrap_or(u64::MAX);
        Err(IsolationError::Timeout(millis))
    })
}

async fn loading(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    config: RegionConfig,
    mut secret: Option<Secret<'_>>,
) -> Result<(), IsolationError> {
    let call = ToRegion::Call(CallIn::Load(Box::new(config)));
    // A container that cannot be isolated says so without waiting for the call, which then finds nobody.
    let sent = frames::send(&mut stream, &call).await;
    loop {
        let said = frames::receive(&mut stream).await;
        return match (said, secret.take()) {
            (Ok(ToHost::Answer(Ok(CallInAnswer::Loaded(_)))), _) => Ok(()),
            (Ok(ToHost::Answer(Err(fault))), _) => Err(RegionFault::into(fault)),
            (Ok(ToHost::Call(CallOut::CodeKey(created))), Some(secret)) => {
                let answer = secret.answer(*created).await?;
                frames::send(&mut stream, &answer).await?;
                continue;
            }
            (Ok(_), _) => Err(other_answer()),
            (Err(error), _) => Err(sent.err().unwrap_or(error)),
        };
    }
}

/// How often, and after what pause, it is tried again to seal a file.
const SEAL_ATTEMPTS: u32 = 50;
const SEAL_PAUSE: Duration = Duration::from_millis(20);

/// An anonymous file with these bytes, which nobody can change any more; not inherited by programs.
fn sealed_copy(bytes: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag and let such files be executed anyway.
    let descriptor = memfd_create("cryptlet-container", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("cryptlet-container", flags))?;
    let mut file = File::from(descriptor);
    file.write_all(bytes)?;
    seal(&file)?;
    // Opened again for reading: a file that is open for writing cannot be executed.
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The kernel refuses to seal (`EBUSY`) while it holds pages of the file for reasons of its own, which passes.
fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    for _ in 0..SEAL_ATTEMPTS {
        match fcntl_add_seals(file, seals) {
            Err(Errno::BUSY) => thread::sleep(SEAL_PAUSE),
            sealed => return Ok(sealed?),
        }
    }
    Ok(fcntl_add_seals(file, seals)?)
}

#[async_trait]
impl IsolationProvider for ProcessProvider {
    fn provider(&self) -> Provider {
        self.provider
    }

    fn measurement(
        &self,
        package: &Package,
        settings: &RegionSettings,
    ) -> Result<Measurement, IsolationError> {
        let opened = package::open(package)?;
        Ok(measure(self.digest, settings, opened.digest)?)
    }

    async fn create(
        &self,
        package: Package,
        settings: RegionSettings,
        nonce: B256,
        call_out: Arc<dyn CallOutHandler>,
    ) -> Result<Box<dyn Region>, IsolationError> {
        let measurement = measure(self.digest, &settings, sha256(&package.index))?;
        let (session, wall) = (call_out.open(&settings), settings.limits.wall_millis);
        let wanted = Wanted {
            config: RegionConfig {
                package,
                settings,
                challenge: None,
            },
            call_out: &*call_out,
            expected: Expected {
                provider: self.provider,
                measurement,
                nonce,
                region_key: None,
            },
        };
        let line = self.divided(&wanted).await?;
        let conversation = Conversation::new(line, session);
        let wall = Duration::from_millis(wall);
        let created = conversation.create(nonce, wanted.expected, wall).await?;
        Ok(Box::new(created))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};

    /// Whoever runs as the same user finds it by the host's descriptors.
    #[test]
    fn what_was_hashed_is_changed_by_nobody() {
        let copy = sealed_copy(b"a program").unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let open = || OpenOptions::new().write(true).open(&path);
        let changes: [fn(File) -> io::Result<()>; 3] = [
            |mut file| file.write_all(b"another"),
            |file| file.set_len(2),
            |file| file.set_len(20),
        ];
        for change in changes {
            assert!(open().and_then(change).is_err());
        }
        assert_eq!(fs::read(&path).unwrap(), b"a program");
    }
}
