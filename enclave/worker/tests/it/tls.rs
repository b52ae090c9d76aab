//! Design §3, decision 10: TLS 1.3 only, post-quantum first, no tickets, no resumption, no early
//! data.

use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, trusting};

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_a_full_post_quantum_tls_1_3_handshake_without_tickets() {
    let rig = Rig::saying(&["ok"]).await;
    // One configuration for both: it would resume if it were offered anything to resume with.
    let config = trusting();
    for _ in 0..2 {
        let mut tls = rig.tls(config.clone()).await;
        tls.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        let session = tls.get_ref().1;
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
        let group = session.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
    }
    let config = &rig.worker.session.tls.config;
    assert_eq!(config.max_early_data_size, 0);
    assert!(!config.ticketer.enabled());
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_client_of_tls_1_2_with_the_alert_that_says_so() {
    let rig = Rig::saying(&["ok"]).await;
    let mut tcp = TcpStream::connect(rig.address).await.unwrap();
    tcp.write_all(&client_hello_of_tls_1_2()).await.unwrap();
    let mut alert = [0; 7];
    tcp.read_exact(&mut alert).await.unwrap();
    // RFC 8446 §6: record type alert, level fatal, protocol_version(70).
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70));
}

/// ECDHE-ECDSA with AES-128-GCM over P-256, no `supported_versions`.
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let mut extensions = Vec::new();
    extensions.extend_from_slice(&[0, 10, 0, 4, 0, 2, 0, 23]);
    extensions.extend_from_slice(&[0, 11, 0, 2, 1, 0]);
    extensions.extend_from_slice(&[0, 13, 0, 4, 0, 2, 4, 3]);
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.push(0);
    hello.extend_from_slice(&[0, 2, 0xC0, 0x2B]);
    hello.extend_from_slice(&[1, 0]);
    hello.extend_from_slice(&[0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend_from_slice(&extensions);
    let len = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, len + 4, 1, 0, 0, len];
    record.extend_from_slice(&hello);
    record
}
