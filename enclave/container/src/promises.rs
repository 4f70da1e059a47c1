//! What a region has signed, as far as it matters, and how that is handed on to a successor.

use crate::signing::SigningError;
use alloy_primitives::B256;
use cryptlet_seal::sealed::SealedError;
use cryptlet_types::{
    Report, Subject, UnixSeconds,
    region::{decode, encode},
};
use std::collections::BTreeMap;

/// Most reports that a region remembers at once, beside those that cannot be delivered any more.
pub(crate) const MAX_PROMISES: usize = 100_000;

/// The form in which promises are sealed (CBOR): the last second of what was forgotten; then, for each subject, number, time of
/// issue, last second and digest. Subjects and numbers are in ascending order.
type State = (UnixSeconds, Vec<(Subject, Vec<Said>)>);
type Said = (u64, UnixSeconds, UnixSeconds, B256);

/// What was said under a number.
#[derive(Clone, Copy, Debug)]
struct Promise {
    digest: B256,
    issued_at: UnixSeconds,
    valid_until: UnixSeconds,
}

/// What was signed, as far as it matters: all that could still be delivered beside another.
#[derive(Debug)]
pub(crate) struct Promises {
    most: usize,
    kept: BTreeMap<(Subject, u64), Promise>,
    /// The last second of all that was forgotten. Nothing is issued up to then any more.
    forgotten: UnixSeconds,
}

impl Promises {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            kept: BTreeMap::new(),
            forgotten: 0,
        }
    }

    /// What a successor has to know, without what cannot be delivered any more at the time of the latest report.
    pub(crate) fn to_state(&self) -> Result<Vec<u8>, SealedError> {
        let now = self.kept.values().map(|said| said.issued_at).max();
        let now = now.unwrap_or_default();
        let (mut forgotten, mut subjects) = (self.forgotten, Vec::new());
        let mut last: Option<(Subject, Vec<Said>)> = None;
        for ((subject, sequence), said) in &self.kept {
            if said.valid_until < now {
                forgotten = forgotten.max(said.valid_until);
                continue;
            }
            let said = (*sequence, said.issued_at, said.valid_until, said.digest);
            match &mut last {
                Some((of, all)) if of == subject => all.push(said),
                _ => subjects.extend(last.replace((*subject, vec![said]))),
            }
        }
        subjects.extend(last);
        let state: State = (forgotten, subjects);
        encode(&state).map_err(|_| SealedError::NotMade)
    }

    /// Reads what [`Promises::to_state`] wrote.
    pub(crate) fn from_state(state: &[u8], most: usize) -> Result<Self, SealedError> {
        let wrong = |what: &str| SealedError::Malformed(format!("state: {what}"));
        let read = decode(state).map_err(|error| wrong(&error.to_string()));
        let (forgotten, subjects): State = read?;
        let mut kept = BTreeMap::new();
        for (subject, said) in subjects {
            for (sequence, issued_at, valid_until, digest) in said {
                let place = (subject, sequence);
                if kept
                    .last_key_value()
                    .is_some_and(|(last, _)| *last >= place)
                {
                    return Err(wrong("numbers are not in order"));
                }
                if valid_until < issued_at {
                    return Err(wrong("a report ends before it is issued"));
                }
                let promise = Promise {
                    digest,
                    issued_at,
                    valid_until,
                };
                kept.insert(place, promise);
            }
        }
        if kept.len() > most {
            return Err(wrong("more reports than a region remembers"));
        }
        Ok(Self {
            most,
            kept,
            forgotten,
        })
    }

    /// Whether something may be said under a number at a time. Only a report of the very same time can be the same.
    pub(crate) fn check(
        &self,
        subject: Subject,
        sequence: u64,
        issued_at: UnixSeconds,
    ) -> Result<(), SigningError> {
        match self.kept.get(&(subject, sequence)) {
            Some(said) if said.valid_until >= issued_at && said.issued_at != issued_at => {
                Err(SigningError::Promised {
                    sequence,
                    until: said.valid_until,
                })
            }
            None if issued_at <= self.forgotten && self.forgotten > 0 => {
                Err(SigningError::Past(issued_at))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn keep(&mut self, report: &Report, digest: B256) -> Result<(), SigningError> {
        self.check(report.subject, report.sequence, report.issued_at)?;
        let key = (report.subject, report.sequence);
        if let Some(said) = self.kept.get(&key)
            && said.digest != digest
            && said.valid_until >= report.issued_at
        {
            return Err(SigningError::Promised {
                sequence: report.sequence,
                until: said.valid_until,
            });
        }
        if self.kept.len() >= self.most && !self.kept.contains_key(&key) {
            self.forget_before(report.issued_at)?;
        }
        let promise = Promise {
            digest,
            issued_at: report.issued_at,
            valid_until: report.valid_until,
        };
        self.kept.insert(key, promise);
        Ok(())
    }

    /// Forgets what cannot be delivered at `now` any more.
    fn forget_before(&mut self, now: UnixSeconds) -> Result<(), SigningError> {
        let mut last = self.forgotten;
        self.kept.retain(|_, said| {
            let stays = said.valid_until >= now;
            if !stays {
                last = last.max(said.valid_until);
            }
            stays
        });
        self.forgotten = last;
        if self.kept.len() < self.most {
            Ok(())
        } else {
            Err(SigningError::Full)
        }
    }
}

#[cfg(test)]
mod tests;
