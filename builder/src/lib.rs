//! Composes images. Being written.
