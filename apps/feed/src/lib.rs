//! cryptlet-feed
