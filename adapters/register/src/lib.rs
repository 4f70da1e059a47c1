//! cryptlet-register
