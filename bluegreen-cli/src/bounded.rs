//! Reading a file that somebody named: never more than a bound, and never waiting for a pipe that nobody writes to.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// More than this is no configuration that a person wrote.
pub(crate) const MIB: u64 = 1024 * 1024;

/// The bytes of a file, a pipe or a device.
///
/// # Errors
///
/// When it cannot be read; [`ErrorKind::FileTooLarge`] when it has more than `most` bytes.
pub(crate) fn bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    // To open a named pipe waits for its writer, unless told not to.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // A writer may take its time, as in `<(command)`.
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    let is_pipe = file.metadata()?.file_type().is_fifo();
    let mut bytes = Vec::new();
    // One byte more than allowed, and never more than that: the length that a file claims proves nothing.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(ErrorKind::FileTooLarge, "the file is too large"));
    }
    if is_pipe && bytes.is_empty() {
        return Err(Error::new(ErrorKind::UnexpectedEof, "it is a pipe, and nothing was written to it"));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
///
/// As [`bytes`], and when it is not UTF-8.
pub(crate) fn text(path: &Path, most: u64) -> Result<String> {
    let not_text = |_| Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8");
    String::from_utf8(bytes(path, most)?).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_has_no_end_is_read_to_the_bound_only() {
        let endless = bytes(Path::new("/dev/zero"), MIB).unwrap_err();
        assert_eq!(endless.kind(), ErrorKind::FileTooLarge);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"12345").unwrap();
        assert_eq!(bytes(file.path(), 5).unwrap(), b"12345");
        assert_eq!(bytes(file.path(), 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_pipe_without_a_writer_is_not_waited_for_and_one_with_a_slow_writer_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        assert_eq!(bytes(&path, 9).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        // Both ends, so that neither this open nor that of the reader waits.
        let mut writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let slow = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            writer.write_all(b"12345").unwrap();
        });
        assert_eq!(text(&path, 9).unwrap(), "12345");
        slow.join().unwrap();
    }
}
