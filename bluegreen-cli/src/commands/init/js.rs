//! A JavaScript file that exports plain values, as `ecosystem.config.js` does. It is read, never run: what is no
//! plain value is kept as the code that it is, for a person.

use super::tree::{Node, Value};

/// What may be open at once.
const DEPTH: usize = 64;

/// Reads `module.exports = …`, `export default …` or a file that is one value.
///
/// # Errors
///
/// When it exports nothing that can be read.
pub(super) fn read(text: &str) -> Result<Node, String> {
    let mut reader = Reader { text, at: 0, line: 1, depth: 0 };
    let start = ["module.exports", "exports.default", "export default"]
        .iter()
        .filter_map(|word| Some((find_code(text, word)?, word.len())))
        .max();
    if let Some((at, length)) = start {
        reader.to(at + length);
        reader.space();
        if reader.rest().starts_with('=') {
            reader.bump();
        }
    }
    let mut node = reader.value();
    // `module.exports = config`: what that was made of stands above.
    if let Value::Code(name) = &node.value {
        let name = name.trim_end_matches(';').trim();
        let defined = ["const", "let", "var"].iter().find_map(|word| {
            let at = find_code(text, &format!("{word} {name}"))?;
            Some((at, word.len() + 1 + name.len()))
        });
        if let Some((at, length)) = defined.filter(|_| is_name(name)) {
            let mut reader = Reader { text, at: 0, line: 1, depth: 0 };
            reader.to(at + length);
            reader.space();
            if reader.rest().starts_with('=') {
                reader.bump();
                node = reader.value();
            }
        }
    }
    match node.value {
        Value::Map(_) | Value::List(_) => Ok(node),
        _ => Err("it exports nothing that can be read without running it".to_owned()),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_$".contains(c))
}

/// Where that stands as code: not in a comment, not in a text.
fn find_code(text: &str, wanted: &str) -> Option<usize> {
    let mut reader = Reader { text, at: 0, line: 1, depth: 0 };
    let mut found = None;
    while !reader.rest().is_empty() {
        reader.space();
        if reader.rest().starts_with(wanted) {
            found = Some(reader.at);
        }
        match reader.rest().chars().next() {
            Some(quote @ ('"' | '\'' | '`')) => drop(reader.quoted(quote)),
            Some(_) => reader.bump(),
            None => {}
        }
    }
    found
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    line: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn bump(&mut self) {
        if let Some(c) = self.rest().chars().next() {
            self.at += c.len_utf8();
            self.line += usize::from(c == '\n');
        }
    }

    fn to(&mut self, at: usize) {
        while self.at < at {
            self.bump();
        }
    }

    /// Past white space and comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            if rest.starts_with(char::is_whitespace) {
                self.bump();
            } else if rest.starts_with("//") || (self.at == 0 && rest.starts_with("#!")) {
                self.to(self.at + rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("/*") {
                self.to(self.at + rest.find("*/").map_or(rest.len(), |end| end + 2));
            } else {
                return;
            }
        }
    }

    fn value(&mut self) -> Node {
        self.space();
        let (line, start) = (self.line, self.at);
        self.depth += 1;
        let value = match self.rest().chars().next() {
            Some('{') if self.depth < DEPTH => self.map(),
            Some('[') if self.depth < DEPTH => self.list(),
            Some(quote @ ('"' | '\'' | '`')) => self.quoted(quote).map_or(Value::Null, Value::Text),
            _ => self.word(),
        };
        self.depth -= 1;
        // Whatever follows a value but the end of its place makes it a part of an expression.
        self.space();
        let ends = self.rest().is_empty() || self.rest().starts_with([',', '}', ']', ';']);
        let line_ends = self.depth == 0;
        if (ends || line_ends) && !matches!(value, Value::Code(_)) {
            return Node::new(line, value);
        }
        self.skip();
        Node::new(line, Value::Code(self.text[start..self.at].trim().to_owned()))
    }

    /// A number or a word that means a value.
    fn word(&mut self) -> Value {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_$.-+".contains(c))).unwrap_or(rest.len());
        let word = &rest[..end];
        self.to(self.at + end);
        match word {
            "null" | "undefined" => Value::Null,
            "true" | "false" => Value::Text(word.to_owned()),
            _ if word.replace('_', "").parse::<f64>().is_ok() => Value::Text(word.replace('_', "")),
            _ => Value::Code(word.to_owned()),
        }
    }

    /// Past the rest of an expression, brackets and texts in it as a whole.
    fn skip(&mut self) {
        let mut open = 0_usize;
        loop {
            self.space();
            match self.rest().chars().next() {
                None => return,
                Some(',' | ';' | '}' | ']' | ')') if open == 0 => return,
                Some('{' | '[' | '(') => open += 1,
                Some('}' | ']' | ')') => open -= 1,
                Some(quote @ ('"' | '\'' | '`')) => {
                    drop(self.quoted(quote));
                    continue;
                }
                Some(_) => {}
            }
            self.bump();
        }
    }

    /// A text; none when it has expressions in it.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut plain = true;
        self.bump();
        while let Some(c) = self.rest().chars().next() {
            plain &= !(quote == '`' && self.rest().starts_with("${"));
            self.bump();
            match c {
                '\\' => {
                    let next = self.rest().chars().next();
                    self.bump();
                    text.extend(match next {
                        Some('n') => Some('\n'),
                        Some('t') => Some('\t'),
                        Some('\n') => None,
                        other => other,
                    });
                }
                c if c == quote => return plain.then_some(text),
                c => text.push(c),
            }
        }
        None
    }

    fn list(&mut self) -> Value {
        let mut items = Vec::new();
        self.bump();
        loop {
            self.space();
            match self.rest().chars().next() {
                None => return Value::Code("[".to_owned()),
                Some(']') => {
                    self.bump();
                    return Value::List(items);
                }
                Some(',') => self.bump(),
                Some(_) => {
                    let before = self.at;
                    items.push(self.value());
                    if self.at == before {
                        self.bump();
                    }
                }
            }
        }
    }

    fn map(&mut self) -> Value {
        let mut entries = Vec::new();
        self.bump();
        loop {
            self.space();
            let line = self.line;
            match self.rest().chars().next() {
                None => return Value::Code("{".to_owned()),
                Some('}') => {
                    self.bump();
                    return Value::Map(entries);
                }
                Some(',') => self.bump(),
                Some(_) => {
                    let before = self.at;
                    let key = self.key();
                    self.space();
                    if self.rest().starts_with(':') {
                        self.bump();
                        let value = self.value();
                        entries.push((key, value));
                    } else {
                        // A name alone, `...spread`, a function.
                        self.skip();
                        let code = self.text[before..self.at].trim().to_owned();
                        entries.push((key, Node::new(line, Value::Code(code))));
                    }
                    if self.at == before {
                        self.bump();
                    }
                }
            }
        }
    }

    fn key(&mut self) -> String {
        if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
            self.quoted(quote).unwrap_or_default()
        } else {
            let rest = self.rest();
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_$.".contains(c))).unwrap_or(rest.len());
            self.to(self.at + end);
            rest[..end].to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_values_are_read_and_code_is_kept_as_code() {
        let text = "#!/usr/bin/env node\nconst path = require('path'); // module.exports = { no: 1 }\n\
                    module.exports = {\n  apps: [{\n    name: \"a\", 'b': 'x\\'y', n: 1_000, t: true, u: undefined,\n\
                    cwd: path.join(__dirname, 'x'),\n    env: { ...base, PORT: process.env.PORT || 3000, T: `t`, },\n\
                    /* } */ max: -1, log: `l-${x}`,\n  },],\n};\n";
        let root = read(text).unwrap();
        let app = root.get("apps").unwrap().items()[0];
        let of = |key: &str| app.get(key).map(|node| node.value.clone());
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        assert_eq!(
            (of("name"), of("b"), of("n"), of("t")),
            (text("a"), text("x'y"), text("1000"), text("true"))
        );
        assert_eq!(of("max"), text("-1"));
        assert_eq!(of("cwd"), Some(Value::Code("path.join(__dirname, 'x')".to_owned())));
        let env = app.get("env").unwrap();
        assert_eq!(env.get("PORT").map(|n| n.line), Some(7));
        assert!(
            matches!(&env.get("PORT").unwrap().value, Value::Code(code) if code == "process.env.PORT || 3000")
        );
        assert_eq!(env.get("T").unwrap().text(), Some("t"));
    }

    #[test]
    fn what_is_exported_by_its_name_is_found() {
        for text in [
            "const config = { apps: [] }\nmodule.exports = config;\n",
            "export default { apps: [] }",
            "{ \"apps\": [] }",
            "\"use strict\";\nObject.defineProperty(exports, \"__esModule\", { value: true });\nexports.default = { apps: [] };",
        ] {
            assert!(read(text).unwrap().get("apps").is_some(), "{text}");
        }
        assert!(read("module.exports = require('./other')").is_err());
        assert!(read("module.exports = make({ apps: [] })").is_err());
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "[a-z{}\\[\\]:,'\"`$/*\\\\\\n .=;()]{0,80}") {
            drop(read(&text));
            drop(read(&format!("module.exports = {{ a: {text}")));
        }
    }
}
