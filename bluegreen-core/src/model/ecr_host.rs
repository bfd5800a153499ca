//! What the host name of an ECR registry says.

/// An ECR registry, read from the host name in an image reference.
///
/// Account and region come from here and from nowhere else: the environment of a host may well name another
/// region than the one that its images are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrHost {
    host: String,
    account: String,
    region: String,
    partition: &'static str,
    fips: bool,
    dual_stack: bool,
}

/// A kind of host name: what stands between the account and the region, what follows the region, and what both
/// mean.
struct Shape {
    service: &'static str,
    suffix: &'static str,
    fips: bool,
    dual_stack: bool,
}

/// The names that AWS documents for public regions. The isolated partitions are left out: nobody here could look
/// one up.
const SHAPES: [Shape; 5] = [
    Shape { service: ".dkr.ecr.", suffix: ".amazonaws.com", fips: false, dual_stack: false },
    Shape { service: ".dkr.ecr-fips.", suffix: ".amazonaws.com", fips: true, dual_stack: false },
    Shape { service: ".dkr-ecr.", suffix: ".on.aws", fips: false, dual_stack: true },
    Shape { service: ".dkr-ecr-fips.", suffix: ".on.aws", fips: true, dual_stack: true },
    Shape { service: ".dkr.ecr.", suffix: ".amazonaws.com.cn", fips: false, dual_stack: false },
];

const CHINA: &str = ".amazonaws.com.cn";

impl EcrHost {
    /// Reads a registry's host name; `None` when it is not one of ECR's. ECR Public is another service and is
    /// not ECR in this sense.
    ///
    /// ```
    /// use bluegreen_core::model::EcrHost;
    /// let host = EcrHost::parse("123456789012.dkr.ecr.eu-west-1.amazonaws.com").unwrap();
    /// assert_eq!((host.account(), host.region()), ("123456789012", "eu-west-1"));
    /// assert!(EcrHost::parse("public.ecr.aws").is_none());
    /// ```
    pub fn parse(host: &str) -> Option<Self> {
        let (account, rest) = host.split_at_checked(12)?;
        if !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        SHAPES.iter().find_map(|shape| {
            let region = rest.strip_prefix(shape.service)?.strip_suffix(shape.suffix)?;
            let partition = partition(region)?;
            // A Chinese region under the worldwide domain, or the other way round, is a name that somebody made up.
            if (partition == "aws-cn") != (shape.suffix == CHINA) {
                return None;
            }
            Some(Self {
                host: host.to_owned(),
                account: account.to_owned(),
                region: region.to_owned(),
                partition,
                fips: shape.fips,
                dual_stack: shape.dual_stack,
            })
        })
    }

    /// The host name itself.
    pub fn as_str(&self) -> &str {
        &self.host
    }

    /// The account that owns the registry, 12 digits.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The region that it is in.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The partition of that region: `aws`, `aws-cn` or `aws-us-gov`.
    pub fn partition(&self) -> &'static str {
        self.partition
    }

    /// Whether the name asks for endpoints that are validated for FIPS 140.
    pub fn is_fips(&self) -> bool {
        self.fips
    }

    /// Whether the name asks for endpoints that IPv6 reaches as well.
    pub fn is_dual_stack(&self) -> bool {
        self.dual_stack
    }
}

/// The partition of a region, `None` for what cannot be a region or is in an isolated partition.
fn partition(region: &str) -> Option<&'static str> {
    let labels: Vec<&str> = region.split('-').collect();
    let (number, words) = labels.split_last()?;
    let plausible = words.len() >= 2
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    match words {
        _ if !plausible => None,
        ["cn", ..] => Some("aws-cn"),
        ["us", "gov", ..] => Some("aws-us-gov"),
        [_, second, _, ..] if second.starts_with("iso") => None,
        ["eusc", ..] => None,
        _ => Some("aws"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_shape_is_read() {
        for (host, region, partition, fips, dual) in [
            ("dkr.ecr.ap-northeast-2.amazonaws.com", "ap-northeast-2", "aws", false, false),
            ("dkr.ecr-fips.us-east-1.amazonaws.com", "us-east-1", "aws", true, false),
            ("dkr.ecr.us-gov-west-1.amazonaws.com", "us-gov-west-1", "aws-us-gov", false, false),
            ("dkr.ecr-fips.us-gov-east-1.amazonaws.com", "us-gov-east-1", "aws-us-gov", true, false),
            ("dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn", false, false),
            ("dkr-ecr.eu-west-1.on.aws", "eu-west-1", "aws", false, true),
            ("dkr-ecr-fips.us-west-2.on.aws", "us-west-2", "aws", true, true),
            ("dkr.ecr.mx-central-1.amazonaws.com", "mx-central-1", "aws", false, false),
        ] {
            let host = format!("123456789012.{host}");
            let read = EcrHost::parse(&host).unwrap_or_else(|| panic!("{host} was not read"));
            assert_eq!(read.as_str(), host);
            assert_eq!(read.account(), "123456789012");
            assert_eq!((read.region(), read.partition()), (region, partition), "{host}");
            assert_eq!((read.is_fips(), read.is_dual_stack()), (fips, dual), "{host}");
        }
    }

    #[test]
    fn everything_else_is_somebody_elses_registry() {
        for host in [
            "",
            "docker.io",
            "public.ecr.aws",
            "localhost:5000",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "evil.example.123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "1234567890123.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901a.dkr.ecr.eu-west-1.amazonaws.com",
            "1234567890\u{e9}2.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.x.amazonaws.com",
            "123456789012.dkr.ecr.eu--1.amazonaws.com",
            "123456789012.dkr.ecr.europe.amazonaws.com",
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.us-iso-east-1.amazonaws.com",
            "123456789012.dkr-ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.on.aws",
            "123456789012.DKR.ecr.eu-west-1.amazonaws.com",
        ] {
            assert_eq!(EcrHost::parse(host), None, "{host}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_in_the_name_and_nothing_makes_it_panic(
            account in r"[0-9]{11,13}|\PC{0,12}",
            service in r"\.dkr[.-]ecr(-fips)?\.",
            region in r"[a-z]{2}-(gov-|iso-)?[a-z]{3,9}-[0-9]|\PC{0,9}",
            suffix in r"\.amazonaws\.com|\.amazonaws\.com\.cn|\.on\.aws|\PC{0,9}",
        ) {
            if let Some(host) = EcrHost::parse(&format!("{account}{service}{region}{suffix}")) {
                proptest::prop_assert_eq!((host.account(), host.region()), (&*account, &*region));
            }
        }
    }
}
