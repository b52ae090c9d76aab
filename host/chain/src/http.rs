//! One question and its answer, over TLS 1.3 or plain TCP on this machine, HTTP/1.1. The server decides
//! what it sends and when; both are bounded here, and redirects are not followed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::endpoint::{ApiKey, Endpoint};
use crate::error::{AccessError, shown};
use crate::limits::{MAX_ANSWER_BYTES, MAX_HEAD_BYTES, MAX_HEADERS};
use crate::toncenter::Patience;

/// The authorities that a server's TLS certificate is judged by.
#[derive(Clone)]
pub struct TlsRoots(Arc<ClientConfig>);

impl TlsRoots {
    /// Reads authorities from PEM. Entries that are no usable authority are left out, as every TLS
    /// client does.
    ///
    /// # Errors
    /// [`AccessError::NoTlsRoots`] if none is left.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AccessError> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(AccessError::NoTlsRoots);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| AccessError::NoTlsRoots)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

impl fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsRoots")
    }
}

/// What came back: the server says in the body what it means by the status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// Opens a connection, posts JSON and reads the whole answer.
pub(crate) async fn post(
    endpoint: &Endpoint,
    target: &str,
    key: Option<&ApiKey>,
    tls: Option<&TlsRoots>,
    json: String,
    patience: &Patience,
) -> Result<Answer, AccessError> {
    let (connect, whole) = (patience.connect, patience.answer);
    let late = |limit| move |_| AccessError::TimedOut(limit);
    let address = (endpoint.host(), endpoint.port());
    let stream = tokio::time::timeout(connect, TcpStream::connect(address))
        .await
        .map_err(late(connect))?
        .map_err(|e| AccessError::Unreachable(e.kind()))?;
    let mut request = Request::post(endpoint.target(target))
        .header(HOST, endpoint.authority())
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json");
    if let Some(key) = key.and_then(ApiKey::header) {
        request = request.header("x-api-key", key);
    }
    let request = request
        .body(Full::new(Bytes::from(json)))
        .map_err(|_| AccessError::malformed("a request", "the address makes none"))?;
    let exchange = async {
        if !endpoint.uses_tls() {
            return ask(stream, request).await;
        }
        let TlsRoots(config) = tls.ok_or(AccessError::NoTlsRoots)?;
        let name = ServerName::try_from(endpoint.host().to_owned())
            .map_err(|_| AccessError::Tls("the host is neither name nor address".to_owned()))?;
        let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        let secured = tokio::time::timeout(connect, connected)
            .await
            .map_err(late(connect))?
            .map_err(|e| AccessError::Tls(shown(&e.to_string())))?;
        ask(secured, request).await
    };
    tokio::time::timeout(whole, exchange).await.map_err(late(whole))?
}

async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, AccessError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| AccessError::Broken)?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| {
            if error.is_parse_too_large() {
                AccessError::TooLarge { limit: MAX_HEAD_BYTES }
            } else {
                AccessError::Broken
            }
        })?;
        read(response).await
    }
    .await;
    driver.abort();
    answer
}

async fn read(response: Response<Incoming>) -> Result<Answer, AccessError> {
    let (head, mut body) = response.into_parts();
    let too_large = || AccessError::TooLarge { limit: MAX_ANSWER_BYTES };
    if body.size_hint().lower() > MAX_ANSWER_BYTES as u64 {
        return Err(too_large());
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| AccessError::Broken)?.into_data() else { continue };
        if whole.len().saturating_add(data.len()) > MAX_ANSWER_BYTES {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    let seconds = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let retry_after = seconds.map(Duration::from_secs);
    Ok(Answer { status: head.status.as_u16(), retry_after, body: whole })
}
