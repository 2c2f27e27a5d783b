//! Who sent a request, by the gateway's word and, where it is trusted, a proxy's.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use lambda_http::http::HeaderMap;
use shared::runtime::{SettingError, list_setting, setting};

/// An address or a range of addresses in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange(IpNet);

impl AddressRange {
    fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for AddressRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text
                .parse()
                .map_err(|_| "expected an address or a range such as 10.0.0.0/8")?,
        };
        Ok(Self(range))
    }
}

/// Whether an address is in any of the ranges.
pub fn contains(ranges: &[AddressRange], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(address))
}

/// The headers in which proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientIpHeader {
    /// A list that every proxy adds to; the right end is the nearest.
    XForwardedFor,
    /// A single address.
    Single(&'static str),
}

impl FromStr for ClientIpHeader {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "x-real-ip" => Ok(Self::Single("x-real-ip")),
            "x-vercel-forwarded-for" => Ok(Self::Single("x-vercel-forwarded-for")),
            "cf-connecting-ip" => Ok(Self::Single("cf-connecting-ip")),
            _ => Err("expected x-forwarded-for, x-real-ip, x-vercel-forwarded-for or cf-connecting-ip"),
        }
    }
}

/// Finds out who a client is.
pub struct ClientAddresses {
    trusted_proxies: Vec<AddressRange>,
    header: ClientIpHeader,
}

impl ClientAddresses {
    /// By the word of these proxies, in this header.
    pub fn new(trusted_proxies: Vec<AddressRange>, header: ClientIpHeader) -> Self {
        Self {
            trusted_proxies,
            header,
        }
    }

    pub fn from_environment() -> Result<Self, SettingError> {
        Ok(Self::new(
            list_setting("TRUSTED_PROXIES")?,
            setting("CLIENT_IP_HEADER")?,
        ))
    }

    /// The client's address: the one that the gateway saw, unless that is a
    /// trusted proxy's. Then the proxy's word counts; of a list, the right-most
    /// address that is not a trusted proxy. What can't be read is not believed.
    pub fn address(&self, source: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !contains(&self.trusted_proxies, source) {
            return source;
        }
        let claimed = match self.header {
            ClientIpHeader::Single(name) => headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .and_then(address),
            ClientIpHeader::XForwardedFor => {
                let values = headers.get_all("x-forwarded-for").iter();
                let claims: Vec<&str> = values
                    .flat_map(|value| value.to_str().unwrap_or_default().split(','))
                    .collect();
                claims
                    .into_iter()
                    .rev()
                    .map_while(address)
                    .find(|address| !contains(&self.trusted_proxies, *address))
            }
        };
        claimed.unwrap_or(source)
    }
}

/// An address, also with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()?;
    Some(address.to_canonical())
}

/// The name under which refusals of a client are counted: one household or
/// host has a whole /64 of IPv6 addresses to pick from.
pub fn client_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) >> 64 << 64;
            format!("{}/64", std::net::Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Vec<AddressRange> {
        text.split_whitespace()
            .map(|range| range.parse().unwrap())
            .collect()
    }

    fn seen(header: &str, source: &str, claims: &[&'static str], trusted: &str) -> String {
        let name: lambda_http::http::HeaderName = header.parse().unwrap();
        let headers = claims.iter().map(|claim| (name.clone(), claim.parse().unwrap()));
        let clients = ClientAddresses::new(ranges(trusted), header.parse().unwrap());
        clients
            .address(source.parse().unwrap(), &HeaderMap::from_iter(headers))
            .to_string()
    }

    #[test]
    fn a_header_is_believed_from_trusted_proxies_only() {
        for header in ["x-forwarded-for", "x-real-ip", "cf-connecting-ip"] {
            assert_eq!(seen(header, "203.0.113.9", &["198.51.100.1"], ""), "203.0.113.9");
            assert_eq!(
                seen(header, "203.0.113.9", &["198.51.100.1"], "10.0.0.0/8"),
                "203.0.113.9"
            );
            assert_eq!(
                seen(header, "10.1.2.3", &["198.51.100.1"], "10.0.0.0/8"),
                "198.51.100.1"
            );
            assert_eq!(seen(header, "10.1.2.3", &[], "10.0.0.0/8"), "10.1.2.3");
            assert_eq!(seen(header, "10.1.2.3", &["unknown"], "10.0.0.0/8"), "10.1.2.3");
        }
    }

    #[test]
    fn of_a_list_the_rightmost_untrusted_address_counts() {
        for (claims, expected) in [
            (vec!["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            (vec!["1.1.1.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            (
                vec!["1.1.1.1", "198.51.100.1, 10.9.9.9, 10.1.2.3"],
                "198.51.100.1",
            ),
            (vec!["198.51.100.1:4711"], "198.51.100.1"),
            (vec!["[2001:db8::1]:443"], "2001:db8::1"),
            (vec!["::ffff:198.51.100.1"], "198.51.100.1"),
            (vec!["10.9.9.9, 10.8.8.8"], "10.1.2.3"),
            (vec!["198.51.100.1, garbage"], "10.1.2.3"),
            (vec!["198.51.100.1, garbage, 10.9.9.9"], "10.1.2.3"),
        ] {
            assert_eq!(
                seen("x-forwarded-for", "10.1.2.3", &claims, "10.0.0.0/8"),
                expected,
                "{claims:?}"
            );
        }
    }

    #[test]
    fn ranges_are_addresses_or_cidr_of_both_families() {
        let ranges = ranges("34.67.146.145 192.0.2.0/24 2001:db8::/32 ::1");
        for (address, inside) in [
            ("34.67.146.145", true),
            ("34.67.146.146", false),
            ("192.0.2.255", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", true),
        ] {
            assert_eq!(contains(&ranges, address.parse().unwrap()), inside, "{address}");
        }
        for bad in ["", "10.0.0.0/33", "example.com", "10.0.0"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let name = |text: &str| client_name(text.parse().unwrap());
        assert_eq!(name("2001:db8:1:2::3"), name("2001:db8:1:2:ffff::9"));
        assert_ne!(name("2001:db8:1:2::3"), name("2001:db8:1:3::3"));
        assert_ne!(name("192.0.2.1"), name("192.0.2.2"));
    }
}
