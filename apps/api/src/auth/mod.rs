//! Who asks: bearer tokens, client certificates, and what happens after too many wrong ones.

pub(crate) mod throttle;
mod tokens;

pub use tokens::{TokenError, TokenStore};

use crate::{
    host_api::Caller,
    types::{Hex, Problem, ProblemKind, Role},
};
use axum::http::{HeaderMap, header::AUTHORIZATION};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};

/// Roles of client certificates, by SHA-256 of the DER certificate. A certificate that is not listed has none.
pub type CertificateRoles = BTreeMap<Hex<32>, Role>;

/// SHA-256 of a DER certificate, the way it is listed and registered.
#[must_use]
pub fn certificate_digest(certificate: &CertificateDer<'_>) -> Hex<32> {
    let digest: [u8; 32] = Sha256::digest(certificate.as_ref()).into();
    Hex(digest.into())
}

/// Everything that tells who a caller is.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) tokens: Arc<TokenStore>,
    pub(crate) certificates: CertificateRoles,
}

impl Authenticator {
    /// Who asks. A token, if there is one, decides alone; otherwise the certificate of the connection.
    pub(crate) fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<Hex<32>>,
    ) -> Result<Authenticated, Problem> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            if headers.contains_key(AUTHORIZATION) {
                return Err(unauthenticated("there is more than one Authorization"));
            }
            return self.by_certificate(certificate);
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token)
            .ok_or_else(|| unauthenticated("Authorization is not of the form: Bearer TOKEN"))?;
        match self.tokens.find(token) {
            Ok(Some(info)) => Ok(Authenticated {
                caller: Caller {
                    name: info.label.to_string(),
                    role: info.role,
                },
                token: Some(info.id),
            }),
            Ok(None) => Err(unauthenticated(
                "the token is unknown, revoked or has expired",
            )),
            Err(error) => {
                tracing::error!(%error, "api: tokens cannot be checked, every token is refused");
                Err(Problem::unavailable("the host cannot check tokens now"))
            }
        }
    }

    fn by_certificate(&self, certificate: Option<Hex<32>>) -> Result<Authenticated, Problem> {
        let Some(digest) = certificate else {
            return Err(unauthenticated(
                "there is neither a token nor a client certificate",
            ));
        };
        match self.certificates.get(&digest) {
            Some(role) => Ok(Authenticated {
                caller: Caller {
                    name: digest.to_string(),
                    role: *role,
                },
                token: None,
            }),
            None => Err(unauthenticated("the client certificate is not listed")),
        }
    }
}

/// A caller, and the token that said so.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    pub(crate) token: Option<crate::types::TokenId>,
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(
        ProblemKind::Unauthenticated,
        detail,
        "send Authorization: Bearer TOKEN with a token from the operator, or a client certificate that the \
         operator has listed",
    )
}
