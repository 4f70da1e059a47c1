//! cryptlet-audit
