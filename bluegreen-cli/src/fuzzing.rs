//! What holds for every input of the parsers, one function each: it panics when it does not hold.
//!
//! The fuzz targets in `fuzz/` call them, and `tests/fuzz_corpus.rs` does with the inputs that were kept.

/// A configuration, and an environment file.
///
/// # Panics
///
/// When something is wrong with it and no line is shown, or a secret is.
pub fn config(bytes: &[u8]) {
    crate::config::fuzzing::config(bytes);
}

/// A file of image definitions.
///
/// # Panics
///
/// When an entry that is taken has no sound image or no name of its own.
pub fn imagedefinitions(bytes: &[u8]) {
    crate::inputs::fuzzing::imagedefinitions(bytes);
}
