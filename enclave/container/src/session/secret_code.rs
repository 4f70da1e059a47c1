//! Secret code: asking the host for its key while a package is loaded, and opening what every counterparty agreed to.

use super::{Checked, Keys, Session, protocol};
use crate::{channel::SharedHost, runtime::RunError};
use alloy_primitives::{B256, Bytes};
use cryptlet_seal::{
    CodeKey, SealError,
    secret_code::{check_agreements, code_binding},
};
use cryptlet_types::{
    CodeAgreement, CodeGrant, EvidenceStatement, SecretCode,
    bounded::clip,
    channel::session_nonce,
    region::{CallOut, CallOutAnswer, Created, RegionFault},
};
use std::ops::Deref;
use zeroize::Zeroizing;

/// A component to compile.
pub(super) enum Code {
    /// As it is in the package.
    Open(Bytes),
    /// Wiped when it was compiled.
    Secret(Zeroizing<Vec<u8>>),
}

impl Deref for Code {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Open(code) => code,
            Self::Secret(code) => code,
        }
    }
}

impl Session {
    /// The component of a package: with what the host gives for it, if it is secret.
    pub(super) fn code(&mut self, checked: &Checked, host: &SharedHost) -> Result<Code, RunError> {
        let (secret, challenge) = match (checked.secret(), checked.challenge) {
            (None, None) => return Ok(Code::Open(checked.code.clone())),
            (None, Some(_)) => return Err(protocol("challenge: the code is not secret").into()),
            (Some(_), None) => {
                return Err(protocol("challenge: missing, the code is secret").into());
            }
            (Some(secret), Some(challenge)) => (secret, challenge),
        };
        // For this and nothing else: regions will be copies of this process, and make their own.
        let own = Keys::generate();
        let said = self.loading(checked, &own, challenge)?;
        let statement = said.statement.clone();
        let grant = match host.borrow_mut().call(CallOut::CodeKey(Box::new(said)))? {
            Ok(CallOutAnswer::CodeKey(grant)) => *grant,
            Ok(_) => return Err(protocol("another answer than the key of secret code").into()),
            Err(reason) => return Err(RegionFault::SecretCode(clip(&reason)).into()),
        };
        let keys = self.remote.as_ref().map_or(&own, |remote| &remote.keys);
        let opened = open(checked, secret, keys, &statement, &grant);
        let opened = opened.map_err(|error| RegionFault::SecretCode(told(&error)))?;
        Ok(Code::Secret(opened))
    }

    /// What who loads says of itself: with keys of its `own`, or with those that a host on another machine has seen.
    fn loading(
        &mut self,
        checked: &Checked,
        own: &Keys,
        challenge: B256,
    ) -> Result<Created, RunError> {
        let (controls, measurement) = (&self.identity.controls, checked.measurement);
        let Some(remote) = &mut self.remote else {
            let provider = self.executor.provider();
            return Ok(Created {
                statement: own.statement(provider, controls, measurement, challenge),
                attestation: None,
            });
        };
        let nonce = session_nonce(challenge, remote.exporter);
        let statement = remote
            .keys
            .statement(remote.provider, controls, measurement, nonce);
        let attested = remote.witness.attest(&statement);
        Ok(Created {
            attestation: Some(attested.map_err(|error| protocol(&error))?),
            statement,
        })
    }
}

/// The fault has a name of its own for what every such error begins with.
fn told(error: &SealError) -> String {
    let text = error.to_string();
    clip(text.strip_prefix("secret code: ").unwrap_or(&text))
}

/// The host may give any key for any code: what counts is what the counterparties signed.
fn open(
    checked: &Checked,
    secret: &SecretCode,
    keys: &Keys,
    statement: &EvidenceStatement,
    grant: &CodeGrant,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let agreement = CodeAgreement {
        package: checked.package,
        code: grant.code,
    };
    check_agreements(&agreement, &secret.counterparties, &grant.agreements)?;
    let binding = code_binding(statement);
    let key = keys.exchange_key.open(&grant.key, &binding)?;
    CodeKey::from_bytes(&key)?.decrypt(&checked.code, grant.code)
}
