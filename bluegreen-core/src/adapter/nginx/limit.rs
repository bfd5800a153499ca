//! How many requests nginx lets through where an application is: `limit_req` and `limit_conn`, as they are in force there.

use super::dump::Dump;
use super::syntax::Directive;

/// A place in the configuration: the blocks around it, outermost first.
type Place = Vec<*const Directive>;

/// The least that is let through a minute, by the limits in force for any of the directives that `wanted` says yes to;
/// `None` where there is no limit. Whom it is for is not looked at: behind another proxy all clients have one address, and
/// we may share it.
pub(super) fn per_minute(dump: &Dump, wanted: &dyn Fn(&Directive, &str) -> bool) -> Option<u32> {
    let (mut zones, mut of_zones, mut at_once, mut places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    dump.visit(&mut |directive, stack| {
        let blocks: Place = stack.iter().map(|block| std::ptr::from_ref(*block)).collect();
        match directive.name.as_str() {
            "limit_req_zone" => zones.extend(zone(directive)),
            "limit_req" => of_zones.extend(parameter(directive, "zone=").map(|zone| (blocks.clone(), zone))),
            "limit_conn" => at_once.extend(connections(directive).map(|limit| (blocks.clone(), limit))),
            _ => {}
        }
        if wanted(directive, stack.last().map_or("", |block| block.name.as_str())) {
            places.push(blocks);
        }
    });
    let rate = |name: &str| zones.iter().find(|(zone, _)| *zone == name).map(|(_, rate)| *rate);
    let requests = in_force(&places, &of_zones).filter_map(|zone| rate(zone));
    // How long an answer takes is not known. A second each is far more than most take.
    let connections = in_force(&places, &at_once).map(|limit| limit.saturating_mul(60));
    requests.chain(connections).min()
}

/// Of the limits of one kind those that are in force at the places.
fn in_force<'l, T>(places: &'l [Place], limits: &'l [(Place, T)]) -> impl Iterator<Item = &'l T> {
    places.iter().flat_map(|place| {
        let around = limits.iter().filter(|(blocks, _)| place.starts_with(blocks));
        // A block that has limits of its own does not take those of the blocks around it.
        let nearest = around.clone().map(|(blocks, _)| blocks.len()).max();
        around.filter(move |(blocks, _)| Some(blocks.len()) == nearest).map(|(_, limit)| limit)
    })
}

/// How many requests `limit_conn` lets be under way at once.
fn connections(directive: &Directive) -> Option<u32> {
    directive.args.get(1)?.value.parse().ok()
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
            // So many at once, a second each; in force beside the other kind, and overridden by its own kind only.
            ("server { limit_conn c 8; location / { proxy_pass http://x; } }", Some(480)),
            ("server { limit_conn c 8; location / { limit_req zone=a; proxy_pass http://x; } }", Some(480)),
            ("server { limit_conn c 8; location / { limit_conn c 20; proxy_pass http://x; } }", Some(1200)),
            ("server { limit_conn c $x; location / { proxy_pass http://x; } }", None),
        ] {
            assert_eq!(limit(&format!("{ZONES} {text}")), expected, "{text}");
        }
    }
}
