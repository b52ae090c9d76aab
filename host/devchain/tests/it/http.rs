//! What the port answers, and what it refuses.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_devchain::{
    ChainError, Exposure, MAX_BODY_BYTES, MAX_CONNECTIONS, MAX_FAUCET, NOTICE, bind,
};
use chrysalis_ton::Address;
use serde_json::{Value, json};

use crate::client::Server;
use crate::{Clock, GRAM, NETWORK, NOW, Owner, PAYEE, node};

fn server() -> Server {
    Server::start(node(&Clock::start()))
}

fn rich(server: &Server) -> Owner {
    let owner = Owner::new(1);
    let body = json!({ "address": format!("0:{}", owner.account), "amount": 5 * GRAM as u64 });
    let (status, answer) = server.post("/faucet", &body.to_string());
    assert_eq!((status, &answer["ok"]), (200, &Value::Bool(true)), "{answer}");
    owner
}

fn send(server: &Server, message: &[u8]) -> (u16, Value) {
    let body = json!({ "boc": STANDARD.encode(message) });
    server.post("/api/v2/sendBocReturnHash", &body.to_string())
}

#[test]
fn every_answer_says_that_this_is_no_consensus_network() {
    let server = server();
    for request in ["GET / HTTP/1.1", "GET /nothing HTTP/1.1", "PUT /faucet HTTP/1.1"] {
        let request = format!("{request}\r\nhost: x\r\nconnection: close\r\n\r\n");
        let (_, head, _) = server.raw(request.as_bytes());
        assert!(head.contains(&format!("x-chrysalis-devchain: {NOTICE}")), "{head}");
    }
    assert_eq!(server.get("/").1["result"]["what"], NOTICE);
}

#[test]
fn an_order_of_a_wallet_is_carried_out_and_shows_in_both_accounts() {
    let server = server();
    let owner = rich(&server);
    let (status, sent) = send(&server, &owner.pays(0, PAYEE, GRAM));
    assert_eq!(status, 200, "{sent}");
    assert_eq!(STANDARD.decode(sent["result"]["hash"].as_str().unwrap()).unwrap().len(), 32);
    let payee = Address::contract(PAYEE, NETWORK).to_string();
    let (_, balance) = server.get(&format!("/api/v2/getAddressBalance?address={payee}"));
    assert_eq!(balance, json!({ "ok": true, "result": GRAM.to_string() }));
    let path = format!("/getWalletInformation?address=0:{}", owner.account);
    let (_, wallet) = server.get(&path);
    assert_eq!(
        (&wallet["result"]["wallet"], &wallet["result"]["seqno"]),
        (&true.into(), &1.into()),
        "{wallet}"
    );
    let (_, listed) = server.get(&format!("/getTransactions?address={payee}&limit=5"));
    let listed = listed["result"].as_array().unwrap();
    assert_eq!(listed.len(), 1);
    let wallet = Address::contract(owner.account, NETWORK).to_string();
    assert_eq!(listed[0]["in_msg"]["source"], wallet);
    assert_eq!(listed[0]["in_msg"]["value"], GRAM.to_string());
    assert_eq!(listed[0]["utime"], NOW);
}

#[test]
fn transactions_are_listed_from_one_and_after_another() {
    let server = server();
    let owner = rich(&server);
    for seqno in 0..4 {
        assert_eq!(send(&server, &owner.pays(seqno, PAYEE, 1)).0, 200);
    }
    let list = |query: &str| -> Vec<u64> {
        let path = format!("/getTransactions?address=0:{PAYEE}&{query}");
        let (status, listed) = server.get(&path);
        assert_eq!(status, 200, "{listed}");
        let lt = |t: &Value| t["transaction_id"]["lt"].as_str().unwrap().parse().unwrap();
        listed["result"].as_array().unwrap().iter().map(lt).collect()
    };
    let all = list("limit=100");
    assert!(all.len() == 4 && all.is_sorted_by(|newer, older| newer > older), "{all:?}");
    assert_eq!(list(&format!("to_lt={}", all[2])), all[..2]);
    assert_eq!(list(&format!("lt={}&limit=2", all[1])), all[1..3]);
    let (status, refused) = server.get(&format!("/getTransactions?address=0:{PAYEE}&limit=101"));
    assert_eq!((status, &refused["code"]), (422, &422.into()));
}

#[test]
fn a_contract_that_does_not_accept_is_an_error_with_its_exit_code() {
    let server = server();
    let owner = rich(&server);
    assert_eq!(send(&server, &owner.pays(0, PAYEE, 1)).0, 200);
    let (status, refused) = send(&server, &owner.pays(0, PAYEE, 1));
    assert_eq!(status, 500);
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("cannot apply external message") && error.contains("exitcode=133"));
    assert_eq!(refused["code"], 500);
    let (status, nobody) = send(&server, &Owner::new(2).pays(1, PAYEE, 1));
    assert_eq!(status, 500, "{nobody}");
}

#[test]
fn get_methods_take_and_give_values_and_say_where_there_is_no_contract() {
    let server = server();
    let owner = rich(&server);
    send(&server, &owner.pays(0, PAYEE, 1));
    let call = |account: &str, method: &str, stack: Value| {
        let body = json!({ "address": account, "method": method, "stack": stack });
        server.post("/runGetMethod", &body.to_string())
    };
    let wallet = format!("0:{}", owner.account);
    let (_, seqno) = call(&wallet, "seqno", json!([]));
    assert_eq!(seqno["result"]["stack"], json!([["num", "0x1"]]));
    assert_eq!(seqno["result"]["exit_code"], 0);
    let (_, extensions) = call(&wallet, "get_extensions", json!([]));
    assert_eq!(extensions["result"]["exit_code"], 0, "{extensions}");
    let (_, unknown) = call(&wallet, "no_such_method", json!([["num", "-0x2a"], ["num", 7]]));
    assert_eq!(
        (unknown["ok"].clone(), unknown["result"]["exit_code"].clone()),
        (true.into(), 11.into())
    );
    let (_, nobody) = call(&format!("0:{PAYEE}"), "seqno", json!([]));
    assert_eq!(nobody["result"]["exit_code"], -13);
    for stack in [
        json!([["num", "x"]]),
        json!([["num", format!("0x{}", "f".repeat(65))]]),
        json!([["tvm.Cell", "!"]]),
        json!([["tvm.Cell", ""]]),
        json!(["num"]),
        json!({}),
        json!(vec![["num", "1"]; 65]),
    ] {
        let (status, refused) = call(&wallet, "seqno", stack.clone());
        assert_eq!((status, &refused["ok"]), (422, &false.into()), "{stack}: {refused}");
    }
}

#[test]
fn parameters_of_the_network_and_addresses_without_history_are_answered() {
    let server = server();
    let (_, config) = server.get("/getConfigParam?config_id=19");
    assert_eq!(config["result"]["config"]["@type"], "tvm.cell");
    assert_eq!(server.get("/getConfigParam?config_id=4000").0, 404);
    let (_, account) = server.get(&format!("/getAddressInformation?address=0:{PAYEE}"));
    assert_eq!(
        (&account["result"]["state"], &account["result"]["balance"]),
        (&"uninitialized".into(), &"0".into())
    );
    assert_eq!(server.get("/getAddressBalance?address=EQnonsense").0, 422);
    assert_eq!(server.get("/getAddressBalance").0, 422);
    assert_eq!(server.get("/eval").0, 404);
}

#[test]
fn the_faucet_gives_up_to_its_limit_and_time_moves_when_told_to() {
    let server = server();
    let ask = |amount: u128| {
        let body = json!({ "address": format!("0:{PAYEE}"), "amount": amount.to_string() });
        server.post("/faucet", &body.to_string()).0
    };
    assert_eq!((ask(MAX_FAUCET), ask(MAX_FAUCET + 1), ask(0)), (200, 422, 422));
    let seqno = |server: &Server| {
        server.get("/getMasterchainInfo").1["result"]["last"]["seqno"].as_u64().unwrap()
    };
    let before = seqno(&server);
    let (_, advanced) = server.post("/advance", r#"{"seconds": 86400}"#);
    assert_eq!(advanced["result"]["now"], NOW + 86_400);
    assert!(seqno(&server) > before);
}

#[test]
fn refuses_a_body_one_byte_over_the_limit() {
    let server = server();
    let padded = |len: usize| format!("{{}}{}", " ".repeat(len - 2));
    assert_eq!(server.post("/getMasterchainInfo", &padded(MAX_BODY_BYTES)).0, 200);
    assert_eq!(server.post("/getMasterchainInfo", &padded(MAX_BODY_BYTES + 1)).0, 413);
}

#[test]
fn one_connection_more_than_the_limit_is_closed() {
    let server = server();
    let held: Vec<TcpStream> = (0..MAX_CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(b"GET / HT").unwrap();
            stream
        })
        .collect();
    // Until the server has taken all of them.
    std::thread::sleep(Duration::from_millis(300));
    let mut more = TcpStream::connect(server.address).unwrap();
    more.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(more.read(&mut [0]), Ok(0) | Err(_)), "one more is served");
    drop(held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.get("/").0, 200);
}

#[test]
fn refuses_to_listen_where_others_can_reach_it_unless_told_to() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "[::ffff:192.0.2.1]:0"] {
        let address = address.parse().unwrap();
        let refused = runtime.block_on(bind(address, Exposure::LoopbackOnly)).unwrap_err();
        assert_eq!(refused, ChainError::NotLoopback(address));
    }
    runtime.block_on(bind("0.0.0.0:0".parse().unwrap(), Exposure::Network)).unwrap();
}
