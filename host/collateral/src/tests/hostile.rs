//! Answers no service should give: each is refused with the part and the reason, and only what may
//! pass is asked for again.

use super::*;
use crate::Problem;
use crate::limits::{MAX_ANSWER_BYTES, MAX_CHAIN_BYTES, MAX_HEAD_BYTES};

/// The code of the refusal and the number of attempts.
async fn code(part: Part, reply: impl Fn(&Reply) -> Reply) -> Option<(&'static str, usize)> {
    refused(part, reply).await.map(|(error, asked)| (error.code(), asked))
}

#[tokio::test]
async fn refuses_an_answer_that_breaks_off() {
    for part in Part::ALL {
        let broken = |reply: &Reply| {
            let promised = Some(reply.body.len() + 1);
            Reply { promised, ..reply.clone() }
        };
        let Some(got) = code(part, broken).await else { return };
        assert_eq!(got, ("E-FETCH-BROKEN", 3), "{part}");
    }
}

#[tokio::test]
async fn refuses_a_whole_answer_that_is_cut() {
    for part in Part::ALL {
        let cut = |reply: &Reply| {
            let body = reply.body[..reply.body.len() / 2].to_vec();
            Reply { body, ..reply.clone() }
        };
        let Some((error, asked)) = refused(part, cut).await else { return };
        assert!(["E-FETCH-FORM", "E-FETCH-CRL"].contains(&error.code()), "{error}");
        assert_eq!(asked, 1);
    }
}

#[tokio::test]
async fn refuses_one_byte_over_the_limit_whether_promised_or_sent() {
    for (size, promised, expected) in [
        (MAX_ANSWER_BYTES + 1, None, "E-FETCH-SIZE"),
        (10, Some(MAX_ANSWER_BYTES + 1), "E-FETCH-SIZE"),
        (MAX_ANSWER_BYTES, None, "E-FETCH-FORM"),
    ] {
        let large = |reply: &Reply| Reply { body: vec![b' '; size], promised, ..reply.clone() };
        let Some(got) = code(Part::TcbInfo, large).await else { return };
        assert_eq!(got, (expected, 1));
    }
    let chunked = |reply: &Reply| {
        let body = format!("{:x}\r\n{}", MAX_ANSWER_BYTES + 1, " ".repeat(MAX_ANSWER_BYTES + 1));
        Reply { body: body.into_bytes(), ..reply.clone() }.with("Transfer-Encoding", "chunked")
    };
    let Some((error, _)) = refused(Part::TcbInfo, chunked).await else { return };
    // Both lengths at once is not HTTP; either refusal will do, an answer will not.
    assert!(["E-FETCH-SIZE", "E-FETCH-BROKEN"].contains(&error.code()), "{error}");
}

#[tokio::test]
async fn refuses_a_head_and_a_chain_over_their_limits() {
    // The limit is looked at between reads, and one read may bring a buffer more.
    let head = |reply: &Reply| reply.clone().with("X-Long", &"x".repeat(MAX_HEAD_BYTES * 4));
    let Some((error, _)) = refused(Part::QeIdentity, head).await else { return };
    assert_eq!(error.code(), "E-FETCH-SIZE", "{error}");
    let long = "x".repeat(MAX_CHAIN_BYTES + 1);
    let chain = |reply: &Reply| reply.clone().with("SGX-Enclave-Identity-Issuer-Chain", &long);
    assert_eq!(code(Part::QeIdentity, chain).await, Some(("E-FETCH-CHAIN", 1)));
}

#[tokio::test]
async fn refuses_an_error_page_that_says_all_is_well() {
    let page = "<html><body>Service unavailable</body></html>";
    for (part, expected) in [
        (Part::TcbInfo, "E-FETCH-TYPE"),
        (Part::QeIdentity, "E-FETCH-TYPE"),
        (Part::PckCrl, "E-FETCH-CRL"),
        (Part::RootCrl, "E-FETCH-CRL"),
    ] {
        let html = |reply: &Reply| Reply {
            body: page.as_bytes().to_vec(),
            ..reply.clone().with("Content-Type", "text/html")
        };
        let Some(got) = code(part, html).await else { return };
        assert_eq!(got, (expected, 1));
    }
}

#[tokio::test]
async fn follows_no_redirect_and_does_not_ask_again() {
    let moved = |reply: &Reply| {
        Reply { status: 302, ..reply.clone() }.with("Location", "http://127.0.0.1:1/elsewhere")
    };
    let Some(got) = code(Part::PckCrl, moved).await else { return };
    assert_eq!(got, ("E-FETCH-REDIRECT", 1));
}

#[tokio::test]
async fn asks_again_for_what_may_pass_and_not_for_what_does_not() {
    for (status, attempts) in [(500, 3), (503, 3), (429, 3), (400, 1), (403, 1), (404, 1)] {
        let reply = |reply: &Reply| Reply { status, ..reply.clone() };
        let Some(got) = code(Part::TcbInfo, reply).await else { return };
        assert_eq!(got, ("E-FETCH-STATUS", attempts), "{status}");
    }
}

#[tokio::test]
async fn does_not_wait_longer_than_its_patience() {
    let Some(from) = collateral(TDX_JUNE) else { return };
    let mut replies = replies(&from);
    replies[0].silence = Duration::from_secs(60);
    let server = Server::start(replies).await;
    let service = Service::parse(&server.url(), PlainHttp::LoopbackOnly).unwrap();
    let patience = Patience { answer: Duration::from_millis(50), attempts: 2, ..HURRY };
    let source = Source::new(service, None, &TrustRoot::Intel);
    let error = source.fetch(&wanted(B0C0), &TrustRoot::Intel, &patience, JUNE_2025).await;
    let late = Problem::TimedOut(patience.answer);
    let wanted = FetchError::Part { part: Part::TcbInfo, problem: late, attempts: 2 };
    assert_eq!(error.unwrap_err(), wanted);
}

#[tokio::test]
async fn refuses_a_chain_that_is_missing_or_no_chain() {
    let Some(from) = collateral(TDX_JUNE) else { return };
    let one = from.tcb_info_issuer_chain.split_inclusive("-----END CERTIFICATE-----\n").next();
    let three = format!("{0}{1}", from.tcb_info_issuer_chain, one.unwrap());
    for chain in ["", "nothing", "%zz", one.unwrap(), &three] {
        let chain = if chain == "%zz" { chain.to_owned() } else { escaped(chain) };
        let other = |reply: &Reply| reply.clone().with("TCB-Info-Issuer-Chain", &chain);
        assert_eq!(code(Part::TcbInfo, other).await, Some(("E-FETCH-CHAIN", 1)), "{chain}");
    }
    let none = |reply: &Reply| {
        let mut reply = reply.clone();
        reply.headers.truncate(1);
        reply
    };
    assert_eq!(code(Part::TcbInfo, none).await, Some(("E-FETCH-CHAIN", 1)));
}

#[tokio::test]
async fn refuses_one_changed_byte_of_anything_that_is_signed() {
    for (part, from, to, expected) in [
        (Part::TcbInfo, "\"pceId\":\"0000\"", "\"pceId\":\"0001\"", "E-FETCH-AUTHENTIC"),
        (Part::TcbInfo, "\"version\":3,", "\"version\":3 ,", "E-FETCH-AUTHENTIC"),
        (Part::QeIdentity, "\"miscselect\":\"0", "\"miscselect\":\"1", "E-FETCH-AUTHENTIC"),
    ] {
        let changed = |reply: &Reply| {
            let body = String::from_utf8(reply.body.clone()).unwrap();
            assert!(body.contains(from));
            Reply { body: body.replacen(from, to, 1).into_bytes(), ..reply.clone() }
        };
        let Some(got) = code(part, changed).await else { return };
        assert_eq!(got, (expected, 1), "{part}");
    }
    // The last byte of a list belongs to its signature.
    for part in [Part::PckCrl, Part::RootCrl] {
        let changed = |reply: &Reply| {
            let mut reply = reply.clone();
            let last = reply.body.last_mut().unwrap();
            // One is binary, the other hexadecimal digits.
            *last = if part == Part::PckCrl { *last ^ 1 } else { b'0' + (*last == b'0') as u8 };
            reply
        };
        assert_eq!(code(part, changed).await, Some(("E-FETCH-AUTHENTIC", 1)), "{part}");
    }
}

#[tokio::test]
async fn refuses_answers_about_another_platform_kind_and_authority() {
    let (Some(march), Some(sgx)) = (collateral(TDX_MARCH), collateral(SGX_JUNE)) else { return };
    // Asked for one family, the service answers for another, whose data is genuine and valid.
    let server = Server::start(replies(&march)).await;
    let error = fetch(&server, &wanted(B0C0), MARCH_2026).await.unwrap_err();
    let FetchError::Part { part: Part::TcbInfo, problem, attempts: 1 } = error else { panic!() };
    let (expected, got) = ("b0c06f000000".to_owned(), "90C06F000000".to_owned());
    assert_eq!(problem, Problem::Other { what: "FMSPC", expected, got });

    for (part, at, what) in
        [(Part::TcbInfo, 0, "id"), (Part::QeIdentity, 1, "id"), (Part::PckCrl, 2, "the authority")]
    {
        let of_sgx = replies(&sgx)[at].clone();
        let (error, _) = refused(part, |_| of_sgx.clone()).await.unwrap();
        let FetchError::Part { problem: Problem::Other { what: named, .. }, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*named, what);
    }
}

#[tokio::test]
async fn refuses_genuine_answers_outside_their_window() {
    let Some(from) = collateral(TDX_JUNE) else { return };
    for now in [MARCH_2026, UnixTime(1_700_000_000)] {
        let server = Server::start(replies(&from)).await;
        let error = fetch(&server, &wanted(B0C0), now).await.unwrap_err();
        assert_eq!(error.code(), "E-FETCH-WINDOW", "{error}");
    }
}

#[tokio::test]
async fn refuses_everything_under_another_root() {
    let Some(from) = collateral(TDX_JUNE) else { return };
    let server = Server::start(replies(&from)).await;
    let service = Service::parse(&server.url(), PlainHttp::LoopbackOnly).unwrap();
    let fake = rcgen::generate_simple_self_signed(vec!["FAKE".to_owned()]).unwrap();
    let root = TrustRoot::InsecureSim(fake.cert.der().to_vec());
    let source = Source::new(service, None, &root);
    let error = source.fetch(&wanted(B0C0), &root, &HURRY, JUNE_2025).await.unwrap_err();
    assert_eq!(error.code(), "E-FETCH-AUTHENTIC", "{error}");
}

#[tokio::test]
async fn says_that_nobody_listens() {
    let service = Service::parse("http://127.0.0.1:1", PlainHttp::LoopbackOnly).unwrap();
    let source = Source::new(service, None, &TrustRoot::Intel);
    let error = source.fetch(&wanted(B0C0), &TrustRoot::Intel, &HURRY, JUNE_2025).await;
    assert_eq!(error.unwrap_err().code(), "E-FETCH-UNREACHABLE");
}
