//! What commands that look at a chain share: which server they ask, as whom, and how they say that it
//! is not to be had. The server is a stranger.

use std::path::{Path, PathBuf};

use chrysalis_chain::{AccessError, ApiKey, Endpoint, EndpointError, TlsRoots, Toncenter};
use chrysalis_ton::{Gram, TonError, account_of};
use chrysalis_wire::{Digest, SecretBytes};
use clap::Args;

use crate::exit::{Class, Failure};
use crate::files;

/// Which chain server is asked.
#[derive(Debug, Args)]
pub(crate) struct Chain {
    /// Base URL of a chain server with toncenter's API v2; without it the local `chrysalis devchain`.
    #[arg(long, value_name = "URL", default_value = LOCAL_CHAIN)]
    chain: String,
    /// File with the server's API key; $CHRYSALIS_CHAIN_KEY is read without it.
    #[arg(long, value_name = "FILE")]
    chain_key_file: Option<PathBuf>,
    /// Certificate authorities of the server, PEM; without it those of the system.
    #[arg(long, value_name = "FILE")]
    chain_ca_file: Option<PathBuf>,
}

impl Chain {
    pub(crate) fn open(&self) -> Result<Toncenter, Failure> {
        Ok(Toncenter::new(Endpoint::parse(&self.chain)?, self.key()?, self.tls(&self.chain)?))
    }

    /// Another server, which gets no key: keys are of one server.
    fn another(&self, url: &str) -> Result<Toncenter, Failure> {
        Ok(Toncenter::new(Endpoint::parse(url)?, None, self.tls(url)?))
    }

    /// This server and the others: as many as are named, and each of them once. Two names of one server
    /// would agree with each other.
    pub(crate) fn open_with(&self, also: &[String]) -> Result<Vec<Toncenter>, Failure> {
        let mut servers = vec![self.open()?];
        for url in also {
            let another = self.another(url)?;
            if servers.iter().any(|server| server.endpoint() == another.endpoint()) {
                let message = format!("{} is named twice", another.endpoint());
                return Err(Failure::new(Class::Usage, "E-CHAIN-TWICE", message)
                    .next("name each chain server once; what two of them say counts as agreed"));
            }
            servers.push(another);
        }
        Ok(servers)
    }

    /// The same options for a process in another directory.
    pub(crate) fn forward(&self) -> Result<Vec<String>, Failure> {
        let mut options = vec!["--chain".to_owned(), self.chain.clone()];
        let files =
            [("--chain-key-file", &self.chain_key_file), ("--chain-ca-file", &self.chain_ca_file)];
        for (name, file) in files {
            if let Some(path) = file {
                options.extend([name.to_owned(), absolute(path)?]);
            }
        }
        Ok(options)
    }

    fn tls(&self, url: &str) -> Result<Option<TlsRoots>, Failure> {
        match &self.chain_ca_file {
            Some(path) => Ok(Some(authorities(path)?)),
            None if url.starts_with("https:") => SYSTEM_AUTHORITIES
                .iter()
                .map(Path::new)
                .find(|path| path.is_file())
                .map(authorities)
                .transpose(),
            None => Ok(None),
        }
    }

    fn key(&self) -> Result<Option<ApiKey>, Failure> {
        let text = match &self.chain_key_file {
            Some(path) => files::read_secret(path, MAX_KEY_FILE_BYTES)?,
            None => match std::env::var(KEY_VARIABLE) {
                Ok(text) => SecretBytes::new(text.into_bytes()),
                Err(_) => return Ok(None),
            },
        };
        let text = core::str::from_utf8(text.expose()).map_err(|_| EndpointError::Key)?;
        Ok(Some(ApiKey::parse(text)?))
    }
}

/// A path that is the same from everywhere, as text.
pub(crate) fn absolute(path: &Path) -> Result<String, Failure> {
    let unusable = |reason: String| {
        let message = format!("{}: {reason}", path.display());
        Failure::new(Class::Usage, "E-FILE", message).next("use a path in UTF-8")
    };
    let path = std::path::absolute(path).map_err(|e| unusable(e.to_string()))?;
    path.into_os_string().into_string().map_err(|_| unusable("it is no text".to_owned()))
}

/// Reads an address in either form.
pub(crate) fn account(text: &str) -> Result<Digest, String> {
    account_of(text).map_err(|e| e.to_string())
}

/// Reads an amount in GRAM.
pub(crate) fn gram(text: &str) -> Result<Gram, String> {
    text.parse().map_err(|e: TonError| e.to_string())
}

fn authorities(path: &Path) -> Result<TlsRoots, Failure> {
    let pem = files::read(path, MAX_AUTHORITIES_BYTES)?;
    TlsRoots::from_pem(&pem).map_err(|e| Failure::from(e).in_file(path))
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        let next = match &error {
            EndpointError::Form { .. } => "write it as https://HOST[:PORT]/api/v2",
            EndpointError::Plain { .. } => "use https",
            EndpointError::Key => "give the key as the server's operator gave it to you",
        };
        Self::new(Class::Usage, error.code(), error.to_string()).next(next)
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let (class, next) = match &error {
            AccessError::NotAccepted { .. } => {
                (Class::Refused, "look at the contract with `chrysalis channel show`")
            }
            AccessError::NoContract { .. } | AccessError::Threw { .. } => {
                (Class::Refused, "check the address, and which network the server is of")
            }
            AccessError::Malformed { .. }
            | AccessError::OtherAccount { .. }
            | AccessError::Ton(_) => (Class::Malformed, "ask another server"),
            AccessError::NoTlsRoots => (Class::Usage, "give a PEM file with --chain-ca-file"),
            AccessError::RateLimited => (Class::Internal, "give a key with --chain-key-file"),
            _ => (
                Class::Internal,
                "check the address of the server, or start a local chain with \
                                    `chrysalis devchain`",
            ),
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

impl From<TonError> for Failure {
    fn from(error: TonError) -> Self {
        let (class, next) = match &error {
            TonError::Setting { .. } | TonError::SameParties { .. } => {
                (Class::Usage, "choose another value")
            }
            TonError::Code { .. } => (Class::Internal, "install this program again"),
            _ => (Class::Malformed, "run the command again with --help"),
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

/// Where `chrysalis devchain` listens.
pub(crate) const LOCAL_CHAIN: &str = "http://127.0.0.1:18081/api/v2";

const KEY_VARIABLE: &str = "CHRYSALIS_CHAIN_KEY";
const MAX_KEY_FILE_BYTES: usize = 1 << 10;
/// Where systems keep the authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Largest file of authorities read, in bytes.
const MAX_AUTHORITIES_BYTES: usize = 4 << 20;
