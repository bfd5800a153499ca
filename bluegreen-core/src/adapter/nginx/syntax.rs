//! nginx's configuration language, with the byte offset of each word kept.
//!
//! The rules are those of nginx's own reader (`ngx_conf_read_token`): a word ends at white space, `;` or `{`;
//! quotes and `#` mean something only at a word's start; a backslash takes the next byte along; `${` is no block.
//! A `*_by_lua_block` holds Lua, raw to its brace, as its nginx module reads it: braces in strings, comments and
//! long brackets do not count.

use std::ops::Range;

/// One directive with its block, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// Its name.
    pub(super) name: String,
    /// Its arguments; the last one of a block of Lua is its code.
    pub(super) args: Vec<Word>,
    /// The directives inside its braces; none in a block of Lua.
    pub(super) block: Option<Vec<Self>>,
    /// The line it starts on, counted from 1.
    pub(super) line: usize,
    /// From its name to its `;` or `}`, that included.
    pub(super) span: Range<usize>,
}

impl Directive {
    /// The value of an argument.
    pub(super) fn arg(&self, index: usize) -> Option<&str> {
        self.args.get(index).map(|word| word.value.as_str())
    }

    /// What is inside, nothing for one without a block.
    pub(super) fn children(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// Itself and everything inside, each with the name of the block that it stands in.
    pub(super) fn walk<'a>(&'a self, parent: &'a str, visit: &mut dyn FnMut(&'a Self, &'a str)) {
        visit(self, parent);
        for child in self.children() {
            child.walk(&self.name, visit);
        }
    }
}

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Without its quotes. Backslashes stay: none of the values that matter here has one.
    pub(super) value: String,
    /// Where the value lies in the text, quotes left out.
    pub(super) span: Range<usize>,
    /// The line it starts on.
    pub(super) line: usize,
}

/// Where and why a text is no nginx configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// What was expected there.
    pub(super) reason: &'static str,
}

enum Token {
    Word(Word),
    Open(usize),
    Close(usize),
    End(usize),
}

/// A text of the same length with all that is not ASCII made `?`: what matters here is ASCII, and a user's comment
/// may be in any encoding.
pub(super) fn ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect()
}

/// How deep blocks may lie in each other. nginx itself has no use for more than eight.
const DEPTH: usize = 64;

/// How the names of the directives end whose block is Lua.
const LUA: &str = "_by_lua_block";

/// Reads a whole file of ASCII (see [`ascii`]).
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let mut reader = Reader { bytes: text.as_bytes(), text, at: 0, line: 1 };
    // The blocks that are open: the directive that each belongs to, and what stood before it.
    let mut open: Vec<(Directive, Vec<Directive>)> = Vec::new();
    let mut done = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    while let Some(token) = reader.token()? {
        match token {
            Token::Word(word) => words.push(word),
            Token::End(line) => done.push(directive(&mut words, line, reader.at)?),
            Token::Open(line) => {
                if open.len() == DEPTH {
                    return Err(SyntaxError { line, reason: "blocks lie too deep in each other" });
                }
                let mut owner = directive(&mut words, line, reader.at)?;
                if owner.name.ends_with(LUA) {
                    owner.args.push(reader.lua(line)?);
                    owner.block = Some(Vec::new());
                    owner.span.end = reader.at;
                    done.push(owner);
                } else {
                    open.push((owner, std::mem::take(&mut done)));
                }
            }
            Token::Close(line) => {
                if !words.is_empty() {
                    return Err(SyntaxError { line, reason: "`;` is missing before `}`" });
                }
                let Some((mut owner, before)) = open.pop() else {
                    return Err(SyntaxError { line, reason: "`}` closes nothing" });
                };
                owner.block = Some(std::mem::replace(&mut done, before));
                owner.span.end = reader.at;
                done.push(owner);
            }
        }
    }
    if let Some(word) = words.first() {
        return Err(SyntaxError { line: word.line, reason: "`;` is missing" });
    }
    if let Some((owner, _)) = open.pop() {
        return Err(SyntaxError { line: owner.line, reason: "its `}` is missing" });
    }
    Ok(done)
}

fn directive(words: &mut Vec<Word>, line: usize, end: usize) -> Result<Directive, SyntaxError> {
    let mut words = std::mem::take(words).into_iter();
    let name = words.next().ok_or(SyntaxError { line, reason: "a directive has no name" })?;
    // A name may be quoted, and the quote is no part of its span; nobody writes that.
    let span = name.span.start..end;
    Ok(Directive { name: name.value, args: words.collect(), block: None, line: name.line, span })
}

struct Reader<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn bump(&mut self) {
        if self.bytes.get(self.at) == Some(&b'\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    fn token(&mut self) -> Result<Option<Token>, SyntaxError> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.bump(),
                b'#' => {
                    while self.bytes.get(self.at).is_some_and(|byte| *byte != b'\n') {
                        self.at += 1;
                    }
                }
                b';' => return Ok(Some(Token::End(self.step()))),
                b'{' => return Ok(Some(Token::Open(self.step()))),
                b'}' => return Ok(Some(Token::Close(self.step()))),
                b'"' | b'\'' => return self.quoted(*byte).map(|word| Some(Token::Word(word))),
                _ => return Ok(Some(Token::Word(self.bare()))),
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> usize {
        self.at += 1;
        self.line
    }

    fn word(&self, start: usize, line: usize) -> Word {
        let value = self.text.get(start..self.at).unwrap_or_default().to_owned();
        Word { value, span: start..self.at, line }
    }

    fn quoted(&mut self, quote: u8) -> Result<Word, SyntaxError> {
        let line = self.line;
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(SyntaxError { line, reason: "its closing quote is missing" }),
                Some(b'\\') => {
                    self.at += 1;
                    self.bump();
                }
                Some(byte) if *byte == quote => break,
                Some(_) => self.bump(),
            }
        }
        let word = self.word(start, line);
        self.at += 1;
        match self.bytes.get(self.at) {
            None | Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')') => Ok(word),
            Some(_) => Err(SyntaxError { line: self.line, reason: "a space is missing after a quote" }),
        }
    }

    /// Lua code up to the brace that closes its block, and past that.
    fn lua(&mut self, line: usize) -> Result<Word, SyntaxError> {
        let (start, first) = (self.at, self.line);
        let mut depth = 1_usize;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b'"' | b'\'' => self.lua_string(*byte)?,
                b'-' if self.bytes.get(self.at + 1) == Some(&b'-') => self.lua_comment()?,
                b'[' => self.long_bracket()?,
                _ => {}
            }
            if depth == 0 {
                let code = self.word(start, first);
                self.at += 1;
                return Ok(code);
            }
            self.bump();
        }
        Err(SyntaxError { line, reason: "the `}` of its Lua code is missing" })
    }

    /// From its quote to the quote that ends it.
    fn lua_string(&mut self, quote: u8) -> Result<(), SyntaxError> {
        let line = self.line;
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 1,
                byte if *byte == quote => return Ok(()),
                _ => {}
            }
            self.bump();
        }
        Err(SyntaxError { line, reason: "a closing quote is missing in Lua code" })
    }

    /// From its dashes to its last byte.
    fn lua_comment(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        if self.bytes.get(self.at + 1) == Some(&b'[') {
            self.at += 1;
            let before = self.at;
            self.long_bracket()?;
            if self.at > before {
                return Ok(());
            }
        }
        while self.bytes.get(self.at + 1).is_some_and(|byte| *byte != b'\n') {
            self.at += 1;
        }
        Ok(())
    }

    /// From `[==[` to the last byte of the `]==]` with as many `=`; a bracket that is none of these is passed by.
    fn long_bracket(&mut self) -> Result<(), SyntaxError> {
        let line = self.line;
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let level = rest.iter().take_while(|byte| **byte == b'=').count();
        if rest.get(level) != Some(&b'[') {
            return Ok(());
        }
        let close = [b"]", "=".repeat(level).as_bytes(), b"]"].concat();
        self.at += level + 2;
        while self.at < self.bytes.len() {
            if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(&close)) {
                self.at += level + 1;
                return Ok(());
            }
            self.bump();
        }
        Err(SyntaxError { line, reason: "a long bracket of Lua code is not closed" })
    }

    fn bare(&mut self) -> Word {
        let (start, line) = (self.at, self.line);
        let mut dollar = false;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' => break,
                b'{' if !dollar => break,
                b'\\' => {
                    self.at += 1;
                    if self.at < self.bytes.len() {
                        self.bump();
                    }
                    dollar = false;
                    continue;
                }
                byte => dollar = *byte == b'$',
            }
            self.at += 1;
        }
        self.word(start, line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(directives: &[Directive]) -> String {
        let one = |directive: &Directive| {
            let args: Vec<_> = directive.args.iter().map(|word| format!("[{}]", word.value)).collect();
            let inside =
                directive.block.as_ref().map_or(String::new(), |block| format!("{{{}}}", shape(block)));
            format!("{}{}{inside}", directive.name, args.concat())
        };
        directives.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nginx_own_rules() {
        for (text, expected) in [
            ("a b;c;", "a[b] c"),
            ("a{b c;}d;", "a{b[c]} d"),
            ("a b#c;\r\n#x;\n d 'e f' \"g;{}#\";", "a[b#c] d[e f][g;{}#]"),
            ("set $a ${b}c;", "set[$a][${b}c]"),
            (r#"a "b\"c" d\;e;"#, r#"a[b\"c][d\;e]"#),
            ("if ($a = '') { return 1; }", "if[($a][=][][)]{return[1]}"),
            ("location ~ ^/a\\{2}$ {}", "location[~][^/a\\{2}$]{}"),
            ("a x\"y;", "a[x\"y]"),
            ("", ""),
            ("# only\n", ""),
        ] {
            assert_eq!(shape(&parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn lua_is_raw_to_its_brace() {
        for (code, rest) in [
            ("", "b;"),
            (" local t = { a = { 1 } } ", "b;"),
            (r#" ngx.say('{"a":"' .. "\"}" .. '"}') "#, "b;"),
            (" -- don't {\n x() ", "b;"),
            (" --[==[ } ]] { ' ]==] x() ", "b;"),
            (" local s = [[ } ' ]] t[a[1]] = [=[ { ]] ]=] ", "b;"),
            (" -- [[ }\n ", "b;"),
            (" --[ }\n ", "b;"),
            (" a = '\\\n}' ", "b;"),
        ] {
            let text = format!("access_by_lua_block {{{code}}}\n{rest}");
            let read = parse(&text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!(read.len(), 2, "{text}");
            assert_eq!(read[0].arg(0), Some(code));
            assert_eq!(&text[read[0].span.clone()], text.split_once("\nb;").unwrap().0);
            assert_eq!(read[1].line, text.matches('\n').count() + 1);
        }
        assert_eq!(
            shape(&parse("set_by_lua_block $a { return '}' } c;").unwrap()),
            "set_by_lua_block[$a][ return '}' ]{} c"
        );
        for (text, line) in
            [("a;\nx_by_lua_block {", 2), ("x_by_lua_block {\n'}", 2), ("x_by_lua_block {\n\n[[ }", 3)]
        {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_and_bytes_keep_their_place() {
        assert!(parse(&"a {".repeat(100_000)).is_err());
        assert_eq!(ascii("é;".as_bytes()), "??;");
    }

    #[test]
    fn what_nginx_refuses_is_refused_with_its_line() {
        for (text, line) in [
            ("a;\nb", 2),
            ("a {\n b;", 1),
            ("a;\n\n}", 3),
            ("a\n'b;", 2),
            ("a {b}", 1),
            ("\n;", 2),
            ("a 'b'c;", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c\\\\ ;{}#'\"$\\n\\r\\t]{0,60}(x_by_lua_block \\{)?[a\\[\\]=\\-'\"{};\\n]{0,30}") {
            if let Ok(directives) = parse(&text) {
                for directive in &directives {
                    directive.walk("", &mut |directive, _| {
                        assert!(text[directive.span.clone()].starts_with(&directive.name));
                        assert!(text[directive.span.clone()].ends_with([';', '}']));
                        for word in &directive.args {
                            assert_eq!(&text[word.span.clone()], word.value);
                        }
                    });
                }
            }
        }
    }
}
