//! The delegate's rules (`contracts/src/CryptoDelegate.sol`), and those of the register that it asks.

use alloy_primitives::{Address, B256};
use cryptlet_chain::{DeliveredReport, Rejection};
use cryptlet_types::{
    CryptletId, Report, ReportDomain, Subject, Subscription, UnixSeconds, report::CompactSignature,
};
use std::collections::BTreeMap;

/// A report as it comes to the delegate.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is said.
    pub report: Report,
    /// By whom.
    pub signature: CompactSignature,
}

/// A subscription as the delegate has it.
#[derive(Clone, Debug)]
pub struct Place {
    /// What was asked for.
    pub subscription: Subscription,
    /// How many reports it has consumed.
    pub sequence: u64,
}

/// A delegate after some block.
#[derive(Clone, Debug)]
pub struct Delegate {
    domain: ReportDomain,
    cryptlet: CryptletId,
    signer: Address,
    places: BTreeMap<Subject, Place>,
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
        };
        self.places.insert(subject, place);
    }

    /// A contract ends its subscription; whether there was one.
    pub fn unsubscribe(&mut self, subject: Subject) -> bool {
        self.places.remove(&subject).is_some()
    }

    /// Whether the delegate would consume the report in a block of that time; who signed it.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, call: &Call, time: UnixSeconds) -> Result<Address, Rejection> {
        let report = &call.report;
        let place = self.places.get(&report.subject);
        let place = place.filter(|place| place.subscription.cryptlet == report.cryptlet);
        let place = place.ok_or(Rejection::UnknownSubscription)?;
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
        let digest = report.digest(&self.domain);
        let signer = cryptlet_seal::recover(digest, &call.signature);
        let signer = signer.map_err(|_| Rejection::InvalidSignature)?;
        if report.cryptlet != self.cryptlet || signer != self.signer {
            let cryptlet = report.cryptlet;
            return Err(Rejection::SignerNotEnrolled { cryptlet, signer });
        }
        Ok(signer)
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
        let report = &call.report;
        if let Some(place) = self.places.get_mut(&report.subject) {
            place.sequence = report.sequence;
        }
        let digest = report.digest(&self.domain);
        // Some callbacks revert; which, is the report's matter, so that it is the same in every block.
        let success = digest.first().is_none_or(|byte| byte % 8 != 0);
        Ok(DeliveredReport {
            subject: report.subject,
            cryptlet: report.cryptlet,
            sequence: report.sequence,
            digest,
            signer,
            success,
            reason: None,
        })
    }
}
