//! Changes of subscriptions, as the delegate's chain tells of them.

use super::Intake;
use crate::{HostError, streams};
use cryptlet_chain::{ChangeKind, SubscriptionChange as Change};
use cryptlet_journal::SubscriptionChange;
use cryptlet_types::{Event, Subject, Subscription, subscription::TriggerSpec};
use cryptlet_watch::Restored;

impl Intake {
    /// How many reports a subscription that is new here has consumed; `None` if it has ended since.
    pub(super) async fn consumed(&self, change: &Change) -> Result<Option<u64>, HostError> {
        let ChangeKind::Subscribed(subscription) = &change.kind else {
            return Ok(None);
        };
        Ok(self
            .chain
            .sequence(subscription.cryptlet, change.subject)
            .await?)
    }

    pub(super) async fn take_change(
        &mut self,
        change: &Change,
        consumed: Option<u64>,
    ) -> Result<(Option<SubscriptionChange>, Option<Event>), HostError> {
        let (subject, block) = (change.subject, change.block);
        let changed = match &change.kind {
            ChangeKind::Subscribed(subscription) => {
                let adopted = self
                    .adopt((**subscription).clone(), block, consumed)
                    .await?;
                return Ok((Some(adopted.0), adopted.1));
            }
            // Of that is told once the journal has the block.
            ChangeKind::Consumed { .. } => return Ok((None, None)),
            ChangeKind::Unsubscribed => {
                self.stop_serving(subject);
                tracing::info!(%subject, "subscription ended");
                SubscriptionChange::Ended { subject, block }
            }
            ChangeKind::Paused => {
                self.engine.pause(subject);
                tracing::info!(%subject, "subscription paused");
                SubscriptionChange::Paused { subject, block }
            }
            ChangeKind::Resumed { at } => {
                self.engine.resume(subject, *at);
                tracing::info!(%subject, "subscription goes on");
                SubscriptionChange::Resumed {
                    subject,
                    block,
                    at: *at,
                }
            }
            ChangeKind::Refused { reason } => {
                tracing::warn!(%subject, reason, "subscription cannot be served");
                SubscriptionChange::Refused {
                    subject,
                    block,
                    reason: reason.clone(),
                }
            }
        };
        Ok((Some(changed), None))
    }

    pub(super) fn stop_serving(&mut self, subject: Subject) {
        self.engine.remove(subject);
        self.known.forget(subject);
    }

    /// Takes over a subscription. One that has consumed reports which this journal knows nothing of is served
    /// from now on only: what was due before may have been delivered by the host that lost its journal. One that is
    /// known already, or that has ended since, is not served anew.
    pub(super) async fn adopt(
        &mut self,
        mut subscription: Subscription,
        block: u64,
        consumed: Option<u64>,
    ) -> Result<(SubscriptionChange, Option<Event>), HostError> {
        let subject = subscription.subject;
        let is_known = self.known.of(subject).await?.is_some();
        let Some(consumed) = consumed.filter(|_| !is_known) else {
            let added = SubscriptionChange::Added {
                subscription,
                block,
            };
            return Ok((added, None));
        };
        // What a reorganisation took away and brought back is known here, and so is what it consumed.
        let consumed = match consumed {
            1.. if self.journal.was_served(subject).await? => 0,
            consumed => consumed,
        };
        if consumed > 0 {
            subscription.since = subscription.since.max(self.clock.now().saturating_add(1));
            tracing::warn!(%subject, consumed, "subscription was served by another journal; it is served from now on");
        }
        let served = self.begin(&subscription, consumed);
        let event = match served {
            Ok(event) => event,
            Err(reason) => {
                tracing::warn!(%subject, reason, "subscription cannot be served");
                let refused = SubscriptionChange::Refused {
                    subject,
                    block,
                    reason,
                };
                return Ok((refused, None));
            }
        };
        tracing::info!(%subject, consumer = %subscription.consumer, cryptlet = %subscription.cryptlet, "subscription");
        self.known.learn(&subscription);
        let added = SubscriptionChange::Added {
            subscription,
            block,
        };
        Ok((added, event))
    }

    /// Looks out for a new subscription's trigger; the event of one that is itself the request.
    pub(super) fn begin(
        &mut self,
        subscription: &Subscription,
        consumed: u64,
    ) -> Result<Option<Event>, String> {
        let stream = stream_of(&subscription.trigger);
        if let Some((chain, _)) = stream.filter(|(chain, _)| !self.streams.knows(*chain)) {
            return Err(format!(
                "condition.chainId: this host reads no chain {chain}"
            ));
        }
        self.await_chain(subscription);
        let restored = Restored::default();
        let added = self.engine.add(subscription, &restored, self.clock.now());
        let event = added.map_err(|error| error.to_string())?;
        // Another journal's host has answered the request.
        Ok(event.filter(|_| consumed == 0))
    }

    /// What happens on the subscription's chain after the subscription is waited for, however late that chain is read.
    pub(super) fn await_chain(&mut self, subscription: &Subscription) {
        if let Some(key) = stream_of(&subscription.trigger) {
            self.streams.wanted_since(key, subscription.since);
        }
    }
}

/// Where what a subscription waits for happens, if that is on a chain.
fn stream_of(trigger: &TriggerSpec) -> Option<streams::Key> {
    match trigger {
        TriggerSpec::Log(spec) => Some((spec.chain_id, spec.finality)),
        TriggerSpec::Blocks(spec) => Some((spec.chain_id, spec.finality)),
        _ => None,
    }
}
