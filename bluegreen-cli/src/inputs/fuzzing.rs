//! What holds for every file of image definitions. Run by `fuzz/` and by `tests/fuzz_corpus.rs`.

use super::{Definitions, parse};

pub(crate) fn imagedefinitions(bytes: &[u8]) {
    let entries = match parse(bytes) {
        Ok(entries) => entries,
        Err(problem) => {
            assert!(!problem.to_string().is_empty());
            return;
        }
    };
    let definitions = Definitions { path: "f.json".into(), entries };
    let entries = &definitions.entries;
    assert!(!entries.is_empty());
    let nameless = entries.iter().filter(|entry| entry.name.is_none()).count();
    assert!(nameless == 0 || entries.len() == 1, "only an imageDetail.json has no name");
    for entry in entries {
        bluegreen_core::fuzzing::image_is_sound(&entry.image);
        let Some(name) = entry.name.as_deref() else { continue };
        assert!(!name.trim().is_empty() && name != "null", "{name:?}");
        let selected = definitions.select(Some(name), Some("another"));
        assert!(
            selected.is_ok_and(|selected| selected == entry),
            "{name:?} is not what is found by its name"
        );
    }
    let alone = definitions.select(None, None);
    assert_eq!(alone.is_ok(), entries.len() == 1);
    let stranger = "no entry has this name";
    let known = entries.iter().any(|entry| entry.name.as_deref() == Some(stranger));
    assert_eq!(definitions.select(Some(stranger), None).is_ok(), known);
}
