//! Where collateral is fetched from: the base URL of a service. It comes from the user; it is read
//! strictly, because a misread one would send requests elsewhere.

use core::fmt;
use std::net::IpAddr;

use hyper::Uri;

use crate::error::UrlError;
use crate::limits::MAX_URL_BYTES;

/// Whether plain HTTP to another machine is accepted. A type and not a flag, so that the choice is
/// visible at every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// Only to this machine.
    LoopbackOnly,
    /// To any: the network sees what is asked, and may withhold it.
    Anywhere,
}

/// A base URL, above `/sgx/certification/v4` and `/tdx/certification/v4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Service {
    /// Reads a base URL: `https://HOST[:PORT][/PATH]`, or `http://` where `plain` accepts it.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(text: &str, plain: PlainHttp) -> Result<Self, UrlError> {
        if text.len() > MAX_URL_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UrlError::Form { reason: "it is too long or not printable ASCII" });
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::Form { reason: "it is no URL" })?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(UrlError::Form { reason: "it begins with neither https nor http" }),
        };
        let Some(authority) = uri.authority() else {
            return Err(UrlError::Form { reason: "it names no host" });
        };
        if authority.as_str().contains('@') {
            return Err(UrlError::Form { reason: "it contains a user name" });
        }
        if text.contains(['?', '#']) {
            return Err(UrlError::Form { reason: "it has a query or a fragment" });
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(UrlError::Form { reason: "it names no host" });
        }
        if !tls && plain == PlainHttp::LoopbackOnly && !is_loopback(&host) {
            return Err(UrlError::Plain { host });
        }
        let port = match (authority.port(), tls) {
            (Some(port), _) => port.as_u16(),
            (None, true) => 443,
            (None, false) => 80,
        };
        Ok(Self { tls, host, port, path: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Whether TLS is spoken to it.
    #[must_use]
    pub const fn uses_tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query of `below`, which begins with a slash.
    pub(crate) fn target(&self, below: &str) -> String {
        format!("{}{below}", self.path)
    }

    /// `Host` of a request.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bases_with_and_without_port_and_path() {
        for (text, shown, target) in [
            ("https://pcs.example", "https://pcs.example", "/x"),
            ("https://pcs.example/", "https://pcs.example", "/x"),
            ("https://pcs.example:8081/cache/", "https://pcs.example:8081/cache", "/cache/x"),
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081", "/x"),
            ("http://localhost", "http://localhost", "/x"),
            ("http://[::1]:9", "http://[::1]:9", "/x"),
        ] {
            let service = Service::parse(text, PlainHttp::LoopbackOnly).unwrap();
            assert_eq!(service.to_string(), shown);
            assert_eq!(service.target("/x"), target);
        }
    }

    #[test]
    fn refuses_plain_http_to_another_machine_unless_asked_to() {
        for text in ["http://pcs.example", "http://192.0.2.1:80", "http://localhost.example"] {
            let refused = Service::parse(text, PlainHttp::LoopbackOnly).unwrap_err();
            assert_eq!(refused.code(), "E-URL-PLAIN", "{text}");
            assert!(Service::parse(text, PlainHttp::Anywhere).is_ok());
        }
    }

    #[test]
    fn refuses_what_is_no_base_url() {
        for text in [
            "",
            "pcs.example",
            "/sgx",
            "ftp://pcs.example",
            "https://",
            "https://user@pcs.example",
            "https://pcs.example/?a=b",
            "https://pcs.example/#x",
            "https://pcs.example/ x",
            &format!("https://pcs.example/{}", "x".repeat(MAX_URL_BYTES)),
        ] {
            let refused = Service::parse(text, PlainHttp::Anywhere);
            assert!(matches!(refused, Err(UrlError::Form { .. })), "{text}");
        }
    }
}
