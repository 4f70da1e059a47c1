//! Hosts that are stopped dead, at every stage and at random moments, and opened again on the same folder: every
//! wake-up is delivered exactly once.
use crate::support::{
    Play,
    account::{Watched, assert_delivered, job_in, jobs, story},
    due, eventually, journal_of, retry,
};
use alloy::providers::Provider;
use cryptlet_host::Host;
use cryptlet_journal::How;
use cryptlet_types::{
    Event,
    JobState::{Delivered, Failed, Reported, Routed, Skipped, Submitted},
    ReportDomain, Trigger,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// Cuts every task of the host where it waits, and gives its folder free.
async fn kill(mut host: Host) {
    host.stop().await;
}

/// Reopens the host, waits for the end of day 12, and moves on to day 13.
async fn goes_on(play: &Play, watched: Watched) {
    let host = play.host().await;
    job_in(&host, watched, due(12), &[Delivered, Failed]).await;
    play.noon(13).await;
    job_in(&host, watched, due(13), &[Delivered, Failed]).await;
    let dues = [due(12), due(13)];
    assert_delivered(play, host.journal(), watched, &dues, true).await;
    kill(host).await;
}

#[tokio::test]
async fn killed_between_event_and_job() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    eventually("the subscription is known", || async {
        let known = host.journal().subscriptions().await.unwrap();
        (!known.is_empty()).then_some(())
    })
    .await;
    kill(host).await;
    play.noon(12).await;
    let domain = ReportDomain {
        chain_id: play.stage.chain_id,
        delegate: play.stage.delegate,
    };
    let event = Event::new(&domain, watched.subject, Trigger::Clock { due: due(12) });
    let left = journal_of(&play).await;
    let taken = left.record_events(&[event.into()]).await.unwrap();
    assert_eq!(taken[0].how, How::New);
    assert!(jobs(&left, watched.subject).await.is_empty());
    drop(left);
    goes_on(&play, watched).await;
}

#[tokio::test]
async fn killed_during_the_run() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    play.feed.hold();
    play.noon(12).await;
    play.feed.holds().await;
    job_in(&host, watched, due(12), &[Routed]).await;
    kill(host).await;
    play.feed.open();
    goes_on(&play, watched).await;
}

#[tokio::test]
async fn killed_with_a_report_that_was_never_sent() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    play.feed.hold();
    play.noon(12).await;
    play.feed.holds().await;
    play.node.shut().await;
    play.feed.open();
    let record = job_in(&host, watched, due(12), &[Reported]).await;
    let made = record.run.unwrap().report;
    kill(host).await;
    play.node.open();
    goes_on(&play, watched).await;
    let left = journal_of(&play).await;
    let delivered = jobs(&left, watched.subject).await[0].run.clone().unwrap();
    assert_eq!(
        delivered.report, made,
        "the report is delivered, not made again"
    );
}

/// Kills the host while its transaction waits in the node's pool.
async fn killed_with_a_transaction_in_the_pool(play: &Play, watched: Watched) {
    let host = play.host().await;
    play.automine(false).await;
    play.noon(12).await;
    let record = job_in(&host, watched, due(12), &[Submitted]).await;
    let sender = record.submission.unwrap().transmitter;
    let provider = &play.stage.provider;
    eventually("the transaction is in the pool", || async {
        let pending = provider.get_transaction_count(sender).pending();
        (pending.await.unwrap() == 1).then_some(())
    })
    .await;
    kill(host).await;
}

#[tokio::test]
async fn killed_before_its_transaction_is_mined() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    killed_with_a_transaction_in_the_pool(&play, watched).await;
    let host = play.host().await;
    job_in(&host, watched, due(12), &[Submitted]).await;
    play.stage.rpc("evm_mine", ()).await.unwrap();
    play.automine(true).await;
    job_in(&host, watched, due(12), &[Delivered]).await;
    kill(host).await;
    goes_on(&play, watched).await;
    assert_one_transaction(&play, watched).await;
}

#[tokio::test]
async fn killed_after_its_transaction_was_mined() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    killed_with_a_transaction_in_the_pool(&play, watched).await;
    play.stage.rpc("evm_mine", ()).await.unwrap();
    play.automine(true).await;
    assert_eq!(play.consumed(watched.subject).await, [(1, true)]);
    goes_on(&play, watched).await;
    assert_one_transaction(&play, watched).await;
}

async fn assert_one_transaction(play: &Play, watched: Watched) {
    let left = journal_of(play).await;
    let first = jobs(&left, watched.subject).await.remove(0);
    let sent = left.submissions(first.present).await.unwrap();
    assert_eq!(sent.len(), 1, "nothing was sent a second time");
}

/// Days that go by, market open and closed, and kills at moments that the seed decides.
async fn days_of_kills(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let play = Play::market(retry(20)).await;
    let all = [
        play.price_consumer(&["USD"]).await,
        play.price_consumer(&["GBP", "USD"]).await,
    ];
    let mut host = play.host().await;
    for day in 12..=20 {
        play.noon(day).await;
        for _ in 0..random.random_range(0..3) {
            let moment = Duration::from_micros(random.random_range(0..30_000));
            tokio::time::sleep(moment).await;
            kill(host).await;
            host = play.host().await;
        }
    }
    let open: Vec<_> = (12..=16).chain(19..=20).map(due).collect();
    for watched in all {
        for day in 12..=20 {
            job_in(&host, watched, due(day), &[Delivered, Skipped, Failed]).await;
        }
        let journal = host.journal();
        let jobs = jobs(journal, watched.subject).await;
        assert_eq!(jobs.len(), 9, "one job a day, seed {seed}");
        for record in &jobs {
            let story = story(journal, record).await;
            assert_ne!(record.state, Failed, "seed {seed}: {story:?}");
        }
        assert_delivered(&play, journal, watched, &open, true).await;
    }
}

#[tokio::test]
async fn killed_at_random_moments_of_many_days() {
    for seed in 1..=6 {
        days_of_kills(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_of_many_days_on_two_threads() {
    for seed in 101..=104 {
        days_of_kills(seed).await;
    }
}
