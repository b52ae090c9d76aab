//! One request and its answer, over TLS 1.3 or plain TCP, HTTP/1.1. The service decides what it
//! sends and when; both are bounded here, and redirects are not followed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
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

use crate::answer::Answer;
use crate::error::{FetchError, Problem, shown};
use crate::fetch::Patience;
use crate::limits::{MAX_ANSWER_BYTES, MAX_HEAD_BYTES, MAX_HEADERS};
use crate::part::Part;
use crate::service::Service;

/// The authorities a service's TLS certificate is judged by.
#[derive(Clone)]
pub struct TlsRoots(Arc<ClientConfig>);

impl TlsRoots {
    /// Reads authorities from PEM, as the system's bundle or a private cache's own certificate.
    /// Entries that are no usable authority are left out, as every TLS client does.
    ///
    /// # Errors
    /// [`FetchError::NoAuthorities`] if none is left.
    pub fn from_pem(pem: &[u8]) -> Result<Self, FetchError> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(FetchError::NoAuthorities);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| FetchError::NoAuthorities)?
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

/// Opens a connection, asks for one part and reads the whole answer.
pub(crate) async fn get(
    service: &Service,
    target: &str,
    tls: Option<&TlsRoots>,
    part: Part,
    patience: &Patience,
) -> Result<Answer, Problem> {
    let (connect, whole) = (patience.connect, patience.answer);
    let late = |limit| move |_| Problem::TimedOut(limit);
    let address = (service.host(), service.port());
    let stream = tokio::time::timeout(connect, TcpStream::connect(address))
        .await
        .map_err(late(connect))?
        .map_err(|e| Problem::Unreachable(e.kind()))?;
    let exchange = async {
        if !service.uses_tls() {
            return ask(stream, service, target, part).await;
        }
        let TlsRoots(config) = tls.ok_or(Problem::NoTlsRoots)?;
        let name = ServerName::try_from(service.host().to_owned())
            .map_err(|_| Problem::Tls("the host is neither a name nor an address".to_owned()))?;
        let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        let secured = tokio::time::timeout(connect, connected)
            .await
            .map_err(late(connect))?
            .map_err(|e| Problem::Tls(shown(&e.to_string())))?;
        ask(secured, service, target, part).await
    };
    tokio::time::timeout(whole, exchange).await.map_err(late(whole))?
}

async fn ask<S>(stream: S, service: &Service, target: &str, part: Part) -> Result<Answer, Problem>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Problem::Broken)?;
    let driver = tokio::spawn(connection);
    let request = Request::get(target)
        .header(HOST, service.authority())
        .header(ACCEPT, "application/json, application/pkix-crl")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Problem::Malformed("the address makes no HTTP request".to_owned()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| {
            if error.is_parse_too_large() {
                Problem::TooLarge { limit: MAX_HEAD_BYTES }
            } else {
                Problem::Broken
            }
        })?;
        read(response, part).await
    }
    .await;
    driver.abort();
    answer
}

async fn read(response: Response<Incoming>, part: Part) -> Result<Answer, Problem> {
    let status = response.status();
    if status.is_redirection() {
        return Err(Problem::Redirect { got: status.as_u16() });
    }
    if status != hyper::StatusCode::OK {
        return Err(Problem::Status { got: status.as_u16() });
    }
    let (head, mut body) = response.into_parts();
    let too_large = || Problem::TooLarge { limit: MAX_ANSWER_BYTES };
    if body.size_hint().lower() > MAX_ANSWER_BYTES as u64 {
        return Err(too_large());
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::Broken)?.into_data() else { continue };
        if whole.len().saturating_add(data.len()) > MAX_ANSWER_BYTES {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    Ok(Answer {
        content_type: text("content-type").unwrap_or_default(),
        chain: part.chain_headers().iter().find_map(|name| text(name)),
        body: whole,
    })
}
