//! What holds for every input of the parsers, one function each: it panics when it does not hold.
//!
//! The fuzz targets in `fuzz/` call them, and `tests/fuzz_corpus.rs` does with the inputs that were kept.

use crate::adapter;
use crate::model::{Digest, ImageRef, ImageSource};

/// An image reference.
///
/// # Panics
///
/// When one that is taken has anything outside of the Engine's grammar, or means something else once it is printed.
pub fn image_ref(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(image) = text.parse::<ImageRef>() else { return };
    image_is_sound(&image);
}

/// The same for one that was found in another input.
///
/// # Panics
///
/// As [`image_ref`].
pub fn image_is_sound(image: &ImageRef) {
    let shown = image.to_string();
    assert_eq!(shown.parse().as_ref(), Ok(image), "it reads back as another one");
    let json = serde_json::to_string(image).unwrap_or_default();
    assert_eq!(serde_json::from_str::<ImageRef>(&json).ok().as_ref(), Some(image), "{json}");

    // The Engine gets this one, and must take it for the same.
    let full = image.name().parse::<ImageRef>();
    let same =
        |other: &ImageRef| (other.registry(), other.repository()) == (image.registry(), image.repository());
    assert!(full.as_ref().is_ok_and(same), "{} means {full:?}", image.name());

    registry_is_sound(image.registry());
    assert!(image.registry() != "docker.io" || image.repository().contains('/'), "it has no owner");
    assert!(image.repository().len() <= 255);
    for part in image.repository().split('/') {
        let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(part.starts_with(alnum) && part.ends_with(alnum), "{part:?}");
        for separator in part.split(alnum) {
            let dashes = separator.bytes().all(|byte| byte == b'-');
            assert!(matches!(separator, "." | "_" | "__") || dashes, "{separator:?} in {part:?}");
        }
    }
    if let Some(tag) = image.tag() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!((1..=128).contains(&tag.len()) && tag.starts_with(word), "{tag:?}");
        assert!(tag.chars().all(|c| word(c) || c == '.' || c == '-'), "{tag:?}");
    }
    assert!(image.tag().is_some() || image.digest().is_some());

    let digest = image.digest().cloned().or_else(|| Digest::new(format!("sha256:{}", "0".repeat(64))).ok());
    let Some(digest) = digest else { return };
    assert_eq!(digest.short().len(), 12);
    let pinned = image.pin(digest.clone());
    assert_eq!(pinned.source(), ImageSource::Registry);
    assert_eq!(pinned.run_reference(), format!("{}@{digest}", image.name()));
    assert_eq!(image.pin_local(digest.clone()).run_reference(), digest.as_str());
}

fn registry_is_sound(registry: &str) {
    let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
    assert!(!host.is_empty() && host.len() <= 255);
    assert!(host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-'), "{host:?}");
    assert!(host == "localhost" || host.contains('.') || port.is_some(), "{host:?} would be an owner");
    if let Some(port) = port {
        let number = port.parse::<u16>().unwrap_or_default();
        assert!(number > 0 && number.to_string() == port, "{port:?} is no port");
    }
}

/// A user's nginx file, and what `nginx -T` prints.
///
/// # Panics
///
/// When a name cannot be exchanged there and back, another byte changes, or a word is not where it is said to be.
pub fn nginx_rewrite(bytes: &[u8]) {
    adapter::nginx::fuzzing::nginx_rewrite(bytes);
}

/// A journal.
///
/// # Panics
///
/// When anything but its last line is left out, damage is not told, or a record that is refused changes the state.
pub fn journal(bytes: &[u8]) {
    adapter::file::fuzzing::journal(bytes);
}
