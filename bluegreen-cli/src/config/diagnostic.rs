//! Shows what is wrong with a file: place, line, caret, what was expected. Never a secret.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::reader::Problem;

/// How many problems are shown; the rest is counted. A hook's console keeps about 2,000 characters.
const SHOWN: usize = 8;

/// Every problem with its source line, and a last line that counts them.
pub(crate) fn render(path: &str, text: &str, problems: &[Problem], styled: bool) -> String {
    let shown_text = without_secrets(text);
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(100);
    let mut output = String::new();
    for problem in problems.iter().take(SHOWN) {
        let at = clamp(&problem.at, text);
        let mut annotation = AnnotationKind::Primary.span(at);
        if !problem.expected.is_empty() {
            annotation = annotation.label(problem.expected.as_str());
        }
        let snippet = Snippet::source(shown_text.as_str()).path(path).annotation(annotation);
        let mut group = Level::ERROR.primary_title(problem.message.as_str()).element(snippet);
        if !problem.help.is_empty() {
            group = group.element(Level::HELP.message(problem.help.as_str()));
        }
        output.push_str(&renderer.render(&[group]));
        output.push_str("\n\n");
    }
    let more = problems.len().saturating_sub(SHOWN);
    if more > 0 {
        output.push_str(&format!("… and {more} more\n"));
    }
    output
}

/// A table can span the whole file; the caret points at its first line. An end of file has nothing to point at.
fn clamp(at: &std::ops::Range<usize>, text: &str) -> std::ops::Range<usize> {
    let mut start = at.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    let mut end = at.end.clamp(start, line_end);
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// The source with every value of an environment or of logging options covered, byte for byte, so that places
/// stay what they are. It works on lines, because it must also work when the file does not parse.
fn without_secrets(text: &str) -> String {
    let mut covered = String::with_capacity(text.len());
    let (mut section_is_secret, mut open_braces) = (false, 0_usize);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if open_braces == 0 && trimmed.starts_with('[') {
            section_is_secret = trimmed
                .trim_matches(|c: char| c == '[' || c == ']' || c.is_whitespace())
                .split('.')
                .any(|part| is_secret(part.trim_matches(['"', '\'', ' '])));
            covered.push_str(line);
            continue;
        }
        let equals = line.find('=');
        let key = equals.map_or("", |equals| line[..equals].trim());
        let secret_key = key.split('.').any(|part| is_secret(part.trim_matches(['"', '\'', ' '])))
            || ["env", "options"]
                .iter()
                .any(|word| line.contains(&format!("{word} =")) || line.contains(&format!("{word}=")));
        if open_braces > 0 || secret_key || section_is_secret {
            // What is already inside a secret table has no key that is worth showing.
            let from = if open_braces > 0 { 0 } else { equals.map_or(0, |equals| equals + 1) };
            covered.push_str(&line[..from]);
            covered.extend(line[from..].bytes().map(|byte| match byte {
                b'\n' | b'\r' | b' ' | b'{' | b'}' => char::from(byte),
                _ => '*',
            }));
            if !section_is_secret {
                let count = |brace: char| line[from..].matches(brace).count();
                open_braces = (open_braces + count('{')).saturating_sub(count('}'));
            }
        } else {
            covered.push_str(line);
        }
    }
    covered
}

fn is_secret(key: &str) -> bool {
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
}
