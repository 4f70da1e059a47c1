//! What a cryptlet wishes, what policy says to it, and what comes out.

use super::{
    Service,
    problems::{no_package, no_version},
};
use cryptlet_api::types::{CryptletRef, Explanation, ExplanationRow, Result};
use cryptlet_types::{
    Limits, Manifest, Policy, SecretCode,
    manifest::TriggerKind,
    policy::{EgressRule, RecordingRule, Signing, Trust, Whom},
    register::CryptletRecord,
};

impl Service {
    pub(super) async fn explain_cryptlet(&self, cryptlet: CryptletRef) -> Result<Explanation> {
        let known = self.known(&cryptlet).await?;
        let record = &known.record;
        let version = record.versions.iter().rev().find(|known| !known.revoked);
        let version = version.ok_or_else(|| no_version(record.cryptlet, None))?;
        let opened = self.opened(version.package).await?;
        let opened = opened.ok_or_else(|| no_package(version.package))?;
        let standing = self.rules.standing();
        // Without a policy nothing is allowed, which the closed one says row by row.
        let policy = standing
            .policy
            .map_or_else(|| Policy::closed(0), |policy| policy.policy.clone());
        let mut rows = rows(record, &opened.manifest, &policy);
        if let Some(secret) = &opened.manifest.config.secret_code {
            let missing = self.missing_of(version.package, secret).await?;
            rows.push(secret_code(secret, &policy, missing));
        }
        Ok(Explanation {
            cryptlet: record.cryptlet.0.into(),
            name: record.name.clone(),
            version: version.number,
            epoch: policy.epoch,
            rows,
            verdict: self.verdict(&known).await?,
        })
    }
}

/// One row for each aspect that manifest and policy both speak of.
fn rows(record: &CryptletRecord, manifest: &Manifest, policy: &Policy) -> Vec<ExplanationRow> {
    let mut rows = vec![
        publisher(record, policy),
        imports(manifest),
        triggers(manifest),
        isolation(manifest, policy),
        evidence(policy),
        signing(policy),
        egress(manifest, policy),
    ];
    rows.extend(limits(manifest.config.limits, policy.limits));
    rows.push(retry(policy));
    rows.extend(service(policy));
    rows.extend(code(policy));
    rows.extend(recording(policy));
    rows
}

/// Whether policy lets code run that nobody has looked at, and what this host lacks for it.
fn secret_code(secret: &SecretCode, policy: &Policy, missing: Option<String>) -> ExplanationRow {
    let named = secret.counterparties.iter().map(ToString::to_string);
    let wish = format!("agreed to by {}", named.collect::<Vec<_>>().join(", "));
    let refused = !policy.code.demands_nothing();
    let (word, result) = match (refused, missing) {
        (true, _) => (
            "`code.determinism` demands a look",
            "may not run".to_owned(),
        ),
        (false, Some(missing)) => ("no word", missing),
        (false, None) => ("no word", "key and agreements are here".to_owned()),
    };
    row("secretCode", wish, word, result, refused)
}

/// Policy has no word on what code imports; the container and the host refuse what the manifest does not name.
fn imports(manifest: &Manifest) -> ExplanationRow {
    let named = list(manifest.config.imports.iter().map(String::as_str));
    row("imports", &named, "what the manifest names", &named, false)
}

fn triggers(manifest: &Manifest) -> ExplanationRow {
    let kinds = manifest.config.triggers.iter().copied();
    let named = list(kinds.map(TriggerKind::as_str));
    row("triggers", &named, "what the manifest names", &named, false)
}

fn evidence(policy: &Policy) -> ExplanationRow {
    let word = format!("at most {} s old", policy.evidence.max_age_seconds);
    let result = "a region that is older proves itself anew";
    row("evidence", "any", word, result, false)
}

fn signing(policy: &Policy) -> ExplanationRow {
    let Signing::Ecdsa = policy.signing;
    let key = "the version's own key";
    row("signing", key, "one ECDSA signature", key, false)
}

/// A row only where policy has a word on it. Whether the code is so is in the verdict.
fn code(policy: &Policy) -> Option<ExplanationRow> {
    let least = policy.code.determinism?.as_str();
    let result = "what is less does not run";
    Some(row("code.determinism", "none", least, result, false))
}

fn recording(policy: &Policy) -> Option<ExplanationRow> {
    let result = match policy.recording {
        RecordingRule::Off => return None,
        RecordingRule::Exchanges => "the host keeps what sources say",
    };
    Some(row("recording", "none", "exchanges", result, true))
}

fn retry(policy: &Policy) -> ExplanationRow {
    let retry = policy.retry;
    let word = format!(
        "{} runs, {} to {} ms apart",
        retry.attempts, retry.first_millis, retry.longest_millis
    );
    row("retry", "none", &word, &word, false)
}

/// Words with commas, or `none`.
fn list<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<_> = words.collect();
    match words.as_slice() {
        [] => "none".to_owned(),
        some => some.join(", "),
    }
}

fn row(
    aspect: &str,
    wish: impl ToString,
    policy: impl ToString,
    result: impl ToString,
    overridden: bool,
) -> ExplanationRow {
    ExplanationRow {
        aspect: aspect.to_owned(),
        wish: wish.to_string(),
        policy: policy.to_string(),
        result: result.to_string(),
        overridden,
    }
}

fn publisher(record: &CryptletRecord, policy: &Policy) -> ExplanationRow {
    let (publisher, owner) = (record.publisher, record.owner);
    let included = |account| policy.publishers.includes(account);
    let allowed = included(publisher) && included(owner);
    let result = if allowed { "may run" } else { "may not run" };
    let word = whom(&policy.publishers);
    let wish = if owner == publisher {
        publisher.to_string()
    } else {
        format!("{publisher}, owned by {owner}")
    };
    row("publishers", wish, word, result, !allowed)
}

fn isolation(manifest: &Manifest, policy: &Policy) -> ExplanationRow {
    let wish = if manifest.config.isolation {
        "an isolated region"
    } else {
        "no isolation"
    };
    let providers: Vec<_> = policy
        .isolation
        .iter()
        .map(|known| known.as_str())
        .collect();
    let controls = policy.controls.join(", ");
    let word = match providers.as_slice() {
        [] => "no provider".to_owned(),
        some if controls.is_empty() => some.join(", "),
        some => format!("{} with {controls}", some.join(", ")),
    };
    let result = if providers.is_empty() {
        "may not run".to_owned()
    } else {
        format!("isolated by {}", providers.join(" or "))
    };
    let overridden = providers.is_empty() || !manifest.config.isolation;
    row("isolation", wish, word, result, overridden)
}

fn egress(manifest: &Manifest, policy: &Policy) -> ExplanationRow {
    let wish = &manifest.config.egress;
    let shown = |rule: &EgressRule| {
        let trust = match &rule.trust {
            Trust::WebPki => "public web",
            Trust::Roots(_) => "own roots",
        };
        format!("{} ({trust})", rule.place)
    };
    let word: Vec<_> = policy.egress.iter().map(shown).collect();
    let rules = policy.egress_of(manifest);
    let result: Vec<_> = rules.iter().map(shown).collect();
    let reaches = |place: &String| rules.iter().any(|rule| rule.place == *place);
    row(
        "egress",
        list(wish.iter().map(String::as_str)),
        list(word.iter().map(String::as_str)),
        list(result.iter().map(String::as_str)),
        !wish.iter().all(reaches),
    )
}

fn limits(wish: Limits, policy: Limits) -> Vec<ExplanationRow> {
    let result = wish.within(policy);
    [
        ("limits.fuel", wish.fuel, policy.fuel, result.fuel),
        (
            "limits.memoryBytes",
            wish.memory_bytes,
            policy.memory_bytes,
            result.memory_bytes,
        ),
        (
            "limits.wallMillis",
            wish.wall_millis,
            policy.wall_millis,
            result.wall_millis,
        ),
        (
            "limits.responseBytes",
            wish.response_bytes,
            policy.response_bytes,
            result.response_bytes,
        ),
    ]
    .into_iter()
    .map(|(aspect, wish, policy, result)| row(aspect, wish, policy, result, result != wish))
    .collect()
}

/// Whom policy serves and how: a manifest has no word on it.
fn service(policy: &Policy) -> Vec<ExplanationRow> {
    let serve = &policy.serve;
    let consumers = whom(&serve.consumers);
    let narrowed = serve.consumers != Whom::Anyone;
    let mut rows = vec![row(
        "serve.consumers",
        "anyone",
        &consumers,
        &consumers,
        narrowed,
    )];
    let bounds = [
        (
            "serve.interval",
            format!("once in {} s at most", serve.minimum_interval_seconds),
        ),
        (
            "serve.validity",
            format!("{} s at least", serve.minimum_validity_seconds),
        ),
        (
            "serve.callbackGas",
            format!("{} at most", serve.maximum_callback_gas),
        ),
    ];
    let bound =
        |(aspect, word): (&str, String)| row(aspect, "what is subscribed", &word, &word, false);
    rows.extend(bounds.map(bound));
    rows
}

fn whom(whom: &Whom) -> String {
    match whom {
        Whom::Anyone => "anyone".to_owned(),
        Whom::Only(accounts) if accounts.is_empty() => "nobody".to_owned(),
        Whom::Only(accounts) => {
            let accounts: Vec<_> = accounts.iter().map(ToString::to_string).collect();
            format!("only {}", accounts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use cryptlet_types::{
        CryptletId, Provider,
        manifest::ManifestConfig,
        policy::{EgressRule, Trust},
    };

    fn record() -> CryptletRecord {
        CryptletRecord {
            cryptlet: CryptletId(Address::repeat_byte(1)),
            name: "gold-price".into(),
            publisher: Address::repeat_byte(2),
            owner: Address::repeat_byte(2),
            revoked: false,
            versions: vec![],
            signers: vec![],
            hosts: vec![],
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            name: "gold-price".into(),
            public_key: Address::repeat_byte(3),
            version: "0.1.0".into(),
            config: ManifestConfig {
                egress: vec!["a.example:443".into(), "b.example:443".into()],
                ..ManifestConfig::default()
            },
        }
    }

    #[test]
    fn what_policy_takes_away_is_marked() {
        let limits = Limits {
            fuel: 10,
            ..Limits::default()
        };
        let policy = Policy {
            publishers: Whom::Anyone,
            isolation: vec![Provider::Process],
            egress: vec![EgressRule {
                place: "a.example:443".into(),
                trust: Trust::WebPki,
            }],
            limits,
            ..Policy::closed(4)
        };
        let rows = rows(&record(), &manifest(), &policy);
        let overridden: Vec<_> = rows
            .iter()
            .filter(|row| row.overridden)
            .map(|row| (row.aspect.as_str(), row.result.as_str()))
            .collect();
        assert_eq!(
            overridden,
            [
                ("egress", "a.example:443 (public web)"),
                ("limits.fuel", "10"),
                ("serve.consumers", "nobody")
            ]
        );
    }

    #[test]
    fn whoever_holds_the_token_has_to_be_trusted_as_well() {
        let mut record = record();
        let policy = Policy {
            publishers: Whom::Only(vec![record.publisher]),
            ..Policy::closed(1)
        };
        assert!(!publisher(&record, &policy).overridden);
        record.owner = Address::repeat_byte(9);
        let row = publisher(&record, &policy);
        assert!(row.overridden && row.wish.contains(&record.owner.to_string()));
    }

    #[test]
    fn a_closed_policy_says_no_in_every_row_that_matters() {
        let rows = rows(&record(), &manifest(), &Policy::closed(1));
        for aspect in ["publishers", "isolation", "egress", "serve.consumers"] {
            let row = rows.iter().find(|row| row.aspect == aspect).unwrap();
            assert!(row.overridden, "{row:?}");
        }
    }
}
