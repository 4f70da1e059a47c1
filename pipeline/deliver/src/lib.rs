//! cryptlet-deliver
