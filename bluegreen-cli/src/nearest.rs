//! The valid name that somebody probably meant.

/// The name that is nearest to `word`, if one is near enough to be worth a suggestion.
pub(crate) fn name<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let word = normal(word);
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&word, &normal(name)), name))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// Case and separators are the commonest slips of all.
fn normal(name: &str) -> String {
    name.to_lowercase().replace(['-', '.', ' '], "_")
}

#[cfg(test)]
mod tests {
    #[test]
    fn slips_are_recognized_and_strangers_are_not() {
        let names = ["image", "ports", "port", "env_file", "stop_timeout"];
        for (word, meant) in [
            ("imgae", Some("image")),
            ("envFile", Some("env_file")),
            ("env-file", Some("env_file")),
            ("Port", Some("port")),
            ("stop-timeout", Some("stop_timeout")),
            ("zzz", None),
        ] {
            assert_eq!(super::name(word, names), meant, "{word}");
        }
    }
}
