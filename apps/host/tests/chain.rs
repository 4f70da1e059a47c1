//! What the chain does meanwhile: a signer is revoked, a report expires, a contract unsubscribes, the node goes
//! away; and hosts that share or lose a journal.
use crate::support::{
    Play, PriceConsumer,
    account::{assert_delivered, job_in, jobs, story},
    due, end_of, eventually, retry,
};
use alloy::providers::Provider;
use cryptlet_chain::evm::abi::CryptletRegister;
use cryptlet_host::{DataFolder, Host};
use cryptlet_types::JobState::{self, Delivered, Failed, Reported, Routed, Submitted};
use std::time::Duration;

async fn states(host: &Host, record: &cryptlet_journal::JobRecord) -> Vec<JobState> {
    let story = story(host.journal(), record).await;
    story.into_iter().map(|(state, _)| state).collect()
}

#[tokio::test]
async fn a_revoked_signer_is_named_and_nothing_of_it_is_consumed() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    let mut news = host.watch();
    play.noon(12).await;
    let end = end_of(&mut news, watched.subject, due(12)).await;
    assert_eq!(end.delivery(), (1, true));

    let register = CryptletRegister::new(play.stage.register, &play.stage.provider);
    let cryptlet = &play.stage.cryptlet;
    let revoked = register.revokeSigner(cryptlet.cryptlet.0, cryptlet.signer);
    revoked.send().await.unwrap().get_receipt().await.unwrap();
    for day in [13, 14] {
        play.noon(day).await;
        let end = end_of(&mut news, watched.subject, due(day)).await;
        let (job, reason) = end.failure();
        // Whoever hears of it first says no: the delegate at once, the host as soon as it has read the register.
        let refused = reason.contains("refused") && reason.contains(&cryptlet.signer.to_string());
        let known = reason.contains("no signer that is valid now");
        assert!(refused || known, "{reason}");
        let record = host.journal().job(job.id).await.unwrap().unwrap();
        assert_eq!(record.note.as_deref(), Some(reason));
        assert!(
            !states(&host, &record).await.contains(&Submitted),
            "gas for nothing"
        );
    }
    assert_delivered(&play, host.journal(), watched, &[due(12)], true).await;
}

#[tokio::test]
async fn a_report_that_expired_is_made_anew_with_the_same_number() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    play.automine(false).await;
    play.noon(12).await;
    let record = job_in(&host, watched, due(12), &[Submitted]).await;
    let first = record.run.unwrap().report.report;
    // The transaction is in this block, and too late in it.
    play.stage.set_time(first.valid_until + 1).await.unwrap();
    play.automine(true).await;
    let record = job_in(&host, watched, due(12), &[Delivered, Failed]).await;
    let story = story(host.journal(), &record).await;
    let expected = [
        Routed, Reported, Submitted, Routed, Reported, Submitted, Delivered,
    ];
    assert!(
        story.iter().map(|(state, _)| *state).eq(expected),
        "{story:?}"
    );
    assert!(
        story[3].1.as_ref().unwrap().contains("expired"),
        "{story:?}"
    );
    let second = record.run.unwrap().report.report;
    assert_eq!((first.sequence, second.sequence), (1, 1));
    assert_eq!(
        first.payload, second.payload,
        "the rates are those of the day that was due"
    );
    job_in(&host, watched, due(13), &[Delivered]).await;
    assert_delivered(&play, host.journal(), watched, &[due(12), due(13)], true).await;
}

#[tokio::test]
async fn a_report_that_comes_back_after_it_was_made_anew_is_the_delivery_of_its_job() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let mut host = play.host().await;
    play.automine(false).await;
    play.noon(12).await;
    let record = job_in(&host, watched, due(12), &[Submitted]).await;
    let (first, sent) = (record.run.unwrap().report, record.submission.unwrap());
    let in_the_pool = || async {
        let found = play.stage.provider.get_transaction_by_hash(sent.hash);
        found.await.unwrap()
    };
    eventually("the node has it", in_the_pool).await;
    let snapshot = play.snapshot().await;
    let late = first.report.valid_until + 1;
    play.stage.set_time(late).await.unwrap();
    play.automine(true).await;
    let record = job_in(&host, watched, due(12), &[Delivered, Failed]).await;
    assert_ne!(record.run.unwrap().report, first, "it was made anew");
    host.stop().await;
    drop(host);

    // Its transaction is back in the pool, and in time.
    play.automine(false).await;
    play.revert(&snapshot).await;
    play.stage
        .set_time(first.report.issued_at + 2)
        .await
        .unwrap();
    play.automine(true).await;
    assert_eq!(play.consumed(watched.subject).await, [(1, true)]);
    let host = play.host().await;
    let taken_up = || async {
        let record = host.journal().job(record.job.id).await.unwrap().unwrap();
        let run = record.run.filter(|run| run.report == first);
        (record.state == Delivered && run.is_some()).then_some(record.present)
    };
    let present = eventually("the first report is the delivery", taken_up).await;
    assert_eq!(present.number, 0, "the run that the chain has is the one");
    play.stage.set_time(late).await.unwrap();
    job_in(&host, watched, due(13), &[Delivered]).await;
    assert_delivered(&play, host.journal(), watched, &[due(12), due(13)], true).await;
}

#[tokio::test]
async fn a_job_whose_subscription_ends_before_its_run_fails_for_that_reason() {
    let mut play = Play::market(retry(1_000)).await;
    let ending = play.price_consumer(&["USD"]).await;
    let staying = play.price_consumer(&["GBP"]).await;
    let host = play.host().await;
    play.feed.shut().await;
    play.noon(12).await;
    job_in(&host, ending, due(12), &[Routed]).await;
    unsubscribe(&play, ending.consumer).await;
    let record = job_in(&host, ending, due(12), &[Failed, Delivered]).await;
    play.feed.open();
    assert_eq!(record.note.as_deref(), Some("the subscription has ended"));
    job_in(&host, staying, due(12), &[Delivered]).await;
    play.noon(13).await;
    job_in(&host, staying, due(13), &[Delivered]).await;
    assert!(play.consumed(ending.subject).await.is_empty());
    assert_eq!(
        jobs(host.journal(), ending.subject).await.len(),
        1,
        "nothing more is due"
    );
    assert_delivered(&play, host.journal(), staying, &[due(12), due(13)], true).await;
}

#[tokio::test]
async fn a_report_whose_subscription_has_ended_is_refused_by_the_delegate() {
    let mut play = Play::market(retry(9)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    reported(&mut play, &host, watched).await;
    unsubscribe(&play, watched.consumer).await;
    play.node.open();
    let record = job_in(&host, watched, due(12), &[Failed, Delivered]).await;
    let note = record.note.unwrap();
    assert_eq!(
        note,
        "the delegate refused the report: unknown subscription"
    );
    assert!(play.consumed(watched.subject).await.is_empty());
}

async fn unsubscribe(play: &Play, consumer: alloy::primitives::Address) {
    let consumer = PriceConsumer::new(consumer, &play.stage.provider);
    let sent = consumer.unsubscribe().send().await.unwrap();
    assert!(sent.get_receipt().await.unwrap().status());
}

/// Brings the job of day 12 to a report, and leaves the node out of reach.
async fn reported(play: &mut Play, host: &Host, watched: crate::support::account::Watched) {
    play.feed.hold();
    play.noon(12).await;
    // The run has asked the delegate for its number before it asks the feed.
    play.feed.holds().await;
    play.node.shut().await;
    play.feed.open();
    job_in(host, watched, due(12), &[Reported]).await;
}

#[tokio::test]
async fn a_folder_serves_one_host_at_a_time() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let mut first = play.host().await;
    let second = Host::open(&play.config()).await.map(drop).unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    let mut news = first.watch();
    play.noon(12).await;
    let end = end_of(&mut news, watched.subject, due(12)).await;
    assert_eq!(end.delivery(), (1, true));
    first.stop().await;
    drop(first);
    let next = play.host().await;
    assert_delivered(&play, next.journal(), watched, &[due(12)], true).await;
}

#[tokio::test]
async fn a_host_that_lost_its_journal_serves_from_now_on_only() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let mut host = play.host().await;
    play.noon(12).await;
    job_in(&host, watched, due(12), &[Delivered]).await;
    host.stop().await;
    drop(host);
    let journal = DataFolder::at(&play.stage.config.data).journal();
    for suffix in ["", "-wal", "-shm"] {
        let mut file = journal.clone().into_os_string();
        file.push(suffix);
        let _it_may_not_be_there = std::fs::remove_file(file);
    }
    let host = play.host().await;
    let mut news = host.watch();
    play.noon(13).await;
    let end = end_of(&mut news, watched.subject, due(13)).await;
    assert_eq!(end.delivery(), (2, true));
    let jobs = jobs(host.journal(), watched.subject).await;
    assert_eq!(jobs.len(), 1, "nothing of the past is done again");
    assert_eq!(play.consumed(watched.subject).await, [(1, true), (2, true)]);
}

#[tokio::test]
async fn a_node_that_goes_away_is_waited_for() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let mut host = play.host().await;
    play.noon(12).await;
    job_in(&host, watched, due(12), &[Delivered]).await;
    play.node.shut().await;
    play.noon(13).await;
    play.noon(14).await;
    play.node.open();
    job_in(&host, watched, due(14), &[Delivered]).await;
    let dues = [due(12), due(13), due(14)];
    assert_delivered(&play, host.journal(), watched, &dues, true).await;
    assert_running(&mut host).await;
}

#[tokio::test]
async fn a_node_that_comes_and_goes_while_contracts_subscribe_ends_no_host() {
    let mut play = Play::market(retry(3)).await;
    let mut host = play.host().await;
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(play.price_consumer(&["USD"]).await);
        tokio::task::yield_now().await;
        play.node.shut().await;
        play.node.open();
    }
    play.noon(12).await;
    for watched in all {
        job_in(&host, watched, due(12), &[Delivered]).await;
        assert_delivered(&play, host.journal(), watched, &[due(12)], true).await;
    }
    assert_running(&mut host).await;
}

async fn assert_running(host: &mut Host) {
    let ended = tokio::time::timeout(Duration::ZERO, host.ended()).await;
    assert!(ended.is_err(), "{ended:?}");
}
