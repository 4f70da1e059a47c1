//! What a cryptlet is told: the region's messages in the words of its world.

use crate::runtime::{BlockEntry, Context, LogEntry, Message, Observation, Step, Trigger, Wake};
use alloy_primitives::{Address, B256};
use cryptlet_types::{
    CryptletId, JobId, ReportDomain, Subject, UnixSeconds,
    region::{CallInput, ObserveInput, RunInput},
};
use std::collections::BTreeMap;

/// For a job.
pub(crate) fn job(input: &RunInput) -> Wake {
    let subscription = &input.subscription;
    let about = About {
        job: input.job,
        subject: subscription.subject,
        consumer: subscription.consumer,
        cryptlet: subscription.cryptlet,
        domain: input.domain,
        now: input.issued_at,
    };
    Wake {
        context: about.context(&input.settings),
        trigger: trigger(&input.trigger),
        params: subscription.params.to_vec(),
    }
}

/// For the value of a feed.
pub(crate) fn observe(input: &ObserveInput) -> Wake {
    let about = About::nobody(input.cryptlet, input.domain, input.at);
    Wake {
        context: about.context(&input.settings),
        trigger: Trigger::Observe,
        params: input.params.to_vec(),
    }
}

/// For a contract that asks off the chain.
pub(crate) fn call(input: &CallInput) -> Wake {
    let about = About {
        consumer: input.consumer,
        ..About::nobody(input.cryptlet, input.domain, input.at)
    };
    Wake {
        context: about.context(&input.settings),
        trigger: Trigger::Call,
        params: input.params.to_vec(),
    }
}

/// Why and for whom.
struct About {
    job: JobId,
    subject: Subject,
    consumer: Address,
    cryptlet: CryptletId,
    domain: ReportDomain,
    now: UnixSeconds,
}

impl About {
    fn nobody(cryptlet: CryptletId, domain: ReportDomain, now: UnixSeconds) -> Self {
        Self {
            job: JobId(B256::ZERO),
            subject: Subject(B256::ZERO),
            consumer: Address::ZERO,
            cryptlet,
            domain,
            now,
        }
    }

    fn context(self, settings: &BTreeMap<String, String>) -> Context {
        Context {
            job: format!("{:#x}", self.job.0),
            cryptlet: format!("{:#x}", self.cryptlet.0),
            consumer: format!("{:#x}", self.consumer),
            subject: format!("{:#x}", self.subject.0),
            chain_id: self.domain.chain_id,
            now: self.now,
            settings: settings.clone().into_iter().collect(),
        }
    }
}

fn trigger(trigger: &cryptlet_types::Trigger) -> Trigger {
    use cryptlet_types::Trigger as Told;
    match trigger {
        Told::Clock { due } => Trigger::Clock(*due),
        Told::Threshold { observation } => Trigger::Threshold(Observation {
            feed: observation.feed.to_vec(),
            value: observation.value.to_be_bytes::<32>().to_vec(),
            at: observation.at,
        }),
        Told::Log(log) => Trigger::Log(LogEntry {
            chain_id: log.chain_id,
            block: log.block,
            block_hash: log.block_hash.to_vec(),
            transaction: log.transaction.to_vec(),
            index: log.index,
            emitter: log.emitter.to_vec(),
            topics: log.topics.iter().map(|topic| topic.to_vec()).collect(),
            data: log.data.to_vec(),
            timestamp: log.at,
        }),
        Told::Block(block) => Trigger::Block(BlockEntry {
            chain_id: block.chain_id,
            number: block.number,
            hash: block.hash.to_vec(),
            timestamp: block.at,
        }),
        Told::Application(said) => Trigger::Application(Message {
            application: said.application.clone(),
            id: said.id.clone(),
            kind: said.kind.clone(),
            at: said.at,
            data: said.data.to_vec(),
        }),
        Told::Request { at } => Trigger::Request(*at),
        Told::Step(step) => Trigger::Step(Step {
            number: step.number,
            state: step.state.to_vec(),
        }),
    }
}
