//! Keeps web pages out. A browser lets any page send requests to a loopback port, and a page
//! that rebinds its own name to 127.0.0.1 could even read the answers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::{browser, other_host};
use super::{Exposure, State as Shared, is_loopback};

/// Refuses requests that come from a web page: those with an `Origin`, and on loopback those for
/// a host that is not this machine.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(ORIGIN) {
        return browser().into_response();
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if shared.exposure == Exposure::LoopbackOnly && !host.is_some_and(names_this_machine) {
        return other_host().into_response();
    }
    next.run(request).await
}

/// Whether a `Host` header names loopback.
fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
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
