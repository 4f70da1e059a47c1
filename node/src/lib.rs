//! cryptlet-node
