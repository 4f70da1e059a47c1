//! Which subscriptions an application's message concerns: those to its kind, and those to any kind. Pure. Nothing concerns a
//! subscription that is newer than the message. Subjects come in order.

use crate::groups::Groups;
use cryptlet_types::{Subject, Subscription, event::Message, subscription::ApplicationSpec};

/// Subscriptions to messages of applications.
#[derive(Debug, Default)]
pub struct Applications {
    /// By application and kind; the empty kind is any.
    groups: Groups<(Box<str>, Box<str>)>,
}

impl Applications {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscription, or replaces it. Returns whether there was room.
    pub fn add(&mut self, subscription: &Subscription, spec: &ApplicationSpec) -> bool {
        let key = (spec.application.as_str().into(), spec.kind.as_str().into());
        self.remove(subscription.subject);
        let added = self
            .groups
            .add(subscription.subject, key, subscription.since);
        added.is_some()
    }

    /// Takes a subscription out. Returns whether it was in.
    pub fn remove(&mut self, subject: Subject) -> bool {
        self.groups.remove(subject).is_some()
    }

    /// Lets no message concern a subscription until it is resumed. Returns whether it is in.
    pub fn pause(&mut self, subject: Subject) -> bool {
        self.groups.pause(subject).is_some()
    }

    /// Ends a pause. Returns whether it is in.
    pub fn resume(&mut self, subject: Subject) -> bool {
        self.groups.resume(subject).is_some()
    }

    /// Whom `message` concerns.
    #[must_use]
    pub fn subjects(&self, message: &Message) -> Vec<Subject> {
        let mut found = Vec::new();
        let mut key: (Box<str>, Box<str>) = (message.application.as_str().into(), "".into());
        self.groups.find(&key, message.at, &mut found);
        if !message.kind.is_empty() {
            key.1 = message.kind.as_str().into();
            self.groups.find(&key, message.at, &mut found);
        }
        found.sort_unstable();
        found
    }

    /// How many subscriptions there are, paused ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
