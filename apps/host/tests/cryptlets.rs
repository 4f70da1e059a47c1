//! Cryptlets that trap, loop, or ask for too much: their jobs fail, each for its own reason, and nobody else's do.
use crate::support::{
    CALLBACK_GAS, Play, STORE_WORD, StoreWord,
    account::{assert_delivered, story},
    behave, due, end_of,
};
use alloy::{primitives::U256, providers::Provider, sol_types::SolCall};
use cryptlet_types::JobState;

/// What hostile cryptlets do, and what is said about it.
const MISBEHAVIOUR: [(&str, &str, &str); 6] = [
    ("trap", "", "cryptlet trapped"),
    ("loop", "", "used up its fuel of 50000000"),
    ("eat", "", "used up its memory of 16777216 bytes"),
    ("recurse", "", "cryptlet trapped"),
    ("huge", "20000", "payload of 20064 bytes, at most 16384"),
    ("refuse", "not today", "cryptlet refused: not today"),
];

#[tokio::test]
async fn hostile_jobs_fail_for_their_own_reasons_and_leave_others_alone() {
    let play = Play::hostile().await;
    let account = play.stage.provider.get_accounts().await.unwrap()[1];
    let mut hostile = Vec::new();
    for (behaviour, detail, reason) in MISBEHAVIOUR {
        let params = behave(behaviour, detail);
        let callback = StoreWord::onReportCall::SELECTOR;
        let subject = play
            .subscribe_as(account, callback, CALLBACK_GAS, &params)
            .await;
        hostile.push((subject, reason));
    }
    let echo = play
        .consumer(STORE_WORD, CALLBACK_GAS, &behave("echo", "still here"))
        .await;
    let mut host = play.host().await;
    for day in [12, 13] {
        let mut news: Vec<_> = hostile.iter().map(|_| host.watch()).collect();
        let mut echo_news = host.watch();
        play.noon(day).await;
        for ((subject, expected), news) in hostile.iter().zip(&mut news) {
            let end = end_of(news, *subject, due(day)).await;
            let (job, reason) = end.failure();
            assert!(reason.contains(expected), "{expected:?} expected: {reason}");
            assert!(end.retried.is_empty(), "it would only do the same again");
            let record = host.journal().job(job.id).await.unwrap().unwrap();
            let last = story(host.journal(), &record).await.pop().unwrap();
            assert_eq!(last, (JobState::Failed, Some(reason.to_owned())));
        }
        let end = end_of(&mut echo_news, echo.subject, due(day)).await;
        assert_eq!(end.delivery(), (day - 11, true));
    }
    for (subject, _) in hostile {
        assert_eq!(play.sequence(subject).await, 0);
        assert!(play.consumed(subject).await.is_empty());
    }
    assert_delivered(&play, host.journal(), echo, &[due(12), due(13)], true).await;
    let consumer = StoreWord::new(echo.consumer, &play.stage.provider);
    // The payload's first word: where the string begins.
    assert_eq!(consumer.word().call().await.unwrap(), U256::from(32));
    host.stop().await;
}
