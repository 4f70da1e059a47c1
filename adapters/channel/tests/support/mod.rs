//! Both ends of a channel over TCP, and ends that do not keep to it.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support, shared by several test programs"
)]

pub mod raw;

use alloy_primitives::{Address, B256};
use cryptlet_channel::{Channel, ChannelError, InForce, Wanted, accept, connect};
use cryptlet_seal::{
    SigningKey,
    certificate::{Draft, Identity},
};
use cryptlet_types::{
    Attestation, EvidenceStatement, Measurement, Policy, Provider, Sha256Digest, UnixSeconds,
    channel::Party, policy::PolicyInForce,
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::net::{TcpListener, TcpStream};

pub const NOW: UnixSeconds = 1_792_159_200;
pub const CONTAINER: Measurement = Measurement(B256::repeat_byte(0xc0));

/// What is in force at one end; tests change it between connections.
pub struct Stand {
    pub now: Mutex<UnixSeconds>,
    pub policy: Mutex<Arc<PolicyInForce>>,
    pub hosts: Mutex<Vec<Address>>,
    /// How often the policy was asked for.
    pub asked: AtomicUsize,
}

impl InForce for Stand {
    fn now(&self) -> UnixSeconds {
        *self.now.lock().unwrap()
    }
    fn policy(&self) -> Arc<PolicyInForce> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.policy.lock().unwrap().clone()
    }
    fn is_host(&self, host: Address) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.hosts.lock().unwrap().contains(&host)
    }
}

impl Stand {
    pub fn change(&self, change: impl FnOnce(&mut Policy)) {
        let mut policy = self.policy.lock().unwrap();
        let mut changed = policy.as_ref().clone();
        change(&mut changed.policy);
        *policy = Arc::new(changed);
    }
}

/// A host, a machine with a simulator's root, and what is in force.
pub struct World {
    pub host: SigningKey,
    pub root: SigningKey,
    pub stand: Arc<Stand>,
}

impl World {
    pub fn new() -> Self {
        let (host, root) = (SigningKey::generate(), SigningKey::generate());
        let mut policy = Policy::closed(1);
        policy.isolation = vec![Provider::Simulator, Provider::Process];
        policy.controls = vec!["seccomp".into()];
        policy.evidence.simulator = Some(root.address());
        policy.evidence.max_age_seconds = 600;
        let policy = PolicyInForce {
            policy,
            digest: Sha256Digest(B256::ZERO),
        };
        let stand = Stand {
            now: Mutex::new(NOW),
            policy: Mutex::new(Arc::new(policy)),
            hosts: Mutex::new(vec![host.address()]),
            asked: AtomicUsize::new(0),
        };
        Self {
            host,
            root,
            stand: Arc::new(stand),
        }
    }

    pub fn host_identity(&self) -> Identity {
        let draft = Draft::new(NOW, 3_600).unwrap();
        let signature = self.host.sign(draft.digest(Party::Host)).unwrap();
        draft.of_host(self.host.address(), signature).unwrap()
    }

    /// A container on the machine.
    pub fn container_identity(&self) -> Identity {
        self.container_identity_with(|_| {})
    }

    /// A container whose statement was changed before the machine attested it.
    pub fn container_identity_with(&self, change: impl FnOnce(&mut EvidenceStatement)) -> Identity {
        let (region, draft) = (SigningKey::generate(), Draft::new(NOW, 3_600).unwrap());
        let mut said = statement(&region, draft.digest(Party::Region));
        change(&mut said);
        let attestation = self.attest(&said);
        draft.attested(said, attestation, &region).unwrap()
    }

    pub fn attest(&self, said: &EvidenceStatement) -> Attestation {
        let signature = self.root.sign(said.bound()).unwrap();
        Attestation::Simulator { signature }
    }

    /// A host connects to a region that shows `server`.
    pub async fn meet(&self, server: &Identity) -> Met {
        self.meet_as(&self.host_identity(), server, &containers())
            .await
    }

    pub async fn meet_as(&self, client: &Identity, server: &Identity, wanted: &Wanted) -> Met {
        let (near, far) = streams().await;
        let (near, far) = tokio::join!(
            connect(near, client, self.stand.clone(), wanted.clone()),
            accept(far, server, self.stand.clone(), Wanted::Host),
        );
        Met { near, far }
    }
}

/// What came of a connection at its two ends.
pub struct Met {
    pub near: Result<Channel<TcpStream>, ChannelError>,
    pub far: Result<Channel<TcpStream>, ChannelError>,
}

impl Met {
    pub fn ok(self) -> (Channel<TcpStream>, Channel<TcpStream>) {
        (self.near.unwrap(), self.far.unwrap())
    }

    /// Why the connecting end refused the other, which then has no channel either.
    pub fn refused(self) -> ChannelError {
        assert!(self.far.is_err(), "the other end has a channel");
        self.near.unwrap_err()
    }
}

pub fn containers() -> Wanted {
    Wanted::Region(vec![CONTAINER])
}

pub fn statement(region: &SigningKey, nonce: B256) -> EvidenceStatement {
    EvidenceStatement {
        provider: Provider::Simulator,
        controls: vec!["seccomp".into()],
        measurement: CONTAINER,
        region_key: region.address(),
        exchange_key: B256::repeat_byte(3),
        nonce,
    }
}

/// Two ends of one TCP connection.
pub async fn streams() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}
