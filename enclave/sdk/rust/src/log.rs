//! Lines for the operator.

use crate::bindings::bletchley::cryptlet::log as wire;

pub use wire::Level;

/// Writes a line; [`info!`](crate::info) and its siblings format it.
pub fn write(level: Level, message: &str) {
    wire::write(level, message);
}

/// For the author.
#[macro_export]
macro_rules! debug { ($($line:tt)*) => { $crate::write($crate::Level::Debug, &::std::format!($($line)*)) }; }
/// For the operator, in passing.
#[macro_export]
macro_rules! info { ($($line:tt)*) => { $crate::write($crate::Level::Info, &::std::format!($($line)*)) }; }
/// For the operator, soon.
#[macro_export]
macro_rules! warn { ($($line:tt)*) => { $crate::write($crate::Level::Warn, &::std::format!($($line)*)) }; }
/// For the operator, now.
#[macro_export]
macro_rules! error { ($($line:tt)*) => { $crate::write($crate::Level::Error, &::std::format!($($line)*)) }; }
