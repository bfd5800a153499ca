//! What other tools' files say, whatever they are written in: values, each with its line.

use std::collections::HashMap;

use yaml_rust2::Event;
use yaml_rust2::parser::{MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

/// More values than that are no file that a person wrote: aliases of aliases grow without end.
const MOST: usize = 100_000;

/// A value and the line it starts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing.
    Null,
    /// A text, a number, a truth value, as it is written.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// What only a program could tell: code, as it stands there.
    Code(String),
}

impl Node {
    pub(super) fn new(line: usize, value: Value) -> Self {
        Self { line, value }
    }

    /// What stands under a key; nothing where there is none, or null.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .rev()
            .find(|(name, node)| name == key && node.value != Value::Null)
            .map(|(_, n)| n)
    }

    /// What stands under keys inside each other.
    pub(super) fn at(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number<T: std::str::FromStr>(&self) -> Option<T> {
        self.text()?.trim().parse().ok()
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.text() == Some(text)
    }

    /// A list's values; of a single value that one, as these files allow it in most places.
    pub(super) fn items(&self) -> Vec<&Self> {
        match &self.value {
            Value::List(items) => items.iter().collect(),
            Value::Null => Vec::new(),
            _ => vec![self],
        }
    }

    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// `NAME=value` lines or a map of them: each name with its value, where it has one.
    pub(super) fn pairs(&self) -> Vec<(String, Option<String>, usize)> {
        if let Value::Map(entries) = &self.value {
            let one =
                |(name, node): &(String, Self)| (name.clone(), node.text().map(str::to_owned), node.line);
            return entries.iter().map(one).collect();
        }
        let one = |item: &&Self| {
            let text = item.text()?;
            let (name, value) =
                text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            Some((name.to_owned(), value.map(str::to_owned), item.line))
        };
        self.items().iter().filter_map(one).collect()
    }

    /// As it was written, more or less, for a person.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Text(text) | Value::Code(text) => text.clone(),
            Value::List(items) => items.iter().map(Self::shown).collect::<Vec<_>>().join(", "),
            Value::Map(entries) => {
                entries.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// Reads YAML, or JSON, which is YAML too.
///
/// # Errors
///
/// What is wrong with it, with its line.
pub(super) fn yaml(text: &str) -> Result<Node, String> {
    let mut reader = Reader::default();
    let mut parser = Parser::new_from_str(text);
    parser.load(&mut reader, false).map_err(|error| error.to_string())?;
    if reader.made > MOST {
        return Err("it has too many values".to_owned());
    }
    Ok(reader.root.unwrap_or(Node::new(1, Value::Null)))
}

#[derive(Default)]
struct Reader {
    root: Option<Node>,
    /// The lists and maps that are still open, each with its anchor.
    open: Vec<(Open, usize, usize)>,
    anchors: HashMap<usize, Node>,
    made: usize,
}

enum Open {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<String>),
}

impl MarkedEventReceiver for Reader {
    fn on_event(&mut self, event: Event, mark: Marker) {
        if self.made > MOST {
            return;
        }
        let line = mark.line();
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == yaml_rust2::scanner::TScalarStyle::Plain;
                let null = plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Text(text) };
                self.put(Node::new(line, value), anchor);
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned().unwrap_or(Node::new(line, Value::Null));
                self.made += size(&node);
                self.put(node, 0);
            }
            Event::SequenceStart(anchor, _) => self.open.push((Open::List(Vec::new()), anchor, line)),
            Event::MappingStart(anchor, _) => self.open.push((Open::Map(Vec::new(), None), anchor, line)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((Open::List(items), anchor, line)) => {
                    self.put(Node::new(line, Value::List(items)), anchor);
                }
                Some((Open::Map(entries, _), anchor, line)) => {
                    self.put(Node::new(line, Value::Map(entries)), anchor);
                }
                None => {}
            },
            _ => {}
        }
    }
}

impl Reader {
    fn put(&mut self, node: Node, anchor: usize) {
        self.made += 1;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Open::List(items), ..)) => items.push(node),
            Some((Open::Map(entries, key), ..)) => match key.take() {
                None => *key = Some(node.text().unwrap_or_default().to_owned()),
                // What is merged in holds only where the map itself says nothing.
                Some(name) if name == "<<" => {
                    let merged =
                        node.items().into_iter().flat_map(Node::entries).cloned().collect::<Vec<_>>();
                    entries.splice(0..0, merged);
                }
                Some(name) => {
                    let line = if node.value == Value::Null { node.line } else { node.line.max(1) };
                    entries.push((name, Node { line, ..node }));
                }
            },
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| size(node)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_anchors_and_merges() {
        let root = yaml("x-a: &a\n  k: 1\n  m: 2\nb:\n  <<: *a\n  m: 3\nc: [x, 'y=z']\nd:\n").unwrap();
        assert_eq!(root.at(&["b", "k"]).and_then(Node::text), Some("1"));
        assert_eq!(root.at(&["b", "m"]).and_then(Node::text), Some("3"));
        assert_eq!(root.at(&["b", "m"]).map(|node| node.line), Some(6));
        let pairs = root.get("c").unwrap().pairs();
        assert_eq!(pairs[1], ("y".to_owned(), Some("z".to_owned()), 7));
        assert!(root.get("d").is_none());
        assert!(yaml("a: [").is_err());
    }

    #[test]
    fn aliases_of_aliases_end() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let last = n - 1;
            let many = vec![format!("*a{last}"); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{many}]\n"));
        }
        assert_eq!(yaml(&text).unwrap_err(), "it has too many values");
    }
}
