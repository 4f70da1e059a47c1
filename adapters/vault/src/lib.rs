//! cryptlet-vault
