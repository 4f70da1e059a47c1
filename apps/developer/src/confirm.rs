//! What a host says of a cryptlet, compared with what the register's chain says.

use crate::{
    DeveloperError, RegisterClient, Session,
    import::{Verified, verify},
    publish::find,
};
use alloy_primitives::Address;
use cryptlet_api::types::{CryptletDetail, CryptletRef, HostRow, Source, VersionInfo};
use cryptlet_seal::package;
use cryptlet_types::{CryptletId, Sha256Digest, register::VersionRecord};
use std::collections::BTreeSet;

/// Compares everything that the register says of the cryptlet that was `asked` for with what the host says in `detail`: who,
/// versions, signers, hosts; the digest of its source as the package in force names it; the interface, with the header of
/// the version in force, which is returned. Without a node there is nothing but that header, by the host's word.
///
/// # Errors
/// [`DeveloperError::Untrue`] names what differs, [`DeveloperError::HostBehind`] if the host has not read that far yet;
/// the chain or the host cannot be asked.
pub async fn confirm(
    session: &Session,
    asked: &CryptletRef,
    detail: &CryptletDetail,
) -> Result<Option<Verified>, DeveloperError> {
    if session.witness().is_none() {
        return header(session, asked, detail).await;
    }
    let register = session.register().await?;
    let newest = register.block_number().await?;
    let comparison = Comparison {
        register,
        asked,
        detail,
    };
    let compared = comparison.all(session).await;
    if let Err(DeveloperError::Untrue(_)) = compared {
        let read = session.client().host().await?.register_state.synced_block;
        if read < newest {
            return Err(DeveloperError::HostBehind(newest));
        }
    }
    compared
}

/// The header of the version in force, if one is.
async fn header(
    session: &Session,
    asked: &CryptletRef,
    detail: &CryptletDetail,
) -> Result<Option<Verified>, DeveloperError> {
    if detail.current.is_none() || detail.revoked {
        return Ok(None);
    }
    verify(session, asked, detail.clone()).await.map(Some)
}

struct Comparison<'a> {
    register: RegisterClient,
    asked: &'a CryptletRef,
    detail: &'a CryptletDetail,
}

impl Comparison<'_> {
    async fn all(&self, session: &Session) -> Result<Option<Verified>, DeveloperError> {
        self.who().await?;
        self.versions().await?;
        self.signers().await?;
        self.hosts().await?;
        self.source(session).await?;
        let verified = header(session, self.asked, self.detail).await?;
        self.interface(verified.as_ref())?;
        Ok(verified)
    }

    fn cryptlet(&self) -> CryptletId {
        self.detail.cryptlet.into()
    }

    fn demand(&self, holds: bool, what: &str) -> Result<(), DeveloperError> {
        if holds {
            return Ok(());
        }
        let name = &self.detail.name;
        let words = format!("the register says of {name} that {what}");
        Err(DeveloperError::Untrue(words))
    }

    async fn who(&self) -> Result<(), DeveloperError> {
        let known = find(&self.register, self.asked).await?;
        let said = self.detail;
        let same = known.cryptlet == self.cryptlet();
        self.demand(same, "it is another one than was asked for")?;
        self.demand(known.name == said.name, "it has another name")?;
        let same = known.publisher == Address::from(said.publisher);
        self.demand(same, "somebody else published it")?;
        self.demand(
            known.owner == Address::from(said.owner),
            "somebody else owns it",
        )?;
        let same = known.revoked == said.revoked;
        self.demand(same, "its revocation is another than the host says")
    }

    async fn versions(&self) -> Result<(), DeveloperError> {
        let known = self.register.versions(self.cryptlet()).await?;
        // The contract says of every version of a revoked cryptlet that it is revoked.
        let said = self.detail.versions.iter().map(|said| VersionRecord {
            revoked: said.revoked || self.detail.revoked,
            ..record(said)
        });
        let said: Vec<_> = said.collect();
        self.demand(known == said, "it has other versions, or in another state")?;
        let current = self.register.current(self.cryptlet()).await?;
        let same = current.map(|version| version.number) == self.detail.current;
        self.demand(same, "another version is in force")
    }

    async fn signers(&self) -> Result<(), DeveloperError> {
        let mut known = BTreeSet::new();
        for signer in self.register.all_signers(self.cryptlet()).await? {
            // The contract says nothing of the expiry of what is revoked, and all is with the cryptlet.
            let expiry = if signer.revoked { 0 } else { signer.expiry };
            known.insert((signer.signer, signer.version, expiry, signer.revoked));
        }
        let said = self.detail.signers.iter().map(|said| {
            let revoked = said.revoked || self.detail.revoked;
            let expiry = if revoked { 0 } else { said.expiry };
            let signer: Address = said.signer.into();
            (signer, said.version, expiry, revoked)
        });
        let same = known == said.collect();
        self.demand(same, "other keys may sign for it, or for another time")
    }

    async fn hosts(&self) -> Result<(), DeveloperError> {
        let assigned = self.register.hosts_of(self.cryptlet()).await?;
        let assigned: BTreeSet<Address> = assigned.into_iter().collect();
        // A host without a URL is said to be assigned and registered no more.
        let registered = self.detail.hosts.iter().filter(|host| !host.url.is_empty());
        let said: BTreeSet<Address> = registered.clone().map(|host| host.host.into()).collect();
        self.demand(assigned == said, "other hosts are assigned to it")?;
        for host in registered {
            self.host(host).await?;
        }
        Ok(())
    }

    async fn host(&self, said: &HostRow) -> Result<(), DeveloperError> {
        let known = self.register.host(said.host.into()).await?;
        let same = known.is_some_and(|known| {
            known.url == said.url && Sha256Digest::from(said.authority) == known.authority
        });
        self.demand(same, "a host has another URL or another authority")
    }

    /// The package's image manifest has the digest that the register names, and names the digest of the source.
    async fn source(&self, session: &Session) -> Result<(), DeveloperError> {
        let versions = &self.detail.versions;
        let current = versions
            .iter()
            .find(|version| Some(version.number) == self.detail.current);
        let said = match &self.detail.source {
            Source::Revealed(digest) => Some((*digest).into()),
            Source::NotRevealed => None,
        };
        // A host without the package knows of no source, and says so.
        let Some(current) = current.filter(|current| current.stored || said.is_some()) else {
            return Ok(());
        };
        let id = self.cryptlet().into();
        let index = session.client().package(&id, Some(current.number)).await?;
        let contents = package::contents(&index)?;
        let same = contents.digest == current.package_digest.into();
        self.demand(same, "its package has another digest")?;
        let named = contents.source.map(|source| source.digest);
        self.demand(named == said, "its package holds another source, or none")
    }

    fn interface(&self, verified: Option<&Verified>) -> Result<(), DeveloperError> {
        let (Some(said), Some(verified)) = (&self.detail.interface, verified) else {
            return Ok(());
        };
        let header = &verified.header;
        let abi = serde_json::to_value(header.abi())
            .map_err(|error| DeveloperError::document("the header's ABI", error))?;
        let theirs = serde_json::to_value(&said.abi)
            .map_err(|error| DeveloperError::document("the interface's ABI", error))?;
        let same = said.solidity == header.interface()
            && said.contract == header.contract()
            && theirs == abi;
        self.demand(same, "it has another interface")
    }
}

/// A version as the host says it, in the register's terms.
pub(crate) fn record(said: &VersionInfo) -> VersionRecord {
    VersionRecord {
        number: said.number,
        label: said.label.clone(),
        package: said.package_digest.into(),
        header: said.header_digest.into(),
        manifest: said.manifest_digest.into(),
        uri: said.uri.clone(),
        published_at: said.published_at,
        revoked: said.revoked,
    }
}
