//! Secret code: asking the host for its key while a package is loaded, and opening what every counterparty agreed to.

use super::{Checked, Keys, Session, protocol};
use crate::{channel::SharedHost, runtime::RunError};
use alloy_primitives::Bytes;
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
        let Some(secret) = checked.secret() else {
            return Ok(Code::Open(checked.code.clone()));
        };
        let challenge = checked.challenge.ok_or_else(|| {
            protocol("challenge: missing, the key of secret code is asked for with one")
        })?;
        let controls = &self.identity.controls;
        let own;
        let (keys, statement, attestation) = match &mut self.remote {
            Some(remote) => {
                let nonce = session_nonce(challenge, remote.exporter);
                let keys = &remote.keys;
                let said = keys.statement(remote.provider, controls, checked.measurement, nonce);
                let attested = remote.witness.attest(&said);
                (
                    keys,
                    said,
                    Some(attested.map_err(|error| protocol(&error))?),
                )
            }
            // For this and nothing else: regions will be copies of this process, and make their own.
            None => {
                own = Keys::generate();
                let provider = self.executor.provider();
                let said = own.statement(provider, controls, checked.measurement, challenge);
                (&own, said, None)
            }
        };
        let asked = CallOut::CodeKey(Box::new(Created {
            statement: statement.clone(),
            attestation,
        }));
        let grant = match host.borrow_mut().call(asked)? {
            Ok(CallOutAnswer::CodeKey(grant)) => *grant,
            Ok(_) => return Err(protocol("another answer than the key of secret code").into()),
            Err(reason) => return Err(RegionFault::SecretCode(clip(&reason)).into()),
        };
        let opened = open(checked, secret, keys, &statement, &grant);
        let opened = opened.map_err(|error| RegionFault::Package(clip(&error.to_string())))?;
        Ok(Code::Secret(opened))
    }
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
