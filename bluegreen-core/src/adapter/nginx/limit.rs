//! How many requests nginx lets through where an application is: `limit_req`, as it is in force there.

use super::dump::Dump;
use super::syntax::Directive;

/// The least that is let through a minute, by the limits in force for any of the directives that `wanted` says yes to;
/// `None` where there is no limit. Whom it is for is not looked at: behind another proxy all clients have one address, and
/// we may share it.
pub(super) fn per_minute(dump: &Dump, wanted: &dyn Fn(&Directive, &str) -> bool) -> Option<u32> {
    let (mut zones, mut limits, mut places) = (Vec::new(), Vec::new(), Vec::new());
    dump.visit(&mut |directive, stack| {
        let blocks: Vec<*const Directive> = stack.iter().map(|block| std::ptr::from_ref(*block)).collect();
        match directive.name.as_str() {
            "limit_req_zone" => zones.extend(zone(directive)),
            "limit_req" => limits.extend(parameter(directive, "zone=").map(|zone| (blocks.clone(), zone))),
            _ => {}
        }
        if wanted(directive, stack.last().map_or("", |block| block.name.as_str())) {
            places.push(blocks);
        }
    });
    let in_force = places.iter().flat_map(|place| {
        let around = limits.iter().filter(|(blocks, _)| place.starts_with(blocks));
        // A block that has limits of its own does not take those of the blocks around it.
        let nearest = around.clone().map(|(blocks, _)| blocks.len()).max();
        around.filter(move |(blocks, _)| Some(blocks.len()) == nearest)
    });
    let rate = |name: &str| zones.iter().find(|(zone, _)| *zone == name).map(|(_, rate)| *rate);
    in_force.filter_map(|(_, zone)| rate(zone)).min()
}

/// A zone's name and what it lets through a minute.
fn zone(directive: &Directive) -> Option<(&str, u32)> {
    let name = parameter(directive, "zone=")?.split(':').next()?;
    let rate = parameter(directive, "rate=")?;
    let (number, of) = rate.split_at_checked(rate.len().checked_sub(3)?)?;
    let number: u32 = number.parse().ok()?;
    match of {
        "r/s" => Some((name, number.saturating_mul(60))),
        "r/m" => Some((name, number)),
        _ => None,
    }
}

fn parameter<'d>(directive: &'d Directive, name: &str) -> Option<&'d str> {
    directive.args.iter().find_map(|word| word.value.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(http: &str) -> Option<u32> {
        let text = format!("# configuration file /etc/nginx/nginx.conf:\nhttp {{ {http} }}\n");
        per_minute(&Dump::read(&text), &|directive, _| directive.name == "proxy_pass")
    }

    #[test]
    fn the_limit_is_that_of_the_nearest_block_around_the_application() {
        const ZONES: &str = "limit_req_zone $binary_remote_addr zone=a:1m rate=10r/s; \
                             limit_req_zone $server_name zone=b:1m rate=30r/m;";
        for (text, expected) in [
            ("server { location / { proxy_pass http://x; } }", None),
            ("limit_req zone=a burst=5; server { location / { proxy_pass http://x; } }", Some(600)),
            ("server { limit_req zone=a; location / { proxy_pass http://x; } }", Some(600)),
            ("server { limit_req zone=b; location / { limit_req zone=a; proxy_pass http://x; } }", Some(600)),
            ("server { limit_req zone=a; limit_req zone=b; location / { proxy_pass http://x; } }", Some(30)),
            // Not where the application is.
            ("server { location /login { limit_req zone=a; } location / { proxy_pass http://x; } }", None),
            ("server { limit_req zone=a; } server { location / { proxy_pass http://x; } }", None),
            ("server { limit_req zone=none; location / { proxy_pass http://x; } }", None),
        ] {
            assert_eq!(limit(&format!("{ZONES} {text}")), expected, "{text}");
        }
    }
}
