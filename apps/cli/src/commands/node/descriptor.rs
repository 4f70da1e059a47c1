//! `--crypto-delegate-path` and `--crypto-delegate-signature`: where delegate, register and policy are, and how a node
//! knows that nobody changed the answer on the way.
//!
//! The document names the host that signed it, and the signature came by another way (from an administrator, in a service
//! file). Whoever alters the document would need a key whose address is in the altered document and that made the very same
//! signature, which nobody can find.

use crate::{
    commands::read_bounded,
    error::{CliError, Doing},
};
use alloy::primitives::{B256, hex};
use cryptlet_types::{DelegateDescriptor, bounded::MAX_DOCUMENT_BYTES, report::CompactSignature};
use futures::StreamExt;
use std::{path::Path, time::Duration};

/// Longest wait for the document.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the document: `https://`, `file://` or a path. Over HTTPS the certificate is judged by `authority`, or by the
/// roots of this system.
pub(super) async fn read(path: &str, authority: Option<&Path>) -> Result<Vec<u8>, CliError> {
    if path.starts_with("https://") {
        return fetch(path, authority).await;
    }
    if path.starts_with("http://") {
        let what = "--crypto-delegate-path: http:// proves nothing about who answers";
        return Err(CliError::new(what).next("use https://, or a file"));
    }
    let file = path.strip_prefix("file://").unwrap_or(path);
    read_bounded(Path::new(file), MAX_DOCUMENT_BYTES)
}

async fn fetch(url: &str, authority: Option<&Path>) -> Result<Vec<u8>, CliError> {
    let doing = format!("cannot read {url}");
    let _known_already = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE);
    if let Some(file) = authority {
        let pem = read_bounded(file, MAX_DOCUMENT_BYTES)?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem).doing(&doing)?;
        builder = builder.tls_certs_only(roots);
    }
    let client = builder.build().doing(&doing)?;
    let answer = client.get(url).send().await.doing(&doing);
    let answer = answer
        .map_err(|error| error.next("a host's own authority: --crypto-delegate-authority FILE"))?
        .error_for_status()
        .doing(&doing)?;
    let mut bytes = Vec::new();
    let mut body = answer.bytes_stream();
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part.doing(&doing)?);
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(CliError::new(format_args!("{doing}: it is too large")));
        }
    }
    Ok(bytes)
}

/// The descriptor in `bytes`, if `signature` is its own host's over it and it is about this chain.
pub(super) fn check(
    bytes: &[u8],
    signature: &str,
    chain_id: u64,
) -> Result<DelegateDescriptor, CliError> {
    let doing = "--crypto-delegate-path";
    let known = DelegateDescriptor::from_json(bytes).doing(doing)?;
    let signature = parse(signature)?;
    let digest = known.digest().doing(doing)?;
    cryptlet_seal::check(digest, &signature, known.host).map_err(|_| {
        CliError::new("the document is not the one that --crypto-delegate-signature pins")
            .next("ask the administrator for both again: one of them was altered or is old")
    })?;
    if known.delegate.chain_id != chain_id {
        let what = format!(
            "the delegate is on chain {}, this node makes chain {chain_id}",
            known.delegate.chain_id
        );
        return Err(CliError::new(what).next("start the node of that chain with --chain-id"));
    }
    Ok(known)
}

fn parse(text: &str) -> Result<CompactSignature, CliError> {
    let wrong = || {
        CliError::new("--crypto-delegate-signature: 0x and 128 hexadecimal digits are expected")
            .next("a host shows it: cryptlet status --json, delegateSignature")
    };
    let digits = text.strip_prefix("0x").ok_or_else(wrong)?;
    let bytes: [u8; 64] = hex::decode(digits)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(wrong)?;
    let (r, vs) = bytes.split_at(32);
    Ok(CompactSignature {
        r: B256::from_slice(r),
        vs: B256::from_slice(vs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::Address;
    use cryptlet_seal::SigningKey;
    use cryptlet_types::{ReportDomain, Sha256Digest, register::RegisterDomain};

    fn signed(key: &SigningKey, chain_id: u64) -> (Vec<u8>, String) {
        let known = DelegateDescriptor {
            version: 1,
            delegate: ReportDomain {
                chain_id,
                delegate: Address::repeat_byte(1),
            },
            register: RegisterDomain {
                chain_id,
                register: Address::repeat_byte(2),
            },
            register_rpc: String::new(),
            policy: "https://localhost:8600/v1/policy".into(),
            host: key.address(),
            authority: Sha256Digest(B256::repeat_byte(4)),
        };
        let signature = key.sign(known.digest().unwrap()).unwrap();
        let text = format!(
            "0x{}{}",
            hex::encode(signature.r),
            hex::encode(signature.vs)
        );
        (known.to_json().unwrap(), text)
    }

    #[test]
    fn only_the_pinned_document_of_this_chain_is_taken() {
        let key = SigningKey::generate();
        let (document, signature) = signed(&key, 7);
        assert!(check(&document, &signature, 7).is_ok());
        let said = |outcome: Result<_, CliError>| outcome.map(drop).unwrap_err().to_string();
        assert!(said(check(&document, &signature, 8)).contains("chain 7"));

        let text = String::from_utf8(document).unwrap();
        let altered = text.replace("0202", "0203");
        assert!(said(check(altered.as_bytes(), &signature, 7)).contains("pins"));
        let (of_another, _) = signed(&SigningKey::generate(), 7);
        assert!(said(check(&of_another, &signature, 7)).contains("pins"));
        assert!(said(check(text.as_bytes(), "0x12", 7)).contains("128"));
    }
}
