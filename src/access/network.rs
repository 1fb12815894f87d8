//! What counts as one address, wherever something is limited or counted by address.

use std::net::{IpAddr, SocketAddr};

/// What stands before an IPv4 address that a NAT64 translated (RFC 6052 section 2.1).
const NAT64: u128 = 0x0064_ff9b << 96;

/// Of IPv6 the /64, which is the least that anybody is given; of IPv4 the address, also where it is written as one of
/// IPv6.
pub(crate) fn of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => match u32::try_from(address.to_bits() ^ NAT64) {
            Ok(embedded) => IpAddr::V4(embedded.into()),
            Err(_) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The same of a peer as the audit log names it; what is no address, like `unix`, is itself.
pub(crate) fn of_peer(peer: &str) -> String {
    peer.parse().map_or_else(|_| peer.to_owned(), |address| of(address).to_string())
}

/// The same of where an edge says that a request came from, which may still have its port.
pub(crate) fn of_source(source: &str) -> String {
    let bare = source.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(source);
    match source.parse::<SocketAddr>() {
        Ok(with_port) => of(with_port.ip()).to_string(),
        Err(_) => of_peer(bare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_address() {
        for (peer, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::"),
            ("::1", "::"),
            ("64:ff9b::192.0.2.1", "192.0.2.1"),
            ("64:ff9b:0:1::1", "64:ff9b:0:1::"),
            ("unix", "unix"),
        ] {
            assert_eq!(of_peer(peer), expected);
            assert_eq!(of_source(peer), expected);
        }
    }

    #[test]
    fn a_source_is_the_same_whatever_port_it_comes_from() {
        for (source, expected) in [
            ("192.0.2.1:5060", "192.0.2.1"),
            ("[2001:db8:0:1:2:3:4:5]:5060", "2001:db8:0:1::"),
            ("[2001:db8:0:1:2:3:4:5]", "2001:db8:0:1::"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
            ("edge-7:north", "edge-7:north"),
            ("[", "["),
        ] {
            assert_eq!(of_source(source), expected);
        }
    }
}
