//! Tokens of registries that want one: who gives them is the registry's word (`WWW-Authenticate: Bearer realm=...`), and
//! as little believed as the rest of it.

use super::{Session, registry_error};
use crate::Result;
use http_auth::parser::ChallengeParser;
use reqwest::{
    StatusCode, Url,
    header::{HeaderMap, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a token may take, the connection included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer of who gives tokens, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What a registry asks for before it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Who gives tokens.
    realm: String,
    /// What that one calls the registry.
    service: Option<String>,
}

impl Challenge {
    /// The first challenge that asks for a token.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
        values
            .filter_map(|value| Self::parse(value.to_str().ok()?))
            .next()
    }

    fn parse(text: &str) -> Option<Self> {
        let bearer = ChallengeParser::new(text)
            .map_while(std::result::Result::ok)
            .find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"))?;
        let named = |name: &str| {
            let mut parameters = bearer.params.iter();
            let found = parameters.find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        Some(Self {
            realm: named("realm")?,
            service: named("service"),
        })
    }
}

/// What of the answer matters. One of both is there; some send both.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Session<'_> {
    /// Asks for a token, of a host that may be asked only: it is told the account's password.
    pub(super) async fn ask_token(&self, challenge: &Challenge) -> Result<Zeroizing<String>> {
        let realm = Url::parse(&challenge.realm)
            .map_err(|_| self.refuse("names no place that gives tokens"))?;
        self.check_visit("tokens", &realm)?;
        let scope = format!(
            "repository:{}:{}",
            self.reference.repository(),
            self.actions
        );
        let mut query = vec![("scope", scope.as_str())];
        query.extend(challenge.service.as_deref().map(|name| ("service", name)));
        let request = self.registries.http.get(realm).query(&query);
        let response = self.send(self.auth.sign(request.timeout(PATIENCE))).await?;
        self.expect("token", &response, StatusCode::OK)?;
        let bytes = Zeroizing::new(self.read("token", response, MAX_ANSWER_BYTES).await?);
        // What is wrong with it is not said: it would be part of the answer.
        let token = serde_json::from_slice(&bytes).ok();
        let token = token.and_then(|answer: Answer| answer.token.or(answer.access_token));
        let token = token.map(Zeroizing::new);
        let fit = |token: &Zeroizing<String>| {
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        token.filter(fit).ok_or_else(|| {
            let reason = "token: answers with something else than a token";
            registry_error(self.reference.host(), reason, false)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn challenge(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::of(&headers)
    }

    #[test]
    fn the_first_challenge_that_asks_for_a_token_is_taken() {
        let found = challenge(&[
            r#"Basic realm="registry""#,
            r#"bearer realm="https://auth.example/token",service="a \"b\"",scope="x""#,
            r#"Bearer realm="https://other.example/""#,
        ]);
        let expected = Challenge {
            realm: "https://auth.example/token".into(),
            service: Some("a \"b\"".into()),
        };
        assert_eq!(found, Some(expected));
        let none: [&[&str]; 4] = [
            &[],
            &["Basic realm=\"registry\""],
            &["Bearer service=\"without a realm\""],
            &["Bearer realm=\"not closed"],
        ];
        for values in none {
            assert_eq!(challenge(values), None, "{values:?}");
        }
    }
}
