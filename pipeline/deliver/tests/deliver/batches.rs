//! Batches: what one transaction brings, and what becomes of one that came too early.

use crate::world::{Callback, Consumer, MemoryOutbox, World, quick, world};
use async_trait::async_trait;
use cryptlet_deliver::{
    BatchOrder, DeliverConfig, Deliverer, Line, Order, Outbox, Outcome, Place, PortError,
};
use cryptlet_types::{
    Batch,
    outbox::{RunId, Submission},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

async fn orders(world: &World, consumer: &Consumer, numbers: &[u64]) -> Vec<Order> {
    let mut orders = Vec::new();
    for number in numbers {
        orders.push(world.order(consumer, *number, 100 + number).await);
    }
    orders
}

fn batch(world: &World, orders: Vec<Order>) -> BatchOrder {
    let reports = orders.iter().map(|order| &order.report.report);
    let digest = Batch::of(reports).unwrap().digest(&world.domain());
    let signature = world.cryptlet_key.sign(digest).unwrap();
    BatchOrder { orders, signature }
}

#[tokio::test]
async fn one_transaction_brings_them_in_order_and_leaves_out_what_does_not_hold() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let batch = batch(&world, orders(&world, &consumer, &[1, 2, 9]).await);
    let outbox = MemoryOutbox::new();
    let deliverer = world.deliverer(&outbox);
    let brought = deliverer.deliver_batch(&mut Place::default(), &batch).await;
    let numbers = brought.unwrap().into_iter();
    let numbers: Vec<_> = numbers
        .map(|delivery| delivery.map(|delivery| delivery.report.sequence))
        .collect();
    assert_eq!(numbers, [Some(1), Some(2), None]);
    assert_eq!(outbox.written().len(), 1);
    assert_eq!(world.sequence(&consumer).await, 2);
}

#[tokio::test]
async fn a_batch_that_came_too_early_is_sent_again_whole_when_its_turn_has_come() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let batch = batch(&world, orders(&world, &consumer, &[2, 3]).await);
    let first = world.order(&consumer, 1, 7).await;
    let outbox = MemoryOutbox::new();
    let patient = DeliverConfig {
        resend_after: Duration::from_secs(3_600),
        ..quick()
    };
    let deliverer = world.deliverer_with(&outbox, patient);
    let together = async { deliverer.deliver_batch(&mut Place::default(), &batch).await };
    let alone = async {
        // The batch's transaction is before it, and brings nothing.
        outbox.wait_for(1).await;
        deliverer.deliver(&first).await
    };
    let (brought, outcome) = tokio::join!(together, alone);
    assert!(matches!(outcome, Ok(Outcome::Delivered(_))), "{outcome:?}");
    let brought = brought.unwrap();
    assert!(brought.iter().all(Option::is_some), "{brought:?}");
    assert_eq!(outbox.written().len(), 3, "both together, both times");
    assert_eq!(world.sequence(&consumer).await, 3);
}

/// Fails so many times.
struct Stubborn {
    failures: AtomicU32,
    inner: Arc<MemoryOutbox>,
}

#[async_trait]
impl Outbox for Stubborn {
    async fn submitted(&self, runs: &[RunId], submission: &Submission) -> Result<(), PortError> {
        let left = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() {
            return Err(PortError::retryable("the disk is full"));
        }
        self.inner.submitted(runs, submission).await
    }
}

#[tokio::test]
async fn what_keeps_everybody_from_sending_lets_nobody_pass() {
    let world = world().await;
    let consumer = world.consumer(Callback::Stores, 60_000).await;
    let inner = MemoryOutbox::new();
    let outbox = Arc::new(Stubborn {
        failures: AtomicU32::new(1),
        inner: inner.clone(),
    });
    let deliverer = Deliverer::new(
        world.chain.clone(),
        world.transmitter.clone(),
        outbox,
        DeliverConfig::default(),
    );
    let mut line = Line::default();
    let mut orders = orders(&world, &consumer, &[1, 2]).await;
    orders.iter_mut().for_each(|order| order.expected = true);
    let (mut before, mut behind) = (line.place(), line.place());
    let (one, two) = tokio::join!(
        deliverer.resume_in(&mut before, &orders[0], &[]),
        deliverer.resume_in(&mut behind, &orders[1], &[]),
    );
    for outcome in [one, two] {
        assert!(matches!(outcome, Ok(Outcome::Delivered(_))), "{outcome:?}");
    }
    assert_eq!(inner.written().len(), 2, "nothing was sent in vain");
}
