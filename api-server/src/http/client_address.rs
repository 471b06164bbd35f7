//! Where a request comes from: the peer of its connection, or what a proxy on this machine says of
//! it.
//!
//! Everybody can write `X-Forwarded-For`. Only its last entry is the proxy's own, and only where all
//! clients come through one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of whoever sent `request`; IPv4 in its own form, whatever the socket says.
pub(super) fn of_request(request: &Parts, behind_proxy: bool) -> IpAddr {
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let told = behind_proxy.then(|| told_by_proxy(&request.headers));
    told.flatten().unwrap_or(peer).to_canonical()
}

/// `None` when the proxy says nothing that can be read.
fn told_by_proxy(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(&FORWARDED_FOR).iter().next_back()?;
    let last = last.to_str().ok()?.rsplit(',').next()?.trim();
    // Some add the port.
    last.parse()
        .or_else(|_| last.parse().map(|address: SocketAddr| address.ip()))
        .or_else(|_| last.trim_matches(['[', ']']).parse())
        .ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};

    use super::*;

    const PEER: &str = "127.0.0.9";

    fn of(forwarded: &[&str], behind_proxy: bool) -> String {
        let mut request = Request::new(());
        let peer: SocketAddr = format!("{PEER}:4000").parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        for value in forwarded {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(&FORWARDED_FOR, value);
        }
        of_request(&request.into_parts().0, behind_proxy).to_string()
    }

    #[test]
    fn nobody_but_a_proxy_is_believed() {
        for forwarded in [&["192.0.2.1"][..], &["192.0.2.1, 192.0.2.2"], &[]] {
            assert_eq!(of(forwarded, false), PEER);
        }
    }

    #[test]
    fn only_the_last_entry_is_the_proxys_own() {
        for (forwarded, address) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["10.0.0.1, 192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.2", "10.0.0.1,192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1:1234"], "192.0.2.1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            // What cannot be read is nobody's; an entry before it was written by the client.
            (&["192.0.2.1, unknown"], PEER),
            (&["192.0.2.1", "é"], PEER),
            (&["192.0.2.1,"], PEER),
            (&[""], PEER),
            (&[], PEER),
        ] {
            assert_eq!(of(forwarded, true), address, "{forwarded:?}");
        }
    }
}
