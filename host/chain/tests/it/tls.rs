//! Servers behind TLS: one whose authority is trusted, and one whose is not.

use std::sync::Arc;

use chrysalis_chain::{AccessError, Endpoint, TlsRoots, Toncenter};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server on this machine that answers `1`, and its certificate.
async fn server() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            drop(stream.read(&mut [0; 4096]).await);
            let body = json!({ "ok": true, "result": 1 }).to_string();
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            drop(stream.write_all(answer.as_bytes()).await);
            drop(stream.shutdown().await);
        }
    });
    (base, made.cert.pem())
}

async fn ask(base: &str, pem: &str) -> Result<serde_json::Value, AccessError> {
    let roots = TlsRoots::from_pem(pem.as_bytes()).unwrap();
    let chain = Toncenter::new(Endpoint::parse(base).unwrap(), None, Some(roots));
    chain.call("getMasterchainInfo", json!({})).await
}

#[tokio::test]
async fn answers_come_over_tls_from_a_server_whose_authority_is_trusted_and_from_no_other() {
    let (base, pem) = server().await;
    assert_eq!(ask(&base, &pem).await, Ok(json!(1)));
    let (_, other) = server().await;
    let refused = ask(&base, &other).await.unwrap_err();
    assert_eq!(refused.code(), "E-CHAIN-TLS", "{refused}");
    // The certificate is for the address, and no other name of the machine.
    let named = base.replace("127.0.0.1", "localhost");
    assert_eq!(ask(&named, &pem).await.unwrap_err().code(), "E-CHAIN-TLS");
}
