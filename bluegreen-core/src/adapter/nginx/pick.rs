//! Which server of an upstream nginx's `hash` picks for a key. Pure.
//!
//! The colour is a variable, and `proxy_pass` must not have one: with one, nginx maps paths, redirects and names by
//! other rules. `hash` takes the variable instead, inside the upstream. Its rule is documented as that of
//! `Cache::Memcached` and has stood since nginx 1.7.2 (`ngx_http_upstream_get_hash_peer`).

/// A key that makes nginx ask the servers of an upstream in this order (indexes, all of them).
pub(super) fn key(name: &str, order: &[usize]) -> String {
    let count = order.len().max(1);
    // One in two or one in six fits; no count of tries could run out.
    let fits = |key: &String| self::order(key, count) == order;
    (0..1000).map(|n| format!("{name}{n}")).find(fits).unwrap_or_else(|| name.to_owned())
}

/// The order in which nginx asks `count` servers of equal weight for this key.
fn order(key: &str, count: usize) -> Vec<usize> {
    let (mut sum, mut order) = (0, Vec::new());
    for again in 0..20_usize {
        let hashed = if again == 0 { key.to_owned() } else { format!("{again}{key}") };
        sum += ((crc32(hashed.as_bytes()) >> 16) & 0x7fff) as usize;
        if !order.contains(&(sum % count)) {
            order.push(sum % count);
        }
    }
    order
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_nginxs() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        // As nginx 1.22.1 picked them.
        for (key, first) in [("blue0", 0), ("blue1", 1), ("green1", 0), ("green2", 2), ("none0", 2)] {
            assert_eq!(order(key, 3)[0], first, "{key}");
        }
        for wanted in [&[0, 1][..], &[1, 0], &[0, 1, 2], &[1, 0, 2], &[2, 1, 0]] {
            assert_eq!(order(&key("green", wanted), wanted.len()), wanted);
        }
    }
}
