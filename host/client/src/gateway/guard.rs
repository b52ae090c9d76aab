//! Keeps web pages out. A browser lets any page send requests to a loopback port, and a page
//! that rebinds its own name to 127.0.0.1 could even read the answers.
//!
//! Browsers say `Origin` where a page reads or posts across origins, `Sec-Fetch-Site` on every
//! request (Fetch Metadata, W3C), and a page can forge neither.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::{browser, other_host};
use super::{Exposure, State as Shared, is_loopback};

/// Refuses requests that come from a web page, and on loopback those for a host that is not this
/// machine.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if comes_from_a_page(request.headers()) {
        return browser().into_response();
    }
    let here = is_for_this_machine(request.uri(), request.headers());
    if shared.exposure == Exposure::LoopbackOnly && !here {
        return other_host().into_response();
    }
    next.run(request).await
}

/// Whether a browser sends this on behalf of a page; `none` is its user's own doing.
fn comes_from_a_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    headers.contains_key(ORIGIN) || site.is_some_and(|site| site.as_bytes() != b"none")
}

/// Whether every host the request names is this machine. One `Host`, as RFC 9112 §3.2 asks; the
/// authority of an absolute target counts as well, because it is the one that HTTP goes by.
fn is_for_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let target = uri.authority().is_none_or(is_this_machine);
    target && host.to_str().is_ok_and(names_this_machine)
}

/// Whether a `Host` header names loopback.
fn names_this_machine(host: &str) -> bool {
    host.parse::<Authority>().is_ok_and(|authority| is_this_machine(&authority))
}

fn is_this_machine(authority: &Authority) -> bool {
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_are_this_machine() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:1", "127.8.8.8", "[::1]:8080"] {
            assert!(names_this_machine(host), "{host}");
        }
    }

    #[test]
    fn other_names_are_not_even_if_they_resolve_here() {
        for host in ["", "evil.example", "localhost.evil.example:80", "192.0.2.1", "[::2]", "a b"] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
