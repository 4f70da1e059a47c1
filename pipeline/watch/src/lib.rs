//! cryptlet-watch
