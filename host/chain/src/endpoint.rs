//! Where a chain server is, and the key that it wants. Both come from the user; the URL is read
//! strictly, because a misread one would send requests, and the key, elsewhere.

use core::fmt;
use std::net::IpAddr;

use hyper::Uri;
use hyper::header::HeaderValue;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::limits::{MAX_API_KEY_BYTES, MAX_URL_BYTES};

/// Why there is no endpoint.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a base URL.
    #[error("not the base URL of a chain server: {reason}")]
    Form {
        /// What is wrong.
        reason: &'static str,
    },
    /// Plain HTTP to another machine: the network could lie, and would see the key.
    #[error("{host} is another machine; plain HTTP is used on this one only")]
    Plain {
        /// The host.
        host: String,
    },
    /// Not an API key.
    #[error("an API key is 1 to {MAX_API_KEY_BYTES} letters, digits and signs, without spaces")]
    Key,
}

impl EndpointError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "E-CHAIN-URL",
            Self::Plain { .. } => "E-CHAIN-URL-PLAIN",
            Self::Key => "E-CHAIN-KEY",
        }
    }
}

/// The base URL of an API v2, such as `https://toncenter.com/api/v2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Endpoint {
    /// Reads a base URL: `https://HOST[:PORT]/PATH`, or `http://` on this machine.
    ///
    /// # Errors
    /// [`EndpointError::Form`], [`EndpointError::Plain`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let form = |reason| EndpointError::Form { reason };
        if text.len() > MAX_URL_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(form("it is too long or not printable ASCII"));
        }
        let uri: Uri = text.parse().map_err(|_| form("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(form("it begins with neither https nor http")),
        };
        let authority = uri.authority().ok_or_else(|| form("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(form("it contains a user name"));
        }
        if text.contains(['?', '#']) {
            return Err(form("it has a query or a fragment"));
        }
        // As it is compared: one name, however it is spelled.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host.is_empty() {
            return Err(form("it names no host"));
        }
        let local = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        if !tls && !local {
            return Err(EndpointError::Plain { host });
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port, path: uri.path().trim_end_matches('/').to_owned() })
    }

    pub(crate) const fn uses_tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Path of `below`, which begins with a slash.
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

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A server's key for more requests. It moves no coins; whoever has it uses up somebody's quota.
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Reads a key; the end of its line is not part of it.
    ///
    /// # Errors
    /// [`EndpointError::Key`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim_end_matches(['\r', '\n']);
        let fits = !text.is_empty() && text.len() <= MAX_API_KEY_BYTES;
        if !fits || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(EndpointError::Key);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// As a header, which prints nothing.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.0).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted API key>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bases_with_and_without_port_and_path() {
        for (text, shown, target) in [
            ("https://ton.example/api/v2", "https://ton.example/api/v2", "/api/v2/x"),
            ("https://ton.example:8443/", "https://ton.example:8443", "/x"),
            ("http://127.0.0.1:18081/api/v2/", "http://127.0.0.1:18081/api/v2", "/api/v2/x"),
            ("http://[::1]:9", "http://[::1]:9", "/x"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(
                (endpoint.to_string(), endpoint.target("/x")),
                (shown.into(), target.into())
            );
        }
    }

    #[test]
    fn one_host_is_one_endpoint_however_it_is_spelled() {
        let one = Endpoint::parse("https://ton.example/api/v2").unwrap();
        for other in [
            "https://TON.Example/api/v2/",
            "https://ton.example./api/v2",
            "https://ton.example:443/api/v2",
            "HTTPS://Ton.example.:443/api/v2",
        ] {
            assert_eq!(Endpoint::parse(other), Ok(one.clone()), "{other}");
        }
        for other in ["https://ton.example/API/v2", "https://ton.example:8443/api/v2"] {
            assert_ne!(Endpoint::parse(other), Ok(one.clone()), "{other}");
        }
    }

    #[test]
    fn refuses_what_is_no_base_url_and_plain_http_to_another_machine() {
        let long = format!("https://ton.example/{}", "x".repeat(MAX_URL_BYTES));
        for text in [
            "",
            "ton.example",
            "ftp://ton.example",
            "https://",
            "https://user@ton.example",
            "https://ton.example/?api_key=x",
            "https://ton.example/#x",
            &long,
        ] {
            assert_eq!(Endpoint::parse(text).unwrap_err().code(), "E-CHAIN-URL", "{text}");
        }
        for text in ["http://ton.example", "http://192.0.2.1", "http://localhost.example"] {
            assert_eq!(Endpoint::parse(text).unwrap_err().code(), "E-CHAIN-URL-PLAIN", "{text}");
        }
    }

    #[test]
    fn a_key_does_not_print_and_is_refused_when_it_would_not_fit_a_header() {
        let key = ApiKey::parse("abc123\n").unwrap();
        assert_eq!(format!("{key:?} {:?}", key.header().unwrap()), "<redacted API key> Sensitive");
        assert!(ApiKey::parse(&"x".repeat(MAX_API_KEY_BYTES)).is_ok());
        for text in ["", "\n", "a b", "a\nb", &"x".repeat(MAX_API_KEY_BYTES + 1)] {
            assert_eq!(ApiKey::parse(text).unwrap_err(), EndpointError::Key, "{text:?}");
        }
    }
}
