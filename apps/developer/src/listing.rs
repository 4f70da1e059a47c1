//! What a host lists, as text. As JSON they are the API's own types.

use crate::{
    DeveloperError, Session, Sheet, Table, Witness, connect::origin, import::Verified,
    publish::Published,
};
use alloy_primitives::{U256, utils::format_ether};
use cryptlet_api::{
    ClientResult,
    types::{
        ApplicationInfo, CryptletDetail, CryptletSummary, DelegationInfo, Explanation, Hex,
        HostInfo, JobSummary, JobTrace, KeyInfo, MAX_PAGE, Page, PageLimit, PageQuery, PolicyInfo,
        SecretCodeInfo, Source, Step, SubscriptionRow, TokenInfo,
    },
};
use cryptlet_types::UnixSeconds;

/// Collects a whole list, page by page, up to `most` items.
///
/// # Errors
/// What asking for a page fails with; a host whose pages do not end.
pub async fn all<T, F: Future<Output = ClientResult<Page<T>>>>(
    most: usize,
    ask: impl Fn(PageQuery) -> F,
) -> Result<Vec<T>, DeveloperError> {
    let mut items = Vec::new();
    let mut query = PageQuery {
        limit: PageLimit::new(MAX_PAGE).ok(),
        after: None,
    };
    loop {
        let page = ask(query.clone()).await?;
        let last = page.items.is_empty();
        items.extend(page.items);
        let after = page.next.filter(|_| !last && items.len() < most);
        let Some(after) = after else {
            items.truncate(most);
            return Ok(items);
        };
        let after = after.parse();
        query.after = Some(after.map_err(|error| DeveloperError::document("next page", error))?);
    }
}

/// A moment as people read it: RFC 3339 in UTC.
#[must_use]
pub fn moment(seconds: UnixSeconds) -> String {
    let timestamp = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| seconds.to_string(), |timestamp| timestamp.to_string())
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn mark(holds: bool, word: &str) -> String {
    if holds { word.into() } else { String::new() }
}

/// Cryptlets that a search found.
#[must_use]
pub fn cryptlets(items: &[CryptletSummary]) -> Table {
    let headings = ["NAME", "VERSION", "DESCRIPTION"];
    let mut table = Table::new(&headings, "no cryptlet of this name");
    for item in items {
        let version = match (&item.label, item.revoked) {
            (_, true) => "revoked".to_owned(),
            (Some(label), false) => label.clone(),
            (None, false) => "none".to_owned(),
        };
        let stale = if item.stale { " (stale)" } else { "" };
        let version = format!("{version}{stale}");
        table.row([item.name.clone(), version, text(item.description.as_ref())]);
        table.under("id", item.cryptlet);
        table.under("publisher", item.publisher);
    }
    table
}

/// Everything about a cryptlet. `verified` is the version in force with its header, if that is what its digest says;
/// `checked` says by whose word it was compared with the register, if it was and nothing differs.
#[must_use]
pub fn cryptlet(
    detail: &CryptletDetail,
    verified: Option<&Verified>,
    checked: Option<Option<Witness>>,
) -> String {
    let mut sheet = Sheet::default();
    sheet.field("name", &detail.name);
    sheet.maybe("description", detail.description.as_ref());
    sheet.field("id", detail.cryptlet);
    sheet.field("publisher", detail.publisher);
    if detail.owner != detail.publisher {
        sheet.field("owner", detail.owner);
    }
    if detail.revoked {
        sheet.field("revoked", "the whole cryptlet, for ever");
    }
    let allowed = if detail.policy.allowed {
        format!("runs here (policy {})", detail.policy.epoch)
    } else {
        let reasons = detail.policy.reasons.join("\n");
        format!(
            "does not run here (policy {}):\n{reasons}",
            detail.policy.epoch
        )
    };
    sheet.field("policy", allowed);
    sheet.field("source", source(&detail.source));
    let hosts: Vec<String> = detail
        .hosts
        .iter()
        .map(|host| match host.url.as_str() {
            "" => format!("{} registered no more", host.host),
            url => format!("{} {url}\nauthority {}", host.host, host.authority),
        })
        .collect();
    sheet.field(
        "attested hosts",
        if hosts.is_empty() {
            "none".into()
        } else {
            hosts.join("\n")
        },
    );
    if detail.stale {
        sheet.field("register", "this host's copy is too old to be relied on");
    }
    if let Some(witness) = checked {
        sheet.field("checked", word(witness));
    }
    let mut parts = vec![sheet.to_string(), versions(detail).to_string()];
    let said = detail.interface.as_ref();
    let said = said.map(|interface| interface.solidity.as_str());
    if let Some(solidity) = verified
        .map(|verified| verified.header.interface())
        .or(said)
    {
        let lines: Vec<String> = solidity.trim_end().lines().map(crate::plain).collect();
        parts.push(lines.join("\n"));
    }
    parts.join("\n\n")
}

/// By whose word it was compared.
fn word(witness: Option<Witness>) -> &'static str {
    match witness {
        Some(Witness::Own) => "all of it with the register, by your node",
        Some(Witness::Development) => "all of it with the register, by the node on this machine",
        Some(Witness::Host) => {
            "only the host's word, by a node of its choice: name one with --register-rpc URL"
        }
        None => "only the host's word: name a node with --register-rpc URL",
    }
}

/// What is known of the source code.
fn source(source: &Source) -> String {
    match source {
        Source::Revealed(digest) => format!("revealed, SHA-256 {digest}"),
        Source::NotRevealed => "not revealed".into(),
    }
}

fn versions(detail: &CryptletDetail) -> Table {
    let headings = ["", "VERSION", "PUBLISHED", "STATE"];
    let mut table = Table::new(&headings, "no versions");
    for version in &detail.versions {
        let current = detail.current == Some(version.number);
        let state = match (version.revoked, current, version.stored) {
            (true, ..) => "revoked",
            (false, true, true) => "in force",
            (false, true, false) => "in force, not stored here",
            (false, false, _) => "superseded",
        };
        table.row([
            version.number.to_string(),
            version.label.clone(),
            moment(version.published_at),
            state.into(),
        ]);
        let signers = detail.signers.iter();
        for signer in signers.filter(|signer| signer.version == version.number) {
            let word = if signer.revoked { "revoked" } else { "until" };
            let until = if signer.revoked {
                String::new()
            } else {
                moment(signer.expiry)
            };
            table.under(
                "signer",
                format!("{} {word} {until}", signer.signer).trim_end(),
            );
        }
        table.under("package", version.package_digest);
        table.under("header", version.header_digest);
        table.under("manifest", version.manifest_digest);
        table.maybe_under("uri", Some(&version.uri).filter(|uri| !uri.is_empty()));
    }
    table
}

/// What code and manifest wish, what policy says, what comes out.
#[must_use]
pub fn explanation(explanation: &Explanation) -> String {
    let mut table = Table::new(&["ASPECT", "RESULT"], "nothing to explain");
    for row in &explanation.rows {
        let how = if row.overridden {
            ", overridden by policy"
        } else {
            ""
        };
        table.row([row.aspect.clone(), format!("{}{how}", row.result)]);
        table.under("wish", &row.wish);
        table.under("policy", &row.policy);
    }
    let mut sheet = Sheet::default();
    sheet.field(
        "cryptlet",
        format!("{} version {}", explanation.name, explanation.version),
    );
    sheet.field("policy", explanation.epoch);
    let verdict = &explanation.verdict;
    let result = if verdict.allowed {
        "runs".to_owned()
    } else {
        format!("does not run:\n{}", verdict.reasons.join("\n"))
    };
    sheet.field("result", result);
    format!("{sheet}\n\n{table}")
}

/// Subscriptions that the host serves, or says why not.
#[must_use]
pub fn subscriptions(items: &[SubscriptionRow]) -> Table {
    let headings = ["CRYPTLET", "TRIGGER", "NEXT", "STATE"];
    let mut table = Table::new(&headings, "no subscriptions");
    for item in items {
        let state = if item.refused.is_none() {
            "served"
        } else {
            "refused"
        };
        table.row([
            item.name
                .clone()
                .unwrap_or_else(|| item.cryptlet.to_string()),
            item.trigger.clone(),
            text(item.next_due.map(moment)),
            state.into(),
        ]);
        table.maybe_under("reason", item.refused.as_ref());
        table.under("consumer", item.consumer);
        table.maybe_under("on behalf of", item.on_behalf_of);
        table.under("subject", item.subject);
    }
    table
}

/// Jobs.
#[must_use]
pub fn jobs(items: &[JobSummary]) -> Table {
    let headings = ["DUE", "STATE", "ATTEMPTS"];
    let mut table = Table::new(&headings, "no jobs");
    for item in items {
        table.row([
            moment(item.due),
            item.state.to_string(),
            item.attempts.to_string(),
        ]);
        table.maybe_under("reason", item.reason.as_ref());
        table.under("cryptlet", item.cryptlet);
        table.under("job", item.job);
    }
    table
}

/// One job from event to receipt.
#[must_use]
pub fn trace(trace: &JobTrace) -> String {
    let summary = &trace.summary;
    let mut sheet = Sheet::default();
    sheet.field("job", summary.job);
    sheet.field("subject", summary.subject);
    sheet.field("cryptlet", summary.cryptlet);
    sheet.field("consumer", trace.consumer);
    sheet.field("package", trace.package_digest);
    sheet.field("policy", trace.policy_epoch);
    sheet.field("due", moment(summary.due));
    sheet.field("state", summary.state);
    if let Some(sent) = &trace.transaction {
        let outcome = if sent.callback_succeeded {
            "callback succeeded"
        } else {
            "callback reverted"
        };
        sheet.field(
            "transaction",
            format!("{}\nblock {}, {outcome}", sent.hash, sent.block),
        );
    }
    sheet.field(
        "receipt",
        if trace.receipt {
            "there"
        } else {
            "not there yet"
        },
    );
    format!("{sheet}\n\n{}", steps(&trace.steps))
}

/// Steps of a job, oldest first.
#[must_use]
pub fn steps(items: &[Step]) -> Table {
    let mut table = Table::new(&["AT", "STATE"], "no steps");
    for step in items {
        table.row([millis(step.at_millis), step.state.to_string()]);
        table.maybe_under("note", step.note.as_ref());
    }
    table
}

fn millis(at: u64) -> String {
    let timestamp = i64::try_from(at)
        .ok()
        .and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    timestamp.map_or_else(|| at.to_string(), |timestamp| format!("{timestamp:.3}"))
}

/// Keys of the host's vault. A public key that has no address is shortened: `cryptlet keys export-public` prints all of it.
#[must_use]
pub fn keys(items: &[KeyInfo]) -> Table {
    let mut table = Table::new(&["PURPOSE", "ADDRESS OR PUBLIC KEY", ""], "no keys");
    for item in items {
        let key = match item.address {
            Some(address) => address.to_string(),
            None => shortened(&item.public_key.to_string()),
        };
        table.row([
            item.purpose.clone(),
            key,
            mark(item.current && item.cryptlet.is_some(), "newest"),
        ]);
        table.maybe_under("cryptlet", item.cryptlet);
    }
    table
}

/// The first and the last digits of a long number.
fn shortened(digits: &str) -> String {
    let ends = (
        digits.get(..22),
        digits
            .len()
            .checked_sub(16)
            .and_then(|end| digits.get(end..)),
    );
    match ends {
        (Some(first), Some(last)) if digits.len() > 42 => format!("{first}…{last}"),
        _ => digits.to_owned(),
    }
}

/// Tokens, without their secrets.
#[must_use]
pub fn tokens(items: &[TokenInfo]) -> Table {
    let headings = ["ID", "ROLE", "LABEL", "CREATED", "EXPIRES"];
    let mut table = Table::new(&headings, "no tokens");
    for item in items {
        table.row([
            item.id.to_string(),
            item.role.to_string(),
            item.label.to_string(),
            moment(item.created),
            moment(item.expires),
        ]);
    }
    table
}

/// Applications, without their secrets.
#[must_use]
pub fn applications(items: &[ApplicationInfo]) -> Table {
    let headings = ["NAME", "SIGNS WITH", "REGISTERED"];
    let mut table = Table::new(&headings, "no applications");
    for item in items {
        table.row([
            item.name.to_string(),
            item.kind.to_string(),
            moment(item.created),
        ]);
        for key in &item.keys {
            let what = match key.public_key {
                Some(public) => public.to_string(),
                None => format!("a secret made {}", moment(key.created)),
            };
            let until = key.expires.map(|end| format!(", until {}", moment(end)));
            table.under("key", format!("{what}{}", until.unwrap_or_default()));
        }
    }
    table
}

/// Delegations that the host has.
#[must_use]
pub fn delegations(items: &[DelegationInfo]) -> Table {
    let headings = ["EXPIRES", "CALLBACK", ""];
    let mut table = Table::new(&headings, "no delegations");
    let any = |zero: bool, text: String| if zero { "any".to_owned() } else { text };
    for item in items {
        let body = &item.delegation;
        table.row([
            moment(body.expiry.get()),
            any(body.callback.0.is_zero(), body.callback.to_string()),
            match item.revoked {
                Some(true) => "revoked",
                Some(false) => "",
                None => "not known whether revoked",
            }
            .to_owned(),
        ]);
        table.under("identity", body.identity);
        table.under("cryptlet", body.cryptlet);
        table.under(
            "consumer",
            any(body.consumer.0.is_zero(), body.consumer.to_string()),
        );
        table.under("digest", item.digest);
    }
    table
}

/// What a host has of a package's secret code.
#[must_use]
pub fn secret_code(info: &SecretCodeInfo) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.field("package", info.package);
    sheet.field(
        "key",
        if info.has_key {
            "at the host"
        } else {
            "missing"
        },
    );
    let agreed = info.counterparties.iter().map(|party| match &party.code {
        Some(code) => format!("{} agreed to\n{code}", party.account),
        None => format!("{} has not agreed", party.account),
    });
    sheet.field("counterparties", agreed.collect::<Vec<_>>().join("\n"));
    sheet.field("runs", if info.ready { "yes" } else { "no" });
    sheet
}

/// The policy in force.
#[must_use]
pub fn policy(info: &PolicyInfo) -> String {
    let mut sheet = Sheet::default();
    sheet.field("epoch", info.epoch);
    sheet.field("digest", info.digest);
    sheet.field("uri", &info.uri);
    let confirmed = if info.confirmed {
        "yes"
    } else {
        "no: no job runs"
    };
    sheet.field("confirmed by the register", confirmed);
    let approvals: Vec<String> = info
        .approvals
        .iter()
        .map(|known| known.administrator.to_string())
        .collect();
    sheet.field("approved by", approvals.join("\n"));
    let document = serde_json::to_string_pretty(&info.policy).unwrap_or_default();
    format!("{sheet}\n\n{}", crate::plain_json(&document))
}

/// A host about itself.
#[must_use]
pub fn host(session: &Session) -> Sheet {
    let info: &HostInfo = session.info();
    let mut sheet = Sheet::default();
    sheet.field("host", info.host);
    sheet.field("url", &info.url);
    sheet.field("authority", info.authority);
    sheet.field("version", &info.version);
    sheet.field(
        "chain",
        format!(
            "{} {}",
            info.chain_id,
            text(info.rpc.as_deref().map(origin))
        ),
    );
    sheet.field("delegate", info.delegate);
    let register = &info.register;
    sheet.field(
        "register",
        format!(
            "{}\nchain {} {}",
            register.address,
            register.chain_id,
            text(register.rpc.as_deref().map(origin))
        ),
    );
    let state = &info.register_state;
    let stale = if state.stale {
        ", stale: no job runs"
    } else {
        ""
    };
    sheet.field(
        "register read",
        format!(
            "up to block {}, {} s ago{stale}",
            state.synced_block, state.age_seconds
        ),
    );
    let policy = info
        .policy
        .map(|policy| format!("{}\n{}", policy.epoch, policy.digest));
    sheet.field(
        "policy",
        policy.unwrap_or_else(|| "none: no job runs".into()),
    );
    sheet
}

/// An amount of wei, in ether.
#[must_use]
pub fn ether(wei: U256) -> String {
    let text = format_ether(wei);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} ether")
}

/// A published version.
#[must_use]
pub fn published(published: &Published) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.field("name", &published.name);
    sheet.field("id", Hex::<20>::from(published.cryptlet));
    sheet.field(
        "version",
        format!("{} ({})", published.label, published.number),
    );
    sheet.field("signer", published.signer);
    sheet.field("package", published.package_digest);
    sheet.field("header", published.header_digest);
    sheet.field("manifest", published.manifest_digest);
    if !published.uri.is_empty() {
        sheet.field("uri", &published.uri);
    }
    match (published.transaction, published.gas_used) {
        (Some(hash), Some(gas)) => sheet.field("transaction", format!("{hash}\n{gas} gas")),
        _ => sheet.field("transaction", "none: the register has this version already"),
    }
    let host = published.attested_host.map(|host| host.to_string());
    sheet.field("attested host", host.unwrap_or_else(|| "none".into()));
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptlet_api::types::{SignerInfo, Verdict, VersionInfo};
    use std::cell::Cell;

    fn detail() -> CryptletDetail {
        let version = |number, revoked| VersionInfo {
            number,
            label: format!("0.{number}.0"),
            package_digest: Hex::default(),
            header_digest: Hex::default(),
            manifest_digest: Hex::default(),
            uri: String::new(),
            published_at: 0,
            revoked,
            stored: true,
        };
        CryptletDetail {
            cryptlet: Hex::default(),
            name: "gold-price".into(),
            description: Some("gold\u{1b}[2J\u{202e}".into()),
            publisher: Hex::default(),
            owner: Hex::default(),
            revoked: false,
            current: Some(2),
            versions: vec![version(1, true), version(2, false), version(3, true)],
            signers: vec![SignerInfo {
                signer: Hex::default(),
                version: 2,
                expiry: 1,
                revoked: false,
            }],
            interface: None,
            hosts: vec![],
            policy: Verdict {
                allowed: false,
                reasons: vec!["publisher is not allowed".into()],
                epoch: 3,
            },
            source: Source::NotRevealed,
            stale: true,
        }
    }

    #[test]
    fn a_cryptlet_is_shown_with_what_speaks_against_it_and_cannot_draw_on_the_terminal() {
        let text = cryptlet(&detail(), None, None);
        for words in [
            "not revealed",
            "publisher is not allowed",
            "too old to be relied on",
            "attested hosts  none",
        ] {
            assert!(text.contains(words), "{text} lacks {words}");
        }
        assert_eq!(text.matches("revoked").count(), 2);
        assert_eq!(text.matches("in force").count(), 1);
        assert!(!text.contains(['\u{1b}', '\u{202e}']));
    }

    #[tokio::test]
    async fn a_list_is_fetched_to_its_end_and_no_further_than_wanted() {
        let asked = Cell::new(0);
        let ask = |query: PageQuery| {
            asked.set(asked.get() + 1);
            async move {
                let page = query.cut(0..1_200, |number: &u32| format!("{number:05}"));
                Ok(page)
            }
        };
        assert_eq!(all(5_000, ask).await.unwrap().len(), 1_200);
        assert_eq!(asked.replace(0), 3);
        assert_eq!(all(501, ask).await.unwrap().len(), 501);
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test]
    async fn a_host_whose_pages_do_not_end_is_not_asked_for_ever() {
        let endless = async |_: PageQuery| {
            let next = Some("a".to_owned());
            Ok(Page {
                items: Vec::<u32>::new(),
                next,
            })
        };
        assert!(all(usize::MAX, endless).await.unwrap().is_empty());
    }
}
