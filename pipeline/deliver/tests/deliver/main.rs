//! Delivery against a real chain, with the real contracts: every promise of the crate, and every kind of trouble.

mod anvil;
mod chain;
mod inclusion;
mod outcomes;
mod trouble;
mod world;
