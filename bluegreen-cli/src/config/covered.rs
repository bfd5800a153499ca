//! A configuration's text with every value of an environment or of logging options covered.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text, byte for byte, so that places stay what they are.
pub(super) fn without_secrets(text: &str) -> String {
    let (table, errors) = DeTable::parse_recoverable(text);
    // What is a value is known where it can be read as TOML, and guessed beyond that where it cannot.
    let covered = if errors.is_empty() { text.to_owned() } else { by_lines(text) };
    let mut covered = covered.into_bytes();
    let mut spans = Vec::new();
    in_table(table.get_ref(), false, &mut spans);
    for span in spans {
        for byte in covered.get_mut(span).into_iter().flatten().filter(|byte| !matches!(byte, b'\n' | b'\r'))
        {
            *byte = b'*';
        }
    }
    // A span never ends inside a letter; if one did, nothing would be shown.
    String::from_utf8(covered).unwrap_or_else(|_| "*".repeat(text.len()))
}

fn in_table(table: &DeTable<'_>, is_secret: bool, spans: &mut Vec<std::ops::Range<usize>>) {
    for (key, value) in table {
        in_value(value, is_secret || is_secret_key(key.get_ref()), spans);
    }
}

fn in_value(value: &Spanned<DeValue<'_>>, is_secret: bool, spans: &mut Vec<std::ops::Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, is_secret, spans),
        DeValue::Array(list) => list.iter().for_each(|value| in_value(value, is_secret, spans)),
        _ if is_secret => spans.push(value.span()),
        _ => {}
    }
}

/// What is open at the end of a line.
#[derive(Default)]
struct Open {
    brackets: usize,
    /// The quotes that end a text of several lines.
    text: Option<&'static str>,
}

impl Open {
    fn is_closed(&self) -> bool {
        self.brackets == 0 && self.text.is_none()
    }

    /// Takes a line, or the rest of one, into account.
    fn read(&mut self, mut part: &str) {
        while let Some(quotes) = self.text.or_else(|| first(part)) {
            let Some(at) = part.find(quotes) else { break };
            if self.text.is_none() {
                self.count(&part[..at]);
            }
            self.text = self.text.is_none().then_some(quotes);
            part = &part[at + quotes.len()..];
        }
        if self.text.is_none() {
            self.count(part);
        }
    }

    fn count(&mut self, part: &str) {
        let opened = part.matches(['{', '[']).count();
        self.brackets = (self.brackets + opened).saturating_sub(part.matches(['}', ']']).count());
    }
}

/// Whichever quotes of several lines come first.
fn first(part: &str) -> Option<&'static str> {
    ["\"\"\"", "'''"]
        .into_iter()
        .filter_map(|quotes| Some((part.find(quotes)?, quotes)))
        .min()
        .map(|(_, q)| q)
}

/// It works on lines, because it must also work when the file cannot be read as TOML.
fn by_lines(text: &str) -> String {
    let mut covered = String::with_capacity(text.len());
    let (mut section_is_secret, mut open) = (false, Open::default());
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if open.is_closed() && trimmed.starts_with('[') {
            section_is_secret = trimmed
                .trim_matches(|c: char| c == '[' || c == ']' || c.is_whitespace())
                .split('.')
                .any(|part| is_secret_key(part.trim_matches(['"', '\'', ' '])));
            covered.push_str(line);
            continue;
        }
        if open.is_closed() && !section_is_secret && !has_secret_key(line) {
            covered.push_str(line);
            continue;
        }
        // What is already inside a secret value has no key that is worth showing.
        let from = if open.is_closed() { line.find('=').map_or(0, |equals| equals + 1) } else { 0 };
        covered.push_str(&line[..from]);
        covered.extend(line[from..].bytes().map(|byte| match byte {
            b'\n' | b'\r' | b' ' | b'{' | b'}' => char::from(byte),
            _ => '*',
        }));
        open.read(&line[from..]);
    }
    covered
}

/// Whether a line has a key of a secret anywhere: `env = …`, `"env".A = …`, `web = { env.A = … }`.
fn has_secret_key(line: &str) -> bool {
    let names = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    ["env", "options"].iter().any(|word| {
        line.match_indices(word).any(|(at, _)| {
            let after = line[at + word.len()..].trim_start_matches(['"', '\'', ' ', '\t']);
            !line[..at].ends_with(names) && after.starts_with(['.', '='])
        })
    })
}

fn is_secret_key(key: &str) -> bool {
    matches!(key, "env" | "options")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_an_environment_are_covered_however_they_are_written() {
        for text in [
            "[app.web.env]\nPASSWORD = \"hunter2\"\n",
            "[app.web]\nenv = { PASSWORD = \"hunter2\" }\n",
            "[app.web]\nenv.PASSWORD = \"hunter2\"\n",
            "[app.web]\nenv = {\n  PASSWORD = \"hunter2\",\n}\n",
            "[app.web.env]\nPASSWORD = \"hunter2\n",
            "[app.\"a.b\".env]\nPASSWORD=\"\"\"\nhunter2\n\"\"\"\n",
            "app = { web = { env = { PASSWORD = \"hunter2\" } } }\n",
            "[app.web.log.options]\nsplunk-token = \"hunter2\"\n",
            "[app]\nweb = { env.PASSWORD = \"hunter2\", prot = 1 }\n",
            "[app]\nweb = { \"env\" = { PASSWORD = \"hunter2\" }, prot = 1 }\n",
            "[app]\nweb = { env.PASSWORD = \"\"\"\nhunter2\"\"\", prot = 1 }\n",
            "[app.web]\nenv.PASSWORD = \"\"\"\nhunter2 \\q\n\"\"\"\n",
            "[app.web.env]\nPASSWORD = '''\n[\"hunter2\", \"hunter2\"]\n''' nonsense\n",
            "[app.web]\nlog.options.tokens = [\n\"hunter2\"\n] nonsense\n",
            "[app.web]\n\"e\\u006ev\" = { PASSWORD = \"hunter2\" }\n",
        ] {
            let covered = without_secrets(text);
            assert!(!covered.contains("hunter2"), "{covered}");
            assert_eq!(covered.len(), text.len());
        }
    }

    #[test]
    fn what_follows_an_environment_is_shown_again() {
        let text =
            "[app.web]\nenv = { A = \"x\" }\nport = 1\n[app.web.env]\nB = \"y\"\n[docker]\nhost = \"z\"\n";
        let covered = without_secrets(text);
        assert!(covered.contains("port = 1") && covered.contains("host = \"z\""), "{covered}");
    }

    #[test]
    fn a_name_that_only_looks_like_it_is_shown() {
        let text = "[app.web]\nenv_file = \"web.env\"\nmy-env = 1\n";
        assert_eq!(without_secrets(text), text);
    }
}
