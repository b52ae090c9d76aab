//! Servers that lie, stall, cut and flood. Each answer is sent as written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrysalis_chain::{
    AccessError, ApiKey, ChainAccess as _, Endpoint, MAX_ANSWER_BYTES, MAX_STACK, MAX_TRANSACTIONS,
    TlsRoots, Toncenter, channel_view,
};
use chrysalis_receipt::CellBuilder;
use chrysalis_wire::{Digest, UnixTime};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::{ACCOUNT, client};

/// A server that gives each connection the next answer, the last one again and again.
async fn server(answers: Vec<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/v2", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let turn = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let answer = answers[turn].clone();
            tokio::spawn(async move {
                drop(stream.read(&mut [0; 4096]).await);
                drop(stream.write_all(&answer).await);
                drop(stream.flush().await);
                // A client that still waits is waiting for what was promised.
                drop(stream.read(&mut [0; 4096]).await);
            });
        }
    });
    (base, asked)
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn ok(result: Value) -> Vec<u8> {
    http("200 OK", &json!({ "ok": true, "result": result }).to_string())
}

async fn account(answer: Vec<u8>) -> AccessError {
    let (base, _) = server(vec![answer]).await;
    client(&base).account(ACCOUNT).await.unwrap_err()
}

fn good_account() -> Value {
    json!({
        "balance": "5", "state": "uninitialized", "code": "", "data": "", "sync_utime": 1000,
        "last_transaction_id": { "lt": "0", "hash": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" },
    })
}

#[tokio::test]
async fn refuses_what_is_no_answer() {
    for body in ["", "null", "[]", "{", "{\"ok\":true", "<html>", "{\"result\":1}", "\u{0}"] {
        let refused = account(http("200 OK", body)).await;
        assert_eq!(refused.code(), "E-CHAIN-ANSWER", "{body:?}: {refused}");
    }
    let deep = format!("{{\"ok\":true,\"result\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(account(http("200 OK", &deep)).await.code(), "E-CHAIN-ANSWER");
}

#[tokio::test]
async fn refuses_every_account_that_is_off_in_one_field() {
    let (base, _) = server(vec![ok(good_account())]).await;
    assert_eq!(client(&base).account(ACCOUNT).await.unwrap().balance, 5);
    for (field, value) in [
        ("balance", json!("-5")),
        ("balance", json!("+5")),
        ("balance", json!("5.0")),
        ("balance", json!("")),
        ("balance", json!((1u128 << 120).to_string())),
        ("balance", json!(-5)),
        ("balance", json!(0.5)),
        ("balance", json!(null)),
        ("state", json!("nonexist")),
        ("state", json!("active")),
        ("sync_utime", json!("1000")),
        ("sync_utime", json!(-1)),
        ("last_transaction_id", json!({ "lt": "0x1", "hash": "AA==" })),
        ("last_transaction_id", json!({ "lt": "18446744073709551616", "hash": "AA==" })),
        ("last_transaction_id", json!({ "lt": "1", "hash": "AA==" })),
        ("last_transaction_id", json!(null)),
    ] {
        let mut bad = good_account();
        bad[field] = value.clone();
        let refused = account(ok(bad)).await;
        let codes = ["E-CHAIN-ANSWER", "E-BOC"];
        assert!(codes.contains(&refused.code()), "{field} {value}: {refused}");
    }
}

#[tokio::test]
async fn refuses_an_answer_one_byte_over_the_limit_announced_or_not() {
    let long = MAX_ANSWER_BYTES + 1;
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {long}\r\n\r\n");
    let too_large = AccessError::TooLarge { limit: MAX_ANSWER_BYTES };
    assert_eq!(account(announced.into_bytes()).await, too_large);
    let until_closed = |len: usize| {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        answer.extend(format!("{len:x}\r\n{}\r\n0\r\n\r\n", " ".repeat(len)).bytes());
        answer
    };
    assert_eq!(account(until_closed(long)).await, too_large);
    assert_eq!(account(until_closed(MAX_ANSWER_BYTES)).await.code(), "E-CHAIN-ANSWER");
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(64 << 10));
    assert!(matches!(account(head.into_bytes()).await, AccessError::TooLarge { .. }));
}

#[tokio::test]
async fn an_answer_that_is_cut_or_never_ends_is_asked_for_again_and_then_given_up() {
    let (base, asked) =
        server(vec![b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"ok\"".to_vec()]).await;
    let refused = client(&base).account(ACCOUNT).await.unwrap_err();
    assert_eq!((refused.code(), asked.load(Ordering::SeqCst)), ("E-CHAIN-TIMEOUT", 3));
    let (base, _) = server(vec![b"SSH-2.0-x\r\n".to_vec()]).await;
    assert_eq!(client(&base).account(ACCOUNT).await, Err(AccessError::Broken));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = client(&format!("http://{closed}")).account(ACCOUNT).await.unwrap_err();
    assert_eq!(refused.code(), "E-CHAIN-UNREACHABLE");
}

#[tokio::test]
async fn waits_and_asks_again_where_that_may_help_and_only_there() {
    let good = ok(good_account());
    let busy = http("429 Too Many Requests\r\nretry-after: 86400", "{}");
    let broken = http("502 Bad Gateway", "<html>");
    let (base, asked) = server(vec![busy.clone(), broken, good]).await;
    assert!(client(&base).account(ACCOUNT).await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let (base, asked) = server(vec![busy]).await;
    assert_eq!(client(&base).account(ACCOUNT).await, Err(AccessError::RateLimited));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let no =
        http("422 Unprocessable", &json!({ "ok": false, "error": "no", "code": 422 }).to_string());
    let not = "LITE_SERVER_UNKNOWN: cannot apply external message to current state : \
               External message was not accepted\nexitcode=104, steps=5";
    let not = http("500 Error", &json!({ "ok": false, "error": not, "code": 500 }).to_string());
    for (answer, code) in [
        (no, "E-CHAIN-REFUSED"),
        (not, "E-CHAIN-NOT-ACCEPTED"),
        (http("301 Moved\r\nlocation: http://127.0.0.1:1/", ""), "E-CHAIN-REDIRECT"),
        (http("200 OK", "{}"), "E-CHAIN-ANSWER"),
    ] {
        let (base, asked) = server(vec![answer]).await;
        let refused = client(&base).account(ACCOUNT).await.unwrap_err();
        assert_eq!((refused.code(), asked.load(Ordering::SeqCst)), (code, 1), "{refused}");
    }
}

#[tokio::test]
async fn a_refused_message_comes_with_its_exit_code_if_there_is_one() {
    let message = CellBuilder::new().build().unwrap();
    for (said, exit_code) in [("exitcode=104, steps=5", Some(104)), ("no code", None)] {
        let error = format!("cannot apply external message to current state : {said}");
        let body = json!({ "ok": false, "error": error, "code": 500 }).to_string();
        let (base, _) = server(vec![http("500 Error", &body)]).await;
        let refused = client(&base).send(&message).await;
        assert_eq!(refused, Err(AccessError::NotAccepted { exit_code }));
    }
}

fn transaction(lt: u64) -> Value {
    json!({
        "address": { "account_address": format!("0:{ACCOUNT}") },
        "utime": 1000,
        "transaction_id": { "lt": lt.to_string(), "hash": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" },
        "fee": "1",
        "in_msg": { "source": "", "destination": format!("0:{ACCOUNT}"), "value": "0" },
        "out_msgs": [{ "source": format!("0:{ACCOUNT}"), "destination": format!("0:{}", Digest([9; 32])), "value": "7" }],
    })
}

async fn listed(answer: Value, limit: usize) -> Result<usize, AccessError> {
    let (base, _) = server(vec![ok(answer)]).await;
    client(&base).transactions(ACCOUNT, 10, limit).await.map(|listed| listed.len())
}

#[tokio::test]
async fn refuses_transactions_of_somebody_else_out_of_order_or_not_asked_for() {
    assert_eq!(listed(json!([transaction(30), transaction(20)]), 5).await, Ok(2));
    let other = format!("0:{}", Digest([8; 32]));
    for place in ["/address/account_address", "/in_msg/destination", "/out_msgs/0/source"] {
        let mut bad = transaction(30);
        *bad.pointer_mut(place).unwrap() = json!(other);
        let got = Digest([8; 32]);
        let refused = AccessError::OtherAccount { expected: ACCOUNT, got };
        assert_eq!(listed(json!([bad]), 5).await, Err(refused), "{place}");
    }
    for list in [
        json!([transaction(20), transaction(30)]),
        json!([transaction(20), transaction(20)]),
        json!([transaction(10)]),
        json!([transaction(30), transaction(20), transaction(19)]),
    ] {
        assert_eq!(listed(list, 2).await.unwrap_err().code(), "E-CHAIN-ANSWER");
    }
    let many = |count: u64| (0..count).map(|n| transaction(1_000 - n)).collect::<Value>();
    assert_eq!(listed(many(100), usize::MAX).await, Ok(MAX_TRANSACTIONS));
    assert_eq!(listed(many(101), usize::MAX).await.unwrap_err().code(), "E-CHAIN-ANSWER");
}

async fn called(stack: Value) -> Result<usize, AccessError> {
    let (base, _) = server(vec![ok(json!({ "exit_code": 0, "stack": stack }))]).await;
    client(&base).get(ACCOUNT, "m", &[]).await.map(|numbers| numbers.len())
}

#[tokio::test]
async fn refuses_results_that_are_no_natural_numbers_or_too_many() {
    let num = |text: &str| json!([["num", text]]);
    assert_eq!(called(num(&format!("0x{}", "F".repeat(64)))).await, Ok(1));
    for bad in [
        num("-0x1"),
        num("1"),
        num("0x"),
        num("0xg"),
        num(&format!("0x{}", "0".repeat(65))),
        json!([["cell", { "bytes": "" }]]),
        json!([["num", 1]]),
        json!(["num"]),
        json!(null),
    ] {
        assert_eq!(called(bad.clone()).await.unwrap_err().code(), "E-CHAIN-ANSWER", "{bad}");
    }
    assert_eq!(called(json!(vec![["num", "0x1"]; MAX_STACK])).await, Ok(MAX_STACK));
    let refused = called(json!(vec![["num", "0x1"]; MAX_STACK + 1])).await.unwrap_err();
    assert_eq!(refused.code(), "E-CHAIN-ANSWER");
}

#[tokio::test]
async fn refuses_numbers_that_no_channel_has() {
    let wide = format!("0x1{}", "0".repeat(32));
    for stack in [
        json!([["num", "0x0"], ["num", "0x0"]]),
        json!([["num", wide], ["num", "0x0"], ["num", "0x0"]]),
        json!([["num", "0x0"], ["num", "0x100000000"], ["num", "0x0"]]),
    ] {
        let (base, _) = server(vec![ok(json!({ "exit_code": 0, "stack": stack }))]).await;
        let refused = channel_view(&client(&base), ACCOUNT).await.unwrap_err();
        assert_eq!(refused.code(), "E-CHAIN-ANSWER", "{stack}");
    }
}

#[tokio::test]
async fn an_old_state_is_told_from_a_new_one() {
    let (base, _) = server(vec![ok(good_account())]).await;
    let shown = client(&base).account(ACCOUNT).await.unwrap();
    assert!(shown.clone().fresh(UnixTime(1_600), 600).is_ok());
    let stale = AccessError::Stale { age: 601, most: 600 };
    assert_eq!(shown.fresh(UnixTime(1_601), 600), Err(stale));
}

#[tokio::test]
async fn the_key_goes_to_the_server_and_nowhere_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let endpoint = Endpoint::parse(&base).unwrap();
    let chain = Toncenter::new(endpoint, Some(ApiKey::parse("s3cret").unwrap()), None);
    assert!(!format!("{chain:?}").contains("s3cret"));
    let asked = tokio::spawn(async move { chain.call("getMasterchainInfo", json!({})).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = vec![0; 4096];
    let read = stream.read(&mut head).await.unwrap();
    let head = String::from_utf8(head[..read].to_vec()).unwrap();
    assert!(head.starts_with("POST /jsonRPC HTTP/1.1\r\n") && head.contains("x-api-key: s3cret"));
    stream.write_all(&ok(json!(1))).await.unwrap();
    assert_eq!(asked.await.unwrap(), Ok(json!(1)));
}

#[tokio::test]
async fn a_server_that_should_be_authenticated_and_is_not_gets_neither_question_nor_key() {
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(TlsRoots::from_pem(pem.as_bytes()).unwrap_err(), AccessError::NoTlsRoots);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    let key = Some(ApiKey::parse("s3cret").unwrap());
    let chain = Toncenter::new(Endpoint::parse(&base).unwrap(), key, None);
    let refused = chain.account(ACCOUNT).await;
    assert_eq!(refused, Err(AccessError::NoTlsRoots));
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 0);
}
