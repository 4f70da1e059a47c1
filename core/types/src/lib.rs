//! cryptlet-types
