//! From a signed report to the chain's word on it: delivered once, or a reason.
//!
//! One [`Deliverer`] owns one transmitter (the account that sends and pays). For each report:
//!
//! 1. *preflight*: the delegate is asked, without a transaction, whether it would consume the report;
//! 2. an EIP-1559 transaction is built (gas by [`gas::limit`], fees by [`fees`]) and signed;
//! 3. it is written to the [`Outbox`] **before** it is broadcast, so that a killed host knows what it may have sent;
//! 4. it is broadcast; a nonce counts as used only once a node has accepted a transaction with it;
//! 5. its receipt is awaited; if none comes, the same bytes are sent again, then a replacement that pays more;
//! 6. the delegate's log says what became of the report.
//!
//! The effect is exactly once because the delegate consumes each sequence number once. Whatever happens here (two
//! transactions for one report, a crash between any two steps), the second is refused and the first is found by its
//! log. A node that is down or a transmitter without funds is waited for, for as long as it takes, and said in the log.
//!
//! - [`deliverer`]: the steps above
//! - [`ports`]: what the host provides: the transmitter's key and the journal
//! - [`nonces`], [`fees`], [`gas`], [`transaction`]: the parts of a transaction

mod account;
mod attempt;
pub mod deliverer;
pub mod error;
pub mod fees;
pub mod gas;
pub mod line;
mod mined;
pub mod nonces;
pub mod ports;
pub mod transaction;
mod window;

pub use deliverer::{BatchOrder, DeliverConfig, Deliverer, Order, Outcome};
pub use error::DeliverError;
pub use line::{Line, Place};
pub use ports::{Outbox, PortError, TransmitterSigner};
