//! cryptlet-host
