//! Answers to reads of contracts (ERC-3668), frozen for a window.
//!
//! Whoever asks the same within a window gets the same answer, whatever the world does meanwhile: all who look at a
//! transaction that carries it see one value. The first answer of a window is kept before it is given out, so that a restart
//! gives it out again.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolType, SolValue, sol_data};
use async_trait::async_trait;
use cryptlet_types::{CryptletId, UnixSeconds, answer::MAX_WINDOW_SECONDS};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OnceCell;

/// `abi.encode(address cryptlet, bytes params, uint64 windowLength)`: what `CryptletCaller` gives a gateway.
type CallForm = (sol_data::Address, sol_data::Bytes, sol_data::Uint<64>);

/// Answers that are remembered at the same time. Others are looked up where they are kept.
const MOST: usize = 4_096;

/// A stretch of time in which an answer stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// Its first second.
    pub start: UnixSeconds,
    /// The second after its last one.
    pub end: UnixSeconds,
}

impl Window {
    /// The window of `length` seconds that holds `now`; they begin at multiples of their length. Nothing, if windows have no
    /// length, or this one has no end.
    #[must_use]
    pub fn of(now: UnixSeconds, length: u64) -> Option<Self> {
        let start = now.checked_sub(now.checked_rem(length)?)?;
        let end = start.checked_add(length)?;
        Some(Self { start, end })
    }
}

/// What a contract asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The contract.
    pub sender: Address,
    /// Whom.
    pub cryptlet: CryptletId,
    /// What, ABI-encoded as the cryptlet's header says.
    pub params: Bytes,
    /// Seconds for which the answer stays the same.
    pub window_length: u64,
}

impl Asked {
    /// Reads the call data of a contract that builds on `CryptletCaller`.
    ///
    /// # Errors
    /// What it must be: it is not the one encoding, or the window has no length or a longer one than there is.
    pub fn read(sender: Address, data: &[u8]) -> Result<Self, &'static str> {
        let read = CallForm::abi_decode_params_validate(data);
        let (cryptlet, params, window_length) = read.map_err(
            |_| "expected abi.encode(address cryptlet, bytes params, uint64 windowLength)",
        )?;
        if (cryptlet, params.clone(), window_length).abi_encode_params() != data {
            return Err("expected the one encoding of cryptlet, params and windowLength");
        }
        if !(1..=MAX_WINDOW_SECONDS).contains(&window_length) {
            return Err("windowLength: expected 1 second to 7 days");
        }
        Ok(Self {
            sender,
            cryptlet: CryptletId(cryptlet),
            params,
            window_length,
        })
    }

    /// What an answer names: `keccak256(abi.encode(sender, cryptlet, params, windowLength))`.
    #[must_use]
    pub fn request(&self) -> B256 {
        let named = (
            self.sender,
            self.cryptlet.0,
            self.params.clone(),
            self.window_length,
        );
        keccak256(named.abi_encode_params())
    }

    /// The question that it is at `now`. Nothing, if that moment has no window.
    #[must_use]
    pub fn question(&self, now: UnixSeconds) -> Option<Question> {
        Some(Question {
            window: Window::of(now, self.window_length)?,
            cryptlet: self.cryptlet,
            request: self.request(),
        })
    }
}

/// What is asked, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// When; first, so that the oldest are the first to be forgotten.
    pub window: Window,
    /// Whom.
    pub cryptlet: CryptletId,
    /// Hash of what.
    pub request: B256,
}

/// Where frozen answers lie over restarts.
#[async_trait]
pub trait Frozen: Send + Sync {
    /// Why it cannot be read or written.
    type Error: Send;

    /// The answer that is kept.
    ///
    /// # Errors
    /// It cannot be read.
    async fn find(&self, question: &Question) -> Result<Option<Bytes>, Self::Error>;

    /// Keeps an answer and says which one is kept: another, if there was one already. It is durable when this returns.
    ///
    /// # Errors
    /// It cannot be written; then it must not be given out.
    async fn keep(&self, question: &Question, answer: Bytes) -> Result<Bytes, Self::Error>;
}

type Answers = BTreeMap<Question, Arc<OnceCell<Bytes>>>;

/// Gives the first answer of a window to all who ask in it.
#[derive(Debug)]
pub struct Calls<F> {
    frozen: F,
    answers: Mutex<Answers>,
}

impl<F: Frozen> Calls<F> {
    /// Answers that are kept in `frozen`.
    pub fn new(frozen: F) -> Self {
        Self {
            frozen,
            answers: Mutex::default(),
        }
    }

    /// The answer to `question`; `make` makes it if nobody has asked before. Of several who ask at once one makes it, and
    /// the others wait; if that fails, the next one makes it.
    ///
    /// # Errors
    /// What `make` or the keeping fails with. Then nothing is frozen.
    pub async fn answer<E: From<F::Error>>(
        &self,
        question: Question,
        make: impl AsyncFnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let place = self.place(question);
        let answer = place
            .get_or_try_init(async || {
                if let Some(kept) = self.frozen.find(&question).await? {
                    return Ok(kept);
                }
                let made = make().await?;
                Ok::<_, E>(self.frozen.keep(&question, made).await?)
            })
            .await;
        answer.cloned()
    }

    /// Where the answer is remembered. Who waits for it holds on to its place, whatever is forgotten meanwhile.
    fn place(&self, question: Question) -> Arc<OnceCell<Bytes>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let place = answers.entry(question).or_default().clone();
        while answers.len() > MOST {
            // The oldest window first; one that is being answered is answered all the same.
            let oldest = answers.keys().find(|known| **known != question).copied();
            let Some(oldest) = oldest else { break };
            answers.remove(&oldest);
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    /// Keeps answers in memory, over restarts of what stands before it.
    #[derive(Clone, Debug, Default)]
    struct Disk {
        kept: Arc<Mutex<BTreeMap<Question, Bytes>>>,
        full: Arc<AtomicBool>,
    }

    #[async_trait]
    impl Frozen for Disk {
        type Error = &'static str;

        async fn find(&self, question: &Question) -> Result<Option<Bytes>, &'static str> {
            Ok(self.kept.lock().unwrap().get(question).cloned())
        }

        async fn keep(&self, question: &Question, answer: Bytes) -> Result<Bytes, &'static str> {
            if self.full.load(Ordering::Relaxed) {
                return Err("disk full");
            }
            let mut kept = self.kept.lock().unwrap();
            Ok(kept.entry(*question).or_insert(answer).clone())
        }
    }

    fn question(now: UnixSeconds, request: u8) -> Question {
        Question {
            window: Window::of(now, 60).unwrap(),
            cryptlet: CryptletId(Address::ZERO),
            request: B256::repeat_byte(request),
        }
    }

    async fn ask(calls: &Calls<Disk>, question: Question, value: u8) -> Result<u8, &'static str> {
        let made = async || Ok::<_, &'static str>(Bytes::from(vec![value]));
        calls.answer(question, made).await.map(|answer| answer[0])
    }

    #[tokio::test]
    async fn the_first_answer_of_a_window_stays() {
        let disk = Disk::default();
        let calls = Calls::new(disk.clone());
        assert_eq!(ask(&calls, question(120, 1), 1).await, Ok(1));
        assert_eq!(ask(&calls, question(179, 1), 2).await, Ok(1), "same window");
        assert_eq!(
            ask(&calls, question(180, 1), 3).await,
            Ok(3),
            "the next one"
        );
        assert_eq!(
            ask(&calls, question(120, 2), 4).await,
            Ok(4),
            "another request"
        );
        let other = Question {
            cryptlet: CryptletId(Address::repeat_byte(1)),
            ..question(120, 1)
        };
        assert_eq!(ask(&calls, other, 5).await, Ok(5), "another cryptlet");
        let longer = Question {
            window: Window::of(120, 120).unwrap(),
            ..question(120, 1)
        };
        assert_eq!(ask(&calls, longer, 6).await, Ok(6), "another length");
        // A restart forgets nothing.
        let again = Calls::new(disk);
        assert_eq!(ask(&again, question(130, 1), 7).await, Ok(1));
    }

    #[tokio::test]
    async fn of_several_who_ask_at_once_one_makes_the_answer() {
        let calls = Arc::new(Calls::new(Disk::default()));
        let (go_on, made) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let asked = (0..8).map(|_| {
            let (calls, go_on, made) = (calls.clone(), go_on.clone(), made.clone());
            tokio::spawn(async move {
                let make = async || {
                    go_on.acquire().await.unwrap().forget();
                    let number = made.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, &'static str>(Bytes::from(vec![u8::try_from(number).unwrap()]))
                };
                calls.answer(question(120, 1), make).await
            })
        });
        let asked: Vec<_> = asked.collect();
        go_on.add_permits(8);
        for answer in asked {
            assert_eq!(answer.await.unwrap(), Ok(Bytes::from(vec![0])));
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_could_not_be_kept_or_made_is_not_given_out() {
        let disk = Disk::default();
        let calls = Calls::new(disk.clone());
        disk.full.store(true, Ordering::Relaxed);
        assert_eq!(ask(&calls, question(120, 1), 1).await, Err("disk full"));
        let failed = calls
            .answer(question(120, 1), async || Err::<Bytes, _>("no feed"))
            .await;
        assert_eq!(failed, Err("no feed"));
        disk.full.store(false, Ordering::Relaxed);
        assert_eq!(ask(&calls, question(120, 1), 2).await, Ok(2));
    }

    #[tokio::test]
    async fn what_is_kept_elsewhere_is_what_counts() {
        let disk = Disk::default();
        let calls = Calls::new(disk.clone());
        let make = async || {
            // Another wrote meanwhile.
            disk.keep(&question(120, 1), vec![9].into()).await?;
            Ok::<_, &'static str>(Bytes::from(vec![1]))
        };
        let answer = calls.answer(question(120, 1), make).await;
        assert_eq!(answer, Ok(Bytes::from(vec![9])));
    }

    #[tokio::test]
    async fn memory_is_bounded_and_the_oldest_windows_go_first() {
        let calls = Calls::new(Disk::default());
        for number in 0..u64::try_from(MOST).unwrap() + 10 {
            ask(&calls, question(number * 60, 1), 1).await.unwrap();
        }
        // An old window is asked for again, when all that are remembered are newer.
        assert_eq!(ask(&calls, question(0, 1), 2).await, Ok(1));
        let answers = calls.answers.lock().unwrap();
        assert_eq!(answers.len(), MOST);
        assert!(answers.contains_key(&question(0, 1)));
        assert!(!answers.contains_key(&question(10 * 60, 1)));
    }

    #[test]
    fn what_a_contract_asks_is_read_strictly() {
        let (sender, cryptlet) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let data = |length: u64| (cryptlet, Bytes::from_static(b"USD"), length).abi_encode_params();
        let asked = Asked::read(sender, &data(60)).unwrap();
        assert_eq!(
            (asked.cryptlet.0, &asked.params[..]),
            (cryptlet, &b"USD"[..])
        );
        let again = Asked::read(Address::repeat_byte(3), &data(60)).unwrap();
        assert_ne!(asked.request(), again.request(), "who asks is part of it");
        let window = asked.question(119).unwrap().window;
        assert_eq!(
            window,
            Window {
                start: 60,
                end: 120
            }
        );
        for length in [0, MAX_WINDOW_SECONDS + 1, u64::MAX] {
            assert!(Asked::read(sender, &data(length)).is_err(), "{length}");
        }
        let good = data(60);
        let padded = [good.as_slice(), &[0; 32]].concat();
        let mut dirty = good.clone();
        dirty[0] = 1;
        for wrong in [&[][..], &good[..good.len() - 1], &padded, &dirty] {
            assert!(Asked::read(sender, wrong).is_err());
        }
    }

    #[test]
    fn windows_without_length_or_end_are_none() {
        assert_eq!(Window::of(100, 0), None);
        assert_eq!(Window::of(u64::MAX, 60), None);
        assert_eq!(Window::of(u64::MAX, u64::MAX), None);
        let all = Window {
            start: 0,
            end: u64::MAX,
        };
        assert_eq!(Window::of(5, u64::MAX), Some(all));
    }

    proptest! {
        #[test]
        fn a_window_holds_its_moments_and_no_other_does(now in 0..1u64 << 40, length in 1..1u64 << 30) {
            let window = Window::of(now, length).unwrap();
            prop_assert!(window.start <= now && now < window.end);
            prop_assert_eq!(window.start % length, 0);
            prop_assert_eq!(Window::of(window.start, length), Some(window));
            prop_assert_eq!(Window::of(window.end - 1, length), Some(window));
            prop_assert_ne!(Window::of(window.end, length), Some(window));
        }
    }
}
