//! The remote provider: regions on another machine, by attested TLS.
//!
//! There, `cryptlet-container --listen` runs, as a program or as a machine's `/init`. One connection is one region: whoever closes it ends it. Who is there is proven in
//! the handshake, by evidence that is bound to the connection's key; what the region is, by its own statement, whose nonce answers
//! this host's challenge on this connection and no other, and whose key is that of the handshake.

use crate::{
    CallOutHandler, IsolationError, IsolationProvider, Region,
    dial::Address as At,
    process::{Secret, challenge, told_to_load},
    region::{ByteStream, Conversation, Expected, Line},
};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_channel::{Channel, ChannelError, InForce, Peer, Wanted, connect};
use cryptlet_seal::{
    certificate::{Draft, Identity},
    measure, measure_container, package,
};
use cryptlet_types::{
    EvidenceStatement, Measurement, Provider, Sha256Digest,
    channel::{Party, session_nonce},
    region::{Package, RegionConfig, RegionSettings},
    report::CompactSignature,
};
use std::{io, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Time to connect to a container.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Seconds for which a host's certificate can be shown: it is shown once, at once.
const CERTIFICATE_SECONDS: u64 = 600;

/// The host's key, wherever it lies.
#[async_trait]
pub trait HostKey: Send + Sync {
    /// Its address, as the register knows it.
    fn address(&self) -> Address;

    /// Signs 32 bytes.
    ///
    /// # Errors
    /// Why not, for people.
    async fn sign(&self, digest: B256) -> Result<CompactSignature, String>;
}

/// Has regions created by a container on another machine.
pub struct RemoteProvider {
    address: At,
    container: Sha256Digest,
    provider: Provider,
    in_force: Arc<dyn InForce>,
    key: Arc<dyn HostKey>,
}

impl RemoteProvider {
    /// A provider of regions of the container with the digest `container`, the program's SHA-256, which listens at `address`
    /// (`host:port`, or `vsock:CID:PORT` for a virtual machine of this one) on a machine of the kind `provider`. What is `in_force`
    /// is asked for each region.
    ///
    /// # Errors
    /// [`IsolationError::Mismatch`] for a provider whose regions nothing attests, and an address of another form.
    pub fn new(
        address: &str,
        container: Sha256Digest,
        provider: Provider,
        in_force: Arc<dyn InForce>,
        key: Arc<dyn HostKey>,
    ) -> Result<Self, IsolationError> {
        if !provider.attests() {
            return Err(IsolationError::Mismatch {
                what: "provider",
                expected: "one that attests".into(),
                found: provider.as_str().into(),
            });
        }
        Ok(Self {
            address: At::read(address)?,
            container,
            provider,
            in_force,
            key,
        })
    }

    /// A connection to a container that is believed, and what it said of itself in the handshake.
    async fn dial(
        &self,
    ) -> Result<(Channel<Box<dyn ByteStream>>, EvidenceStatement), IsolationError> {
        let own = self.identity().await?;
        let broken = |error: io::Error| ChannelError::Broken(error.kind());
        let connected = timeout(CONNECT_TIME, self.address.dial()).await;
        let late = |_| ChannelError::Timeout(CONNECT_TIME.as_secs());
        let stream = connected.map_err(late)?.map_err(broken)?;
        let wanted = Wanted::Region(vec![measure_container(self.container)]);
        let channel = connect(stream, &own, self.in_force.clone(), wanted).await?;
        match &channel.peer {
            Peer::Region(said) => {
                let said = said.as_ref().clone();
                Ok((channel, said))
            }
            Peer::Host(_) => Err(IsolationError::Protocol("a host answered".into())),
        }
    }

    /// A fresh certificate, for one connection.
    async fn identity(&self) -> Result<Identity, ChannelError> {
        let draft = Draft::new(self.in_force.now(), CERTIFICATE_SECONDS)?;
        let signed = self.key.sign(draft.digest(Party::Host)).await;
        let signature = signed.map_err(ChannelError::Own)?;
        Ok(draft.of_host(self.key.address(), signature)?)
    }
}

#[async_trait]
impl IsolationProvider for RemoteProvider {
    fn provider(&self) -> Provider {
        self.provider
    }

    fn measurement(
        &self,
        package: &Package,
        settings: &RegionSettings,
    ) -> Result<Measurement, IsolationError> {
        let opened = package::open(package)?;
        Ok(measure(self.container, settings, opened.digest)?)
    }

    async fn create(
        &self,
        package: Package,
        settings: RegionSettings,
        nonce: B256,
        call_out: Arc<dyn CallOutHandler>,
    ) -> Result<Box<dyn Region>, IsolationError> {
        let opened = package::open(&package)?;
        let measurement = measure(self.container, &settings, opened.digest)?;
        let session = call_out.open(&settings);
        let wall = Duration::from_millis(settings.limits.wall_millis);
        let (mut channel, said) = self.dial().await?;
        let exporter = channel.exporter;
        let expected = |nonce| Expected {
            provider: self.provider,
            measurement,
            nonce: session_nonce(nonce, exporter),
            region_key: Some(said.region_key),
        };
        let secret = opened.manifest.config.secret_code;
        let asked_for = secret.map(|_| challenge(nonce));
        let secret = asked_for.map(|nonce| Secret {
            call_out: &*call_out,
            package: opened.digest,
            expected: expected(nonce),
        });
        let config = RegionConfig {
            package,
            settings,
            challenge: asked_for,
        };
        told_to_load(&mut channel.stream, config, secret).await?;
        let expected = expected(nonce);
        let line = Line {
            stream: Box::new(channel.stream),
            process: None,
        };
        let conversation = Conversation::new(line, session);
        Ok(Box::new(conversation.create(nonce, expected, wall).await?))
    }
}
