//! cryptlet-seal
