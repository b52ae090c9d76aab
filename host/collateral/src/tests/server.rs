//! A service on loopback that says what a test tells it to, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::Part;

/// What one endpoint answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes the head promises, if not those of the body.
    pub(crate) promised: Option<usize>,
    /// Wait before the body.
    pub(crate) silence: Duration,
    /// Answer with 503 this many times first.
    pub(crate) busy: usize,
}

impl Reply {
    pub(crate) fn new(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type".to_owned(), kind.to_owned())],
            body: body.into(),
            promised: None,
            silence: Duration::ZERO,
            busy: 0,
        }
    }

    pub(crate) fn json(body: String) -> Self {
        Self::new("application/json", body)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} X\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let length = self.promised.unwrap_or(self.body.len());
        head += &format!("Content-Length: {length}\r\nConnection: close\r\n\r\n");
        head.into_bytes()
    }
}

pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<[AtomicUsize; 5]>,
    scheme: &'static str,
}

impl Server {
    pub(crate) async fn start(replies: [Reply; 4]) -> Self {
        Self::serve(replies, None).await
    }

    pub(crate) async fn start_tls(replies: [Reply; 4], tls: ServerConfig) -> Self {
        Self::serve(replies, Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn serve(replies: [Reply; 4], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new([const { AtomicUsize::new(0) }; 5]);
        let counts = Arc::clone(&asked);
        let scheme = if tls.is_some() { "https" } else { "http" };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (replies, counts, tls) = (replies.clone(), Arc::clone(&counts), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &replies, &counts).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &replies, &counts).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, asked, scheme }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// How often a part was asked for.
    pub(crate) fn asked(&self, part: Part) -> usize {
        let at = Part::ALL.iter().position(|p| *p == part).unwrap();
        self.asked[at].load(Ordering::SeqCst)
    }

    /// How often the distribution point of the root's list was asked.
    pub(crate) fn asked_for_root_crl_elsewhere(&self) -> usize {
        self.asked[4].load(Ordering::SeqCst)
    }
}

/// The exact lines this version asks with, so that a test notices a changed one.
const LINES: [&str; 5] = [
    "GET /tdx/certification/v4/tcb?fmspc=",
    "GET /tdx/certification/v4/qe/identity?update=",
    "GET /sgx/certification/v4/pckcrl?ca=platform&encoding=der HTTP/1.1",
    "GET /sgx/certification/v4/rootcacrl HTTP/1.1",
    "GET /crl HTTP/1.1",
];

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    replies: &[Reply; 4],
    counts: &[AtomicUsize; 5],
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8];
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    // SGX has its own first two endpoints; everything else is the same.
    let line = head.replacen("GET /sgx/certification/v4/tcb", "GET /tdx/certification/v4/tcb", 1);
    let line = line.replacen("GET /sgx/certification/v4/qe", "GET /tdx/certification/v4/qe", 1);
    let line = line.replacen("ca=processor", "ca=platform", 1);
    let at = LINES.iter().position(|l| line.starts_with(l)).unwrap_or_else(|| panic!("{head}"));
    let before = counts[at].fetch_add(1, Ordering::SeqCst);
    // The distribution point gives the same list, as DER.
    let elsewhere = at == 4;
    let reply = if elsewhere { root_list_as_der(&replies[3]) } else { replies[at].clone() };
    let busy = Reply { status: 503, ..Reply::new("text/plain", "busy") };
    let reply = if before < reply.busy { busy } else { reply };
    let _ = stream.write_all(&reply.head()).await;
    tokio::time::sleep(reply.silence).await;
    let _ = stream.write_all(&reply.body).await;
    let _ = stream.shutdown().await;
}

fn root_list_as_der(reply: &Reply) -> Reply {
    Reply::new("application/octet-stream", hex::decode(&reply.body).unwrap_or_default())
}
