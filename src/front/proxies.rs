//! The proxies in front of us, and which address they speak for.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, de::Error};

/// Proxies whose `X-Forwarded-For` is believed: addresses (`10.0.0.1`) and ranges (`10.0.0.0/8`, `fd00::/8`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

/// A text that names no proxies.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("{0:?} is neither an address nor a range such as 10.0.0.0/8")]
    Unreadable(String),
    /// Then no hop would be the caller's, and everybody could claim to be anybody.
    #[error("{0} holds every address there is")]
    Everybody(String),
}

impl Proxies {
    /// Errors: [`ProxyError`], for the first text that is wrong.
    pub fn parse(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, ProxyError> {
        texts.into_iter().map(|text| range(text.as_ref().trim())).collect::<Result<_, _>>().map(Self)
    }

    fn hold(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Whose call it is: the connection's peer, or, where that is a proxy of ours, whoever it says called it.
    ///
    /// `forwarded` is the values of `X-Forwarded-For`, first header first. They are read from the right, and the first
    /// address that is no proxy of ours is the caller's: everything left of it, and of what cannot be read, is a claim.
    pub fn caller<'a>(&self, peer: IpAddr, forwarded: impl Iterator<Item = &'a str>) -> IpAddr {
        let mut last = peer.to_canonical();
        if !self.hold(last) {
            return last;
        }
        let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        for hop in hops.into_iter().rev() {
            let Ok(hop) = hop.parse::<IpAddr>() else { return last };
            last = hop.to_canonical();
            if !self.hold(last) {
                break;
            }
        }
        last
    }
}

fn range(text: &str) -> Result<IpNet, ProxyError> {
    let range = match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>(),
    };
    let range = canonical(range.map_err(|_| ProxyError::Unreadable(text.to_owned()))?);
    if range.prefix_len() == 0 { Err(ProxyError::Everybody(text.to_owned())) } else { Ok(range) }
}

/// Addresses are compared in their canonical form, so `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical(range: IpNet) -> IpNet {
    let mapped: Option<Ipv4Addr> = match range.network() {
        IpAddr::V6(network) => network.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    let v4 = mapped.zip(range.prefix_len().checked_sub(96));
    v4.and_then(|(network, prefix)| Ipv4Net::new(network, prefix).ok()).map_or(range, IpNet::V4)
}

impl<'de> Deserialize<'de> for Proxies {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(Vec::<String>::deserialize(from)?)
            .map_err(|error| D::Error::custom(format!("front.trusted_proxies: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(proxies: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = Proxies::parse(proxies).unwrap();
        proxies.caller(peer.parse().unwrap(), forwarded.iter().copied()).to_string()
    }

    #[test]
    fn the_rightmost_hop_that_is_no_proxy_of_ours_is_the_caller() {
        let ours = &["10.0.0.0/8", "192.0.2.1", "fd00::/8"];
        for (peer, forwarded, is) in [
            ("10.1.2.3", &["203.0.113.7"][..], "203.0.113.7"),
            ("10.1.2.3", &["203.0.113.7, 192.0.2.1"], "203.0.113.7"),
            ("10.1.2.3", &["198.51.100.9, 203.0.113.7 ,10.9.9.9"], "203.0.113.7"),
            // Several headers are one list.
            ("10.1.2.3", &["198.51.100.9", "203.0.113.7", "10.9.9.9"], "203.0.113.7"),
            ("::ffff:10.1.2.3", &["::ffff:203.0.113.7"], "203.0.113.7"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
            // A proxy that says nothing, or only names proxies, speaks for itself.
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["10.7.7.7, 10.9.9.9"], "10.7.7.7"),
            // What cannot be read ends what is believed.
            ("10.1.2.3", &["203.0.113.7, unknown, 10.9.9.9"], "10.9.9.9"),
            ("10.1.2.3", &["203.0.113.7, "], "10.1.2.3"),
        ] {
            assert_eq!(caller(ours, peer, forwarded), is, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn whoever_is_no_proxy_of_ours_speaks_for_itself_alone() {
        for peer in ["203.0.113.9", "11.0.0.1", "2001:db8::9"] {
            assert_eq!(caller(&["10.0.0.0/8"], peer, &["10.1.1.1, 203.0.113.7"]), peer);
        }
        assert_eq!(caller(&[], "127.0.0.1", &["203.0.113.7"]), "127.0.0.1");
    }

    #[test]
    fn ranges_and_addresses_are_read_and_nothing_else() {
        let read = |text: &str| Proxies::parse([text]);
        assert_eq!(read("10.0.0.1").unwrap(), read("10.0.0.1/32").unwrap());
        assert_eq!(read("::ffff:10.0.0.0/104").unwrap(), read("10.0.0.0/8").unwrap());
        for wrong in
            ["", "10.0.0.0/33", "10.0.0", "proxy.example.com", "10.0.0.1-9", "0.0.0.0/0", "::/0", "::ffff:0:0/96"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
