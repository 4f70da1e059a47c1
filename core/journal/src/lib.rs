//! cryptlet-journal
