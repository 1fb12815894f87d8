//! Which addresses are connected to: public ones, and those of the hosts that the operator named.
//!
//! Names are looked up here, at connect time, and what is filtered is what is connected to: an answer
//! of DNS that changes between a check and its use has no such gap to use.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Name, Resolve, Resolving};

/// Where names are looked up.
#[derive(Debug, Clone)]
pub(super) enum Names {
    /// As this machine does it.
    System,
    /// Here and nowhere else. Port 0 is the scheme's own.
    Table(Arc<HashMap<String, Vec<SocketAddr>>>),
}

impl Names {
    async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        if is_localhost(host) {
            let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
            return Ok(loopback.map(|address| (address, 0).into()).to_vec());
        }
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, 0)).await?.collect()),
            Self::Table(table) => {
                table.get(host).cloned().ok_or_else(|| io::Error::other("no such name"))
            }
        }
    }
}

/// A name of this machine, which is never asked of DNS (RFC 6761 §6.3).
pub(super) fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// The HTTP client's look-up of names.
pub(super) struct Resolver {
    pub(super) names: Names,
    /// The hosts that may lead anywhere.
    pub(super) configured: Arc<[String]>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, configured) = (self.names.clone(), Arc::clone(&self.configured));
        Box::pin(async move {
            let host = name.as_str();
            let mut addresses = names.look_up(host).await?;
            if !configured.iter().any(|configured| configured == host) {
                addresses = public(addresses)?;
            }
            let addresses: Box<dyn Iterator<Item = SocketAddr> + Send> =
                Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// A host leads to addresses that are not public, and to no other.
#[derive(Debug, thiserror::Error)]
#[error("no address of this name is public")]
pub(super) struct Blocked;

fn public(mut addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Blocked> {
    let none = addresses.is_empty();
    addresses.retain(|address| is_public(address.ip()));
    if addresses.is_empty() && !none { Err(Blocked) } else { Ok(addresses) }
}

/// Whether an address is one of the Internet at large, by the IANA special-purpose address registries
/// (RFC 6890). In doubt it is not: what is refused without need, no carrier has.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        // This network; private; loopback; multicast, reserved and broadcast.
        [0 | 10 | 127 | 224.., ..]
            // Shared (RFC 6598); link-local, where clouds keep their metadata; private; benchmarks.
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            // Protocol assignments; 6to4 relays; documentation (192.0.2 is, too).
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Both lead to the IPv4 address within: v4-mapped, and NAT64 (RFC 6052), which is how a
        // machine without IPv4 reaches everything.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments with Teredo; documentation (two); 6to4.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x2002 | 0x3fff, ..] => false,
        // Only this eighth is global unicast (RFC 4291 §2.4).
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_at_large_are_public() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "54.172.60.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a05:d018::1",
            "3ffe:ffff::",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::1.1.1.1",
            "100::1",
            "1fff:ffff::",
            "2001::1",
            "2001:2::1",
            "2001:1ff::",
            "2001:db8::1",
            "2002:0a00:0001::",
            "2002:0101:0101::",
            "3fff::1",
            "4000::",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[tokio::test]
    async fn a_name_leads_to_its_public_addresses_and_a_configured_one_anywhere() {
        let addresses = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|address| (address.parse::<IpAddr>().unwrap(), 0).into()).collect()
        };
        let table = [
            ("mixed.test", addresses(&["10.0.0.1", "1.1.1.1", "::1"])),
            ("private.test", addresses(&["10.0.0.1", "::1"])),
            ("nowhere.test", Vec::new()),
        ];
        let table = table.map(|(name, addresses)| (name.to_owned(), addresses));
        let resolver = |configured: &str| Resolver {
            names: Names::Table(Arc::new(table.clone().into())),
            configured: [configured.to_owned()].into(),
        };
        let found = async |host: &str, configured: &str| -> Result<Vec<SocketAddr>, bool> {
            let found = resolver(configured).resolve(host.parse().unwrap()).await;
            found.map(Iterator::collect).map_err(|error| error.is::<Blocked>())
        };
        assert_eq!(found("mixed.test", "").await, Ok(addresses(&["1.1.1.1"])));
        assert_eq!(found("private.test", "mixed.test").await, Err(true));
        let private = addresses(&["10.0.0.1", "::1"]);
        assert_eq!(found("private.test", "private.test").await, Ok(private));
        assert_eq!(found("nowhere.test", "").await, Ok(Vec::new()));
        assert_eq!(found("unknown.test", "").await, Err(false));
        let loopback = addresses(&["127.0.0.1", "::1"]);
        assert_eq!(found("a.localhost", "a.localhost").await, Ok(loopback));
        assert_eq!(found("a.localhost", "localhost").await, Err(true));
    }
}
