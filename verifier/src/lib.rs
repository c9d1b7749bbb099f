//! Judges releases. Being written.
