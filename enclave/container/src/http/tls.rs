//! TLS that ends inside the region: the host relays records and cannot read or change what they say.

use super::{ExchangeError, broken, relay::RelayStream};
use cryptlet_types::{UnixSeconds, policy::Trust};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
};
use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

/// Roots that a source's certificate must chain to.
#[derive(Debug)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// The roots that `trust` names; the error says what cannot be read.
    pub(super) fn new(trust: &Trust) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        match trust {
            Trust::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Trust::Roots(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|error| error.to_string())?;
                    store.add(certificate).map_err(|error| error.to_string())?;
                }
            }
        }
        if store.is_empty() {
            return Err("no certificate".into());
        }
        Ok(Self(Arc::new(store)))
    }
}

/// The job's time stands still: a job of a past day is judged as it was on that day.
#[derive(Debug)]
struct JobTime(UnixTime);

impl TimeProvider for JobTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// A stream to a source that has proved who it is.
pub(super) struct TlsStream<'a, 'b> {
    connection: ClientConnection,
    relay: &'a mut RelayStream<'b>,
}

/// Shakes hands over `relay` with the source that must be `host`.
pub(super) fn connect<'a, 'b>(
    roots: &Roots,
    host: &str,
    now: UnixSeconds,
    relay: &'a mut RelayStream<'b>,
) -> Result<TlsStream<'a, 'b>, ExchangeError> {
    let config = config(roots, now).map_err(|error| ExchangeError::Insecure(error.to_string()))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        ExchangeError::Refused("host is no name that a certificate can bear".into())
    })?;
    let mut connection = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| ExchangeError::Insecure(error.to_string()))?;
    connection.complete_io(relay).map_err(broken)?;
    Ok(TlsStream { connection, relay })
}

fn config(roots: &Roots, now: UnixSeconds) -> Result<ClientConfig, rustls::Error> {
    let time = Arc::new(JobTime(UnixTime::since_unix_epoch(Duration::from_secs(
        now,
    ))));
    let mut config = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), time)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(&roots.0))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

impl TlsStream<'_, '_> {
    /// Sends all of `bytes`.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = Stream::new(&mut self.connection, &mut self.relay);
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// The certificate that the source showed (DER).
    pub(super) fn certificate(&self) -> Result<Vec<u8>, ExchangeError> {
        self.connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| certificate.as_ref().to_vec())
            .ok_or_else(|| ExchangeError::Insecure("source showed no certificate".into()))
    }
}

impl Read for TlsStream<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Stream::new(&mut self.connection, &mut self.relay).read(buffer)
    }
}
