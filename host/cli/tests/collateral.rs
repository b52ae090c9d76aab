//! `chrysalis policy fetch-collateral` by the real binary, against a service on loopback that
//! serves recorded answers. They stay outside the tree; without their folder these tests say
//! `skipped`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use common::World;
use serde_json::Value;

/// Inside the window of the older and of the newer recorded collateral of one family.
const JUNE_2025: u64 = 1_751_000_000;
const OCTOBER_2026: u64 = 1_792_800_000;
const OLDER: &str = "tdx_quote_collateral.json";
const NEWER: &str = "tdx_quote_td15ex_collateral.json";

fn vector(name: &str) -> Option<String> {
    let root = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    Some(root.join("attest/dcap").join(name).to_str().unwrap().to_owned())
}

/// Serves one recorded bundle for as long as the test runs; gives the base URL.
fn service(name: &str) -> Option<String> {
    let recorded: Value = serde_json::from_slice(&std::fs::read(vector(name)?).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let text = |field: &str| recorded[field].as_str().unwrap().to_owned();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0u8];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let signed = |name: &str, field: &str| {
                let signature = text(&format!("{field}_signature"));
                format!("{{\"{name}\":{},\"signature\":\"{signature}\"}}", text(field))
            };
            let (kind, chain, header, body) = if head.contains("/tcb?") {
                let body = signed("tcbInfo", "tcb_info");
                ("application/json", "tcb_info_issuer_chain", "TCB-Info-Issuer-Chain", body)
            } else if head.contains("/qe/identity") {
                let body = signed("enclaveIdentity", "qe_identity");
                let header = "SGX-Enclave-Identity-Issuer-Chain";
                ("application/json", "qe_identity_issuer_chain", header, body)
            } else if head.contains("/pckcrl?ca=platform") {
                let header = "SGX-PCK-CRL-Issuer-Chain";
                ("application/x-pem-file", "pck_crl_issuer_chain", header, text("pck_crl"))
            } else {
                ("text/plain", "pck_crl_issuer_chain", "X-Unused", text("root_ca_crl"))
            };
            let chain = text(chain).replace('\n', "%0A").replace(' ', "%20");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{header}: {chain}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    Some(url)
}

#[test]
fn a_fetched_bundle_appraises_the_quote_it_was_fetched_for() {
    let (Some(quote), Some(url)) = (vector("tdx_quote"), service(OLDER)) else { return };
    let world = World::new();
    let line = format!(
        "--format json policy fetch-collateral {quote} --url {url} --out @c.json --at {JUNE_2025}"
    );
    let json = world.run(&line).success().json("chrysalis/collateral-fetched/v1");
    assert_eq!(json["outcome"], "wrote");
    assert_eq!(json["fmspc"], "b0c06f000000");
    assert_eq!(json["tcb_evaluation_number"], 17);
    assert_eq!(json["quote"]["status"], "UpToDate");
    assert!(world.text("c.json").starts_with("{\"schema\":\"chrysalis/collateral/v1\""));
    let again = world.run(&line).success().json("chrysalis/collateral-fetched/v1");
    assert_eq!((&again["outcome"], &again["digest"]), (&"unchanged".into(), &json["digest"]));
}

#[test]
fn an_older_answer_is_refused_and_the_newer_bundle_is_kept() {
    let (Some(old), Some(new)) = (service(OLDER), service(NEWER)) else { return };
    let world = World::new();
    let line = |url: &str, at: u64| {
        format!(
            "--format json policy fetch-collateral --fmspc B0C06F000000 --url {url} \
             --out @c.json --at {at}"
        )
    };
    world.run(&line(&old, JUNE_2025)).success();
    let json = world.run(&line(&new, OCTOBER_2026)).success();
    assert_eq!(json.json("chrysalis/collateral-fetched/v1")["outcome"], "replaced");
    let kept = world.text("c.json");
    let run = world.run(&line(&old, JUNE_2025)).exits(10);
    let json = run.json("chrysalis/collateral-fetched/v1");
    assert_eq!(json["outcome"], "kept");
    assert!(json["kept_because"].as_str().unwrap().contains("number 17"), "{json}");
    assert_eq!(world.text("c.json"), kept);
}

#[test]
fn nothing_is_written_when_the_answer_is_of_another_family_or_over() {
    let Some(url) = service(NEWER) else { return };
    let world = World::new();
    let line = format!("policy fetch-collateral --url {url} --out @c.json");
    world
        .run(&format!("{line} --fmspc 90c06f000000 --at {OCTOBER_2026}"))
        .exits(10)
        .says("E-FETCH-OTHER");
    world
        .run(&format!("{line} --fmspc b0c06f000000 --at 1900000000"))
        .exits(10)
        .says("E-FETCH-WINDOW");
    assert!(!world.path("c.json").exists());
    // A file that is no bundle is somebody else's.
    world.file("c.json", "my notes");
    let run = world.run(&format!("{line} --fmspc b0c06f000000 --at {OCTOBER_2026}"));
    run.exits(30).says("E-COLLATERAL-FORM");
    assert_eq!(world.text("c.json"), "my notes");
}

#[test]
fn plain_http_to_another_machine_is_refused_and_bad_addresses_are_wrong_usage() {
    let world = World::new();
    let line = "policy fetch-collateral --fmspc b0c06f000000 --out @c.json --url";
    world.run(&format!("{line} http://192.0.2.1")).exits(10).says("E-URL-PLAIN");
    world.run(&format!("{line} ftp://192.0.2.1")).exits(64).says("E-URL");
    world.run(&format!("{line} http://127.0.0.1:1")).exits(1).says("E-FETCH-UNREACHABLE");
    world.run("policy fetch-collateral --out @c.json --url https://127.0.0.1").exits(64);
}
