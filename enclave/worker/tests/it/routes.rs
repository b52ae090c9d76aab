//! What is refused outside the sealed channel, and that nothing said there depends on a secret.

use chrysalis_worker::limits::{Bounds, MAX_GRANT_BYTES, MAX_HEAD_BYTES, MAX_HEADERS};
use hyper::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{REQUEST_BYTES, Rig, chat, code, json, trusting};

#[tokio::test(flavor = "multi_thread")]
async fn refuses_what_no_route_answers_and_says_what_to_do() {
    let rig = Rig::saying(&["ok"]).await;
    for (method, path, expected) in [
        (Method::GET, "/", (404, "E-NOT-FOUND")),
        (Method::GET, "/v1/sealed", (404, "E-NOT-FOUND")),
        (Method::POST, "/livez", (404, "E-NOT-FOUND")),
        (Method::PUT, "/v1/sealed", (404, "E-NOT-FOUND")),
        (Method::GET, "/v1/receipts/xyz", (400, "E-RECEIPT-ID")),
        (Method::GET, "/v1/receipts/00000000000000000000000000000000", (404, "E-NO-RECEIPT")),
        (Method::GET, "/v1/receipts/00000000000000000000000000000000/xyz", (400, "E-RECEIPT-ID")),
        (Method::POST, "/v1/grant", (409, "E-NO-GRANT-EXPECTED")),
    ] {
        let (status, found) = code(rig.send(method.clone(), path, Vec::new()).await).await;
        assert_eq!((status, &*found), expected, "{method} {path}");
    }
}

/// A quote without the caller's own nonce would be a quote for anybody.
#[tokio::test(flavor = "multi_thread")]
async fn quotes_only_for_exactly_one_nonce() {
    let rig = Rig::saying(&["ok"]).await;
    let nonce = "ab".repeat(32);
    for query in [
        String::new(),
        "?".into(),
        "?nonce=".into(),
        format!("?nonce={}", &nonce[..62]),
        format!("?nonce={nonce}00"),
        format!("?nonce={}", nonce.to_uppercase()),
        format!("?nonce={nonce}&report_data={nonce}"),
        format!("?report_data={nonce}&nonce={nonce}"),
    ] {
        let path = format!("/v1/attestation{query}");
        let found = code(rig.send(Method::GET, &path, Vec::new()).await).await;
        assert_eq!(found, (400, "E-NONCE".to_owned()), "{query}");
    }
    // This platform makes no quotes; that it was asked for one is what counts.
    let path = format!("/v1/attestation?nonce={nonce}");
    let found = code(rig.send(Method::GET, &path, Vec::new()).await).await;
    assert_eq!(found, (503, "E-TEE-UNSUPPORTED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_nothing_sealed_before_it_is_ready() {
    let rig = Rig::start(Bounds::default(), None).await;
    let (sealed, _) = rig.seal(1, &chat("hello"));
    let response = rig.send(Method::POST, "/v1/sealed", sealed).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(code(response).await, (503, "E-NOT-READY".to_owned()));
    let (status, body) = json(rig.send(Method::GET, "/readyz", Vec::new()).await).await;
    assert_eq!((status.as_u16(), &body["ready"]), (503, &false.into()));
    let (status, _) = json(rig.send(Method::GET, "/livez", Vec::new()).await).await;
    assert_eq!(status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_a_body_of_exactly_its_limit() {
    let rig = Rig::saying(&["ok"]).await;
    for (path, limit, refused) in
        [("/v1/sealed", REQUEST_BYTES, 400), ("/v1/grant", MAX_GRANT_BYTES, 409)]
    {
        let found = code(rig.send(Method::POST, path, vec![0; limit]).await).await;
        assert_eq!(found.0, refused, "it is not its length that is refused: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_head_over_its_limit_and_keeps_serving() {
    let rig = Rig::saying(&["ok"]).await;
    let long = format!("/{}", "a".repeat(20_000));
    let refused = rig.send(Method::GET, &long, Vec::new()).await;
    assert!(refused.status().is_client_error(), "{}", refused.status());
    assert_eq!(rig.send(Method::GET, "/livez", Vec::new()).await.status(), 200);
}

/// A request for `path` with a head of `bytes` bytes and `fields` fields.
fn head(bytes: usize, fields: usize) -> Vec<u8> {
    let mut head = "GET /livez HTTP/1.1\r\nhost: worker\r\n".to_owned();
    (2..fields).for_each(|n| head += &format!("x-{n}: y\r\n"));
    let last = "x-last: \r\n\r\n".len();
    let fill = bytes.saturating_sub(head.len() + last);
    head += &format!("x-last: {}\r\n\r\n", "z".repeat(fill));
    head.into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_a_head_at_its_limits_and_refuses_one_past_them() {
    let rig = Rig::saying(&["ok"]).await;
    for (bytes, fields, answered) in [
        (MAX_HEAD_BYTES, 3, "HTTP/1.1 200"),
        (MAX_HEAD_BYTES + 1, 3, "HTTP/1.1 431"),
        (0, MAX_HEADERS, "HTTP/1.1 200"),
        (0, MAX_HEADERS + 1, "HTTP/1.1 431"),
    ] {
        let mut tls = rig.tls(trusting()).await;
        tls.write_all(&head(bytes, fields)).await.unwrap();
        let mut answer = [0; 12];
        tls.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), answered, "{bytes} bytes, {fields} fields");
    }
}
