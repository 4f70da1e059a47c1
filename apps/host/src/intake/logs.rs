//! Logs and blocks that subscriptions wait for, of the delegate's chain and of others.

use super::Intake;
use crate::{HostError, streams, streams::Brought};
use cryptlet_chain::{ChangeKind, LogFilter, RawLog, SubscriptionChange as Change};
use cryptlet_journal::{Cursor, JournalError};
use cryptlet_types::{Event, event::BlockEntry, subscription::Finality};
use cryptlet_watch::{self as watch, Advance};
use std::collections::HashMap;

impl Intake {
    /// The first block that was not read yet.
    pub(super) fn next_block(&self) -> u64 {
        let after = |cursor: watch::Cursor| cursor.number.saturating_add(1);
        self.cursor.map_or(0, after)
    }

    /// What the delegate's own chain brings for subscriptions, beside what the delegate said.
    pub(super) async fn own_events(
        &self,
        from: u64,
        advance: &Advance<Change>,
    ) -> Result<Vec<Event>, HostError> {
        let key = (self.chain.domain().chain_id, Finality::Latest);
        let Some(chain) = self.streams.chain(key) else {
            return Ok(vec![]);
        };
        let (cursor, head) = (advance.cursor, &advance.head);
        let filter = &self.own_filter;
        let logs = streams::own_logs(chain.as_ref(), filter, from, cursor, head).await?;
        let made = advance.changes.iter();
        let made = made.filter(|change| matches!(change.kind, ChangeKind::Subscribed(_)));
        let made: HashMap<_, _> = made
            .map(|change| (change.subject, (change.block, change.log_index)))
            .collect();
        let mut events = Vec::new();
        for log in &logs {
            let later = |event: &Event| {
                made.get(&event.subject)
                    .is_none_or(|made| *made < (log.block, log.index))
            };
            events.extend(self.log_events(key, log).into_iter().filter(later));
        }
        let range = (from, cursor.number);
        events.extend(self.block_events(key, range, Some(head)).await?);
        Ok(events)
    }

    /// Subscriptions have changed: chains are to be told what to look for.
    pub(super) fn ask_anew(&mut self) {
        self.unasked = true;
        self.own_filter = self.filter((self.chain.domain().chain_id, Finality::Latest));
    }

    /// What a stream is to look for.
    pub(super) fn filter(&self, (chain, finality): streams::Key) -> LogFilter {
        let asked = self.engine.logs.filter(chain, finality);
        LogFilter {
            emitters: asked.addresses,
            topics: [asked.topics, vec![], vec![], vec![]],
        }
    }

    pub(super) fn log_events(&self, (chain, finality): streams::Key, log: &RawLog) -> Vec<Event> {
        let Some(entry) = log.entry(chain) else {
            let (emitter, block, index) = (log.emitter, log.block, log.index);
            tracing::warn!(chain, block, index, %emitter, "a log is too large to wake anybody with");
            return vec![];
        };
        self.engine.log(&entry, finality)
    }

    /// The blocks of a range that somebody waits for.
    pub(super) async fn block_events(
        &self,
        key: streams::Key,
        (from, to): (u64, u64),
        head: Option<&cryptlet_chain::Head>,
    ) -> Result<Vec<Event>, HostError> {
        let (chain_id, finality) = key;
        let mut events = Vec::new();
        let Some(chain) = self.streams.chain(key) else {
            return Ok(events);
        };
        let blocks = &self.engine.blocks;
        let mut next = blocks.next_after(chain_id, finality, from.saturating_sub(1));
        while let Some(number) = next.filter(|number| *number <= to) {
            let known = head.filter(|head| head.number == number).copied();
            let found = match known {
                Some(head) => Some(head),
                None => chain.header(number).await?,
            };
            let Some(head) = found else {
                return Err(cryptlet_chain::ChainError::Reorged { number }.into());
            };
            let block = BlockEntry {
                chain_id,
                number,
                hash: head.hash,
                at: head.timestamp,
            };
            events.extend(self.engine.block(&block, finality));
            next = blocks.next_after(chain_id, finality, number);
        }
        Ok(events)
    }

    /// Has each chain asked for what subscriptions wait for, as it is now. The newest blocks of the delegate's own chain are
    /// read together with what the delegate says.
    pub(super) async fn look_for_logs(&mut self) {
        if !self.caught_up || !std::mem::take(&mut self.unasked) {
            return;
        }
        let own = (self.chain.domain().chain_id, Finality::Latest);
        let mut wanted = self.engine.logs.chains();
        wanted.extend(self.engine.blocks.chains());
        wanted.extend(self.streams.keys());
        for key in wanted.into_iter().filter(|key| *key != own) {
            let filter = self.filter(key);
            if let Err(error) = self.streams.look_for(key, filter).await {
                tracing::warn!(stream = streams::name(key), %error, "chain cannot be read yet");
                self.unasked = true;
            }
        }
    }

    /// Takes over what a chain brought.
    pub(super) async fn take_stream(&mut self, brought: Brought) -> Result<(), HostError> {
        let (key, taken) = match brought {
            Brought::Blocks(key, advance) => (key, self.take_logs(key, advance).await),
            Brought::Reorged(key) => (key, self.take_back(key).await),
        };
        match taken {
            // The other chains go on meanwhile.
            Err(HostError::Chain(error)) => self.streams.again(key, &error),
            taken => taken?,
        }
        Ok(())
    }

    pub(super) async fn take_logs(
        &mut self,
        key: streams::Key,
        advance: Advance<RawLog>,
    ) -> Result<(), HostError> {
        let watch::Cursor { number, hash } = advance.cursor;
        let first = self.journal.cursor(&streams::name(key)).await?;
        let from = first.map_or(number, |cursor| cursor.number.saturating_add(1));
        let mut events = Vec::new();
        for log in &advance.changes {
            events.extend(self.log_events(key, log));
        }
        events.extend(self.block_events(key, (from, number), None).await?);
        let occurred = self.occurred(events).await?;
        let cursor = Cursor { number, hash };
        let name = streams::name(key);
        let applied = self.journal.apply(&name, cursor, &[], &occurred).await?;
        self.put_to_work(&occurred, &applied.events);
        self.streams.go_on(key, advance.cursor);
        self.route_rest(&occurred).await
    }

    /// Another chain than the delegate's was reorganised.
    pub(super) async fn take_back(&mut self, key: streams::Key) -> Result<(), HostError> {
        let name = streams::name(key);
        let to = self.streams.shared(key).await?;
        let rewound = match self.journal.rewind(&name, to).await {
            Err(JournalError::TooDeep { .. }) => {
                tracing::error!(
                    stream = name,
                    "the chain has none of the blocks that the journal remembers: it is another chain now, and not read any more"
                );
                return Ok(());
            }
            rewound => rewound?,
        };
        let withdrawn = rewound.withdrawn.len();
        tracing::warn!(stream = name, withdrawn, "the chain was reorganised");
        let Cursor { number, hash } = to;
        self.streams.go_on(key, watch::Cursor { number, hash });
        Ok(())
    }
}
