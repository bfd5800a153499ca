//! One record a line: `v2 CRC JSON`, the CRC-32 of the JSON's bytes in eight hex digits.
//!
//! The version is on every line, so that one file may span an update of this program. A program that reads only earlier
//! versions refuses the line: it would lose what it does not know.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | |
//! | 2 | `begun` may say what somebody else had made (`adopted`); a release may be that very container |

use crate::state::Entry;

/// What is written, and what is read. Later versions only added fields, so all of them are read as the last.
const VERSION: &str = "v2";
const READ: [&str; 2] = ["v1", VERSION];

/// What a journal's bytes say.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) entries: Vec<Entry>,
    /// How much of the file they take; what follows is a torn record.
    pub(super) good_bytes: usize,
}

/// A line that cannot be trusted although others follow it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) line: usize,
    pub(super) reason: String,
}

pub(super) fn line(entry: &Entry) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(entry)?;
    Ok(format!("{VERSION} {:08x} {json}\n", crc32fast::hash(json.as_bytes())))
}

/// Reads a journal. Only the last line may be bad: a crash tears what was being written, and nothing before it.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Bad> {
    let mut read = Read { entries: Vec::new(), good_bytes: 0 };
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let last = lines.peek().is_none();
        match parse(line, read.entries.len() as u64 + 1) {
            Ok(entry) => {
                read.entries.push(entry);
                read.good_bytes += line.len();
            }
            // Whole and readable, yet not ours to read: that was not torn.
            Err(Unreadable { torn: false, reason }) => return Err(Bad { line: index + 1, reason }),
            Err(_) if last && !hides_a_record(line) => break,
            Err(Unreadable { reason, .. }) => return Err(Bad { line: index + 1, reason }),
        }
    }
    Ok(read)
}

/// Whether a whole record ends a line that cannot be read. One record is written at a time, so what is before it was
/// not torn: the end of an earlier line is damaged.
fn hides_a_record(line: &[u8]) -> bool {
    let starts = |at: &usize| {
        let after = |version: &str| line[*at..].strip_prefix(version.as_bytes());
        let header = READ.into_iter().find_map(after).and_then(|rest| rest.get(..11));
        header.is_some_and(|header| header.starts_with(b" ") && header.ends_with(b" {"))
    };
    (1..line.len()).filter(starts).any(|at| parse(&line[at..], 0).err().is_none_or(|error| !error.torn))
}

struct Unreadable {
    torn: bool,
    reason: String,
}

fn parse(line: &[u8], seq: u64) -> Result<Entry, Unreadable> {
    let torn = |reason: &str| Unreadable { torn: true, reason: reason.to_owned() };
    let whole = |reason: String| Unreadable { torn: false, reason };
    let text = std::str::from_utf8(line).map_err(|_| torn("it is not text"))?;
    let text = text.strip_suffix('\n').ok_or_else(|| torn("it has no end"))?;
    let mut parts = text.splitn(3, ' ');
    let (Some(version), Some(crc), Some(json)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(torn("it is not a record"));
    };
    if crc != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
        return Err(torn("its checksum does not match"));
    }
    if !READ.contains(&version) {
        return Err(whole(format!(
            "it has the format {version}, and this program reads up to {VERSION}: a newer one wrote it"
        )));
    }
    let entry: Entry =
        serde_json::from_str(json).map_err(|error| whole(format!("it cannot be read: {error}")))?;
    if entry.seq != seq {
        return Err(whole(format!("it is record {} where {seq} was expected", entry.seq)));
    }
    Ok(entry)
}
