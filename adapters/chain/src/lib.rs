//! cryptlet-chain
