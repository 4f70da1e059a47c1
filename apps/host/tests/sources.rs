//! Feeds that are down, wrong or not what they say: nothing is delivered that they did not say, the reason is on
//! record, and the next wake-up works.
use crate::support::{
    Play, PriceConsumer, RATES,
    account::{assert_delivered, job_in, jobs, story},
    due, end_of, retry,
};
use alloy::primitives::U256;
use cryptlet_feed::{Feed, Rates};
use cryptlet_host::{Host, Progress};
use cryptlet_stage::{FEED_NAME, FEED_PLACE};
use cryptlet_types::JobState;
use std::net::Ipv4Addr;
use tokio::{io::AsyncWriteExt, net::TcpListener};

#[tokio::test]
async fn a_feed_that_is_down_is_tried_as_often_as_policy_says() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    play.feed.shut().await;
    let mut host = play.host().await;
    let mut news = host.watch();
    play.noon(12).await;

    let end = end_of(&mut news, watched.subject, due(12)).await;
    let (job, reason) = end.failure();
    assert!(reason.contains(FEED_PLACE), "{reason}");
    assert_eq!(end.retried.len(), 2, "three attempts: {:?}", end.retried);
    let record = host.journal().job(job.id).await.unwrap().unwrap();
    assert_eq!(record.note.as_deref(), Some(reason));
    let states: Vec<_> = story(host.journal(), &record).await;
    let expected = [
        JobState::Routed,
        JobState::Routed,
        JobState::Routed,
        JobState::Parked,
    ];
    assert!(states.iter().map(|(state, _)| *state).eq(expected));
    assert_eq!(play.sequence(watched.subject).await, 0);

    host.stop().await;
    drop(host);
    play.feed.open();
    let host = play.host().await;
    let mut news = host.watch();
    play.noon(13).await;
    let end = end_of(&mut news, watched.subject, due(13)).await;
    assert_eq!(end.delivery(), (1, true));
    assert_delivered(&play, host.journal(), watched, &[due(13)], true).await;
}

#[tokio::test]
async fn a_feed_that_comes_back_in_time_is_heard() {
    let mut play = Play::market(retry(10)).await;
    let watched = play.price_consumer(&["USD", "GBP"]).await;
    play.feed.shut().await;
    let host = play.host().await;
    let mut news = host.watch();
    play.noon(12).await;
    loop {
        if let Progress::Retried { reason, .. } = news.recv().await.unwrap() {
            assert!(reason.contains(FEED_PLACE), "{reason}");
            break;
        }
    }
    play.feed.open();
    let end = end_of(&mut news, watched.subject, due(12)).await;
    assert_eq!(end.delivery(), (1, true));
    assert_delivered(&play, host.journal(), watched, &[due(12)], true).await;

    let consumer = PriceConsumer::new(watched.consumer, &play.stage.provider);
    let told = consumer.latestRates().call().await.unwrap();
    let in_the_file = [1_118_100_000_000_000_000_u128, 844_780_000_000_000_000];
    assert_eq!(told.rates, in_the_file.map(U256::from));
}

#[tokio::test]
async fn a_currency_that_the_feed_does_not_have_is_refused_by_name() {
    let play = Play::market(retry(5)).await;
    let wrong = play.price_consumer(&["USD", "XYZ"]).await;
    let right = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    let mut news = host.watch();
    for day in [12, 13] {
        let mut same_news = news.resubscribe();
        play.noon(day).await;
        let end = end_of(&mut news, wrong.subject, due(day)).await;
        let (_, reason) = end.failure();
        assert!(
            reason.contains("refused") && reason.contains("XYZ"),
            "{reason}"
        );
        assert!(end.retried.is_empty(), "asking again cannot help");
        let end = end_of(&mut same_news, right.subject, due(day)).await;
        assert_eq!(end.delivery(), (day - 11, true));
    }
    assert_eq!(play.sequence(wrong.subject).await, 0);
    assert_delivered(&play, host.journal(), right, &[due(12), due(13)], true).await;
}

/// Answers every connection with bytes that are no TLS.
async fn babbler() -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _peer_may_hang_up = stream.write_all(&[0x5a; 4_096]).await;
        }
    });
    address
}

#[tokio::test]
async fn garbage_and_a_stranger_at_the_feeds_address_are_not_heard() {
    let play = Play::market(retry(2)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let stranger = Feed::start(Rates::parse(RATES).unwrap(), FEED_NAME, any)
        .await
        .unwrap();
    let cases = [
        (12, babbler().await, "corrupt message"),
        (13, stranger.address(), "certificate"),
    ];
    for (day, address, why) in cases {
        let config = play.config_with_feed(address);
        let mut host = Host::open(&config).await.unwrap();
        let mut news = host.watch();
        play.noon(day).await;
        let end = end_of(&mut news, watched.subject, due(day)).await;
        let (_, reason) = end.failure();
        assert!(reason.contains(why), "{reason}");
        assert_eq!(play.sequence(watched.subject).await, 0);
        host.stop().await;
    }
    let mut host = play.host().await;
    let mut news = host.watch();
    play.noon(14).await;
    let end = end_of(&mut news, watched.subject, due(14)).await;
    assert_eq!(end.delivery(), (1, true));
    assert_delivered(&play, host.journal(), watched, &[due(14)], true).await;
    host.stop().await;
}

#[tokio::test]
async fn a_closed_day_is_skipped_and_costs_no_number() {
    let play = Play::market(retry(2)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let host = play.host().await;
    for day in 16..=19 {
        play.noon(day).await;
        let ends = [JobState::Delivered, JobState::Skipped];
        job_in(&host, watched, due(day), &ends).await;
    }
    let states: Vec<_> = jobs(host.journal(), watched.subject).await;
    let closed = states
        .iter()
        .filter(|record| record.state == JobState::Skipped);
    let notes: Vec<_> = closed.map(|record| record.note.clone().unwrap()).collect();
    assert!(
        notes.contains(&"market closed on 2026-10-17".to_owned()),
        "{notes:?}"
    );
    let open: Vec<_> = (12..=16).chain([19]).map(due).collect();
    assert_delivered(&play, host.journal(), watched, &open, true).await;
}
