//! As much of WebSockets (RFC 6455) as it takes to see how they end: short frames, no extensions.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The server goes away, in good order.
pub const GOING_AWAY: u16 = 1001;

/// What came over a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Text.
    Text(String),
    /// The other side closes, with this code.
    Close(u16),
    /// Anything else, which may be ignored.
    Other,
}

/// Reads one frame.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Frame> {
    let mut head = [0; 2];
    from.read_exact(&mut head).await?;
    let length = match head[1] & 0x7f {
        126 => u64::from(from.read_u16().await?),
        127 => from.read_u64().await?,
        length => u64::from(length),
    };
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        from.read_exact(&mut mask).await?;
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= 1 << 16);
    let length = length.ok_or_else(|| std::io::Error::other("a frame of more than 64 KiB"))?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    for (byte, mask) in bytes.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(match head[0] & 0x0f {
        1 => Frame::Text(String::from_utf8_lossy(&bytes).into_owned()),
        // 1005 stands for a close without a code.
        8 => Frame::Close(bytes.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))),
        _ => Frame::Other,
    })
}

/// Writes one frame. A client must mask what it sends, a server must not.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &Frame, client: bool) -> std::io::Result<()> {
    let (kind, mut bytes) = match frame {
        Frame::Text(text) => (1, text.clone().into_bytes()),
        Frame::Close(code) => (8, code.to_be_bytes().to_vec()),
        Frame::Other => return Ok(()),
    };
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 126);
    let length = length.ok_or_else(|| std::io::Error::other("only short frames are written"))?;
    let mut out = vec![0x80 | kind, length | if client { 0x80 } else { 0 }];
    if client {
        // The mask protects proxies from scripts in browsers; here any will do.
        let mask = [0x5a, 0xa5, 0x3c, 0xc3];
        out.extend(mask);
        for (byte, mask) in bytes.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
    }
    out.append(&mut bytes);
    to.write_all(&out).await?;
    to.flush().await
}

/// What a server answers to a client's key.
pub fn accept(key: &str) -> String {
    base64(&sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()))
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut text = bytes.to_vec();
    text.push(0x80);
    text.resize((text.len() + 8).div_ceil(64) * 64 - 8, 0);
    text.extend((bytes.len() as u64 * 8).to_be_bytes());
    for block in text.chunks(64) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for n in 16..80 {
            words[n] = (words[n - 3] ^ words[n - 8] ^ words[n - 14] ^ words[n - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (n, word) in words.iter().enumerate() {
            let (f, k) = match n {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    for (out, word) in out.chunks_mut(4).zip(state) {
        out.copy_from_slice(&word.to_be_bytes());
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let all =
            three.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            let digit = DIGITS[(all >> (18 - 6 * n)) as usize & 63];
            out.push(if n <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        for client in [true, false] {
            for frame in [Frame::Text("hello".to_owned()), Frame::Close(GOING_AWAY)] {
                let mut bytes = Vec::new();
                write(&mut bytes, &frame, client).await.expect("a vector takes everything");
                assert_eq!(read(&mut &bytes[..]).await.expect("a whole frame"), frame);
                assert!(read(&mut &bytes[..bytes.len() - 1]).await.is_err());
            }
        }
    }
}
