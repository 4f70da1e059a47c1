//! Deliveries that are to go out one after the other: reports of one subscription have to reach the chain in the order of their
//! numbers, and a transmitter's transactions are mined in the order in which they were given their nonces.

use tokio::sync::oneshot;

/// Gives out places, one behind the other.
#[derive(Debug, Default)]
pub struct Line {
    last: Option<oneshot::Receiver<()>>,
}

/// A place in a line. Dropped, it lets the next one go.
#[derive(Debug, Default)]
pub struct Place {
    before: Option<oneshot::Receiver<()>>,
    sent: Option<oneshot::Sender<()>>,
}

impl Line {
    /// The next place.
    pub fn place(&mut self) -> Place {
        let (sent, last) = oneshot::channel();
        Place {
            before: self.last.replace(last),
            sent: Some(sent),
        }
    }
}

impl Place {
    /// Whether others come after it, or before.
    #[must_use]
    pub fn is_in_line(&self) -> bool {
        self.sent.is_some()
    }

    /// Waits until whoever is before has been sent, or has to wait for something else.
    pub async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            let _gone_without_a_word = before.await;
        }
    }

    /// Lets the next one go.
    pub(crate) fn leave(&mut self) {
        self.sent = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn each_waits_for_the_one_before_it_alone() {
        let mut line = Line::default();
        let (mut first, mut second, mut third) = (line.place(), line.place(), line.place());
        first.come().await;
        let early = timeout(Duration::from_millis(5), second.come()).await;
        assert!(early.is_err());
        let mut second = Place {
            before: None,
            sent: second.sent,
        };
        first.leave();
        second.come().await;
        drop(second);
        third.come().await;
    }
}
