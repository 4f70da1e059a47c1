//! cryptlet-run
