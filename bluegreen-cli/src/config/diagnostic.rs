//! Shows what is wrong with a file: place, line, caret, what was expected. Never a secret.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::covered::without_secrets;
use super::reader::Problem;

/// How many problems are shown; the rest is counted. A hook's console keeps about 2,000 characters.
pub(super) const SHOWN: usize = 8;

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
