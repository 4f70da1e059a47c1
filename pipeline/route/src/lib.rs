//! cryptlet-route
