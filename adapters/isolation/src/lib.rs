//! cryptlet-isolation
