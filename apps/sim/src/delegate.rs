//! The delegate's rules (`contracts/src/CryptoDelegate.sol`), and those of the register that it asks.

use alloy_primitives::{Address, B256};
use cryptlet_chain::{DeliveredReport, Rejection, UndeliveredReport};
use cryptlet_types::{
    Batch, CryptletId, Report, ReportDomain, Subject, Subscription, UnixSeconds,
    report::CompactSignature,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// A report as it comes to the delegate.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is said.
    pub report: Report,
    /// By whom.
    pub signature: CompactSignature,
}

/// What a transaction asks of the delegate.
#[derive(Clone, Debug)]
pub enum Sent {
    /// `deliver`.
    One(Box<Call>),
    /// `deliverBatch`: reports, and the signature over all of them.
    Batch(Vec<Report>, CompactSignature),
}

impl Sent {
    /// The reports, in their order.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        match self {
            Self::One(call) => std::slice::from_ref(&call.report),
            Self::Batch(reports, _) => reports,
        }
    }
}

/// What the delegate logs of a transaction: what it consumed, and what it left out.
pub type Logged = (Vec<DeliveredReport>, Vec<UndeliveredReport>);

/// A subscription as the delegate has it.
#[derive(Clone, Debug)]
pub struct Place {
    /// What was asked for.
    pub subscription: Subscription,
    /// How many reports it has consumed.
    pub sequence: u64,
    /// Whether the contract wants nothing for now.
    pub paused: bool,
}

/// A delegate after some block.
#[derive(Clone, Debug)]
pub struct Delegate {
    domain: ReportDomain,
    cryptlet: CryptletId,
    signer: Address,
    places: BTreeMap<Subject, Place>,
    known: Arc<Recovered>,
}

/// Who signed what, so far: a node asks itself the same for each transaction in its pool, again and again.
#[derive(Debug, Default)]
struct Recovered(Mutex<HashMap<[B256; 3], Option<Address>>>);

impl Recovered {
    fn signer(&self, digest: B256, signature: &CompactSignature) -> Option<Address> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recover = || cryptlet_seal::recover(digest, signature).ok();
        let asked = [digest, signature.r, signature.vs];
        *known.entry(asked).or_insert_with(recover)
    }
}

impl Delegate {
    /// A delegate without subscriptions, at which `signer` alone may speak for `cryptlet`.
    #[must_use]
    pub fn new(domain: ReportDomain, cryptlet: CryptletId, signer: Address) -> Self {
        Self {
            domain,
            cryptlet,
            signer,
            places: BTreeMap::new(),
            known: Arc::default(),
        }
    }

    /// A subscription, while it lasts.
    #[must_use]
    pub fn place(&self, subject: Subject) -> Option<&Place> {
        self.places.get(&subject)
    }

    /// All subscriptions.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.values()
    }

    /// A contract subscribes.
    pub fn subscribe(&mut self, subscription: Subscription) {
        let subject = subscription.subject;
        let place = Place {
            subscription,
            sequence: 0,
            paused: false,
        };
        self.places.insert(subject, place);
    }

    /// A contract ends its subscription; whether there was one.
    pub fn unsubscribe(&mut self, subject: Subject) -> bool {
        self.places.remove(&subject).is_some()
    }

    /// A contract pauses its subscription, or has it go on; whether that changes anything.
    pub fn pause(&mut self, subject: Subject, paused: bool) -> bool {
        let place = self.places.get_mut(&subject);
        place.is_some_and(|place| std::mem::replace(&mut place.paused, paused) != paused)
    }

    /// Whether the delegate would consume the report in a block of that time; who signed it.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, call: &Call, time: UnixSeconds) -> Result<Address, Rejection> {
        let report = &call.report;
        self.expects(report, time)?;
        self.signed_by(report.digest(&self.domain), &call.signature)
    }

    fn expects(&self, report: &Report, time: UnixSeconds) -> Result<(), Rejection> {
        let place = self.places.get(&report.subject);
        let place = place.filter(|place| place.subscription.cryptlet == report.cryptlet);
        let place = place.ok_or(Rejection::UnknownSubscription)?;
        if place.paused {
            return Err(Rejection::Paused);
        }
        let expected = place.sequence.saturating_add(1);
        if report.sequence != expected {
            let given = report.sequence;
            return Err(Rejection::WrongSequence { expected, given });
        }
        if report.valid_until <= report.issued_at {
            return Err(Rejection::InvalidValidity);
        }
        if time < report.issued_at {
            return Err(Rejection::NotYetValid);
        }
        if time > report.valid_until {
            return Err(Rejection::Expired);
        }
        if report.delegation != B256::ZERO {
            return Err(Rejection::DelegationRefused("none was asked for"));
        }
        Ok(())
    }

    fn signed_by(&self, digest: B256, signature: &CompactSignature) -> Result<Address, Rejection> {
        let signer = self.known.signer(digest, signature);
        let signer = signer.ok_or(Rejection::InvalidSignature)?;
        if signer != self.signer {
            let cryptlet = self.cryptlet;
            return Err(Rejection::SignerNotEnrolled { cryptlet, signer });
        }
        Ok(signer)
    }

    /// Takes what a transaction brings.
    ///
    /// # Errors
    /// Why it reverts.
    pub fn take(&mut self, sent: &Sent, time: UnixSeconds) -> Result<Logged, Rejection> {
        match sent {
            Sent::One(call) => Ok((vec![self.consume(call, time)?], vec![])),
            Sent::Batch(reports, signature) => self.take_batch(reports, signature, time),
        }
    }

    fn take_batch(
        &mut self,
        reports: &[Report],
        signature: &CompactSignature,
        time: UnixSeconds,
    ) -> Result<Logged, Rejection> {
        let other = |error: &dyn std::fmt::Display| Rejection::Other(error.to_string());
        let batch = Batch::of(reports).map_err(|error| other(&error))?;
        let signer = self.signed_by(batch.digest(&self.domain), signature)?;
        let (mut delivered, mut undelivered) = (vec![], vec![]);
        for report in reports {
            match self.expects(report, time) {
                Ok(()) => delivered.push(self.consumed(report, signer)),
                Err(reason) => undelivered.push(UndeliveredReport {
                    subject: report.subject,
                    cryptlet: report.cryptlet,
                    sequence: report.sequence,
                    reason: match reason {
                        Rejection::WrongSequence { given, .. } => Rejection::NotTheNext { given },
                        reason => reason,
                    },
                }),
            }
        }
        Ok((delivered, undelivered))
    }

    /// Consumes the report, and calls back.
    ///
    /// # Errors
    /// Why nothing was consumed.
    pub fn consume(
        &mut self,
        call: &Call,
        time: UnixSeconds,
    ) -> Result<DeliveredReport, Rejection> {
        let signer = self.check(call, time)?;
        Ok(self.consumed(&call.report, signer))
    }

    fn consumed(&mut self, report: &Report, signer: Address) -> DeliveredReport {
        if let Some(place) = self.places.get_mut(&report.subject) {
            place.sequence = report.sequence;
        }
        let digest = report.digest(&self.domain);
        // Some callbacks revert; which, is the report's matter, so that it is the same in every block.
        let success = digest.first().is_none_or(|byte| byte % 8 != 0);
        DeliveredReport {
            subject: report.subject,
            cryptlet: report.cryptlet,
            sequence: report.sequence,
            digest,
            signer,
            success,
            reason: None,
        }
    }
}
