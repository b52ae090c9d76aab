//! What Intel's service answered, fetched again: the bundle is the recorded one, byte for byte, and
//! it verifies the quote it was recorded for.

use chrysalis_evidence::{Authority, Collateral, CutQuote, PlatformFamily, TrustRoot, examine};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::{Outdated, TlsRoots, replace};

async fn fetched(path: &str, wanted: &Wanted, now: UnixTime) -> Option<Bundle> {
    let server = Server::start(replies(&collateral(path)?)).await;
    Some(fetch(&server, wanted, now).await.unwrap())
}

#[tokio::test]
async fn fetches_what_was_recorded_and_it_verifies_its_quote() {
    for (path, quote, now, evaluation, status) in [
        (TDX_JUNE, "attest/dcap/tdx_quote", JUNE_2025, 17, "UpToDate"),
        (TDX_MARCH, "quote.dat", MARCH_2026, 18, "UpToDate"),
        (TDX_OCTOBER, "attest/dcap/tdx_quote_td15ex", OCTOBER_2026, 20, "UpToDate"),
        // The first quote again: newer collateral knows more about its platform.
        (TDX_OCTOBER, "attest/dcap/tdx_quote", OCTOBER_2026, 20, "OutOfDate"),
        (SGX_JUNE, "attest/dcap/sgx_quote", JUNE_2025, 17, "ConfigurationAndSWHardeningNeeded"),
    ] {
        let Some(quote) = vector(quote) else { return };
        let quote = CutQuote::parse(&quote).unwrap();
        let platform = PlatformFamily::of_quote(&quote).unwrap();
        let sgx = path == SGX_JUNE;
        let tee = if sgx { Tee::Sgx } else { Tee::Tdx };
        assert_eq!(platform.authority == Authority::Processor, sgx);
        let bundle =
            fetched(path, &Wanted { tee, platform, update: Update::Standard }, now).await.unwrap();
        assert_eq!(bundle.collateral, Collateral::new(collateral(path).unwrap()));
        assert_eq!(bundle.facts.evaluation_number(), evaluation);
        assert_eq!(bundle.facts.fmspc, hex::encode(platform.fmspc));
        assert!((1..=30).contains(&bundle.facts.days_left(now)), "{:?}", bundle.facts);
        let examined = examine(&quote, &bundle.collateral, &TrustRoot::Intel, now).unwrap();
        assert_eq!((examined.status.as_str(), examined.evaluation_number), (status, evaluation));
        // The end of the bundle is never later than what appraisal will find.
        assert!(examined.expires <= bundle.facts.expires);
    }
}

#[tokio::test]
async fn a_revocation_list_is_the_same_as_der_hex_and_pem() {
    let Some(from) = collateral(TDX_JUNE) else { return };
    let chain = escaped(&from.pck_crl_issuer_chain);
    let pem = rcgen_pem(&from.pck_crl);
    for body in [from.pck_crl.clone(), hex::encode_upper(&from.pck_crl).into_bytes(), pem] {
        let mut replies = replies(&from);
        replies[2] = Reply::new("text/plain", body).with("SGX-PCK-CRL-Issuer-Chain", &chain);
        let server = Server::start(replies).await;
        let bundle = fetch(&server, &wanted(B0C0), JUNE_2025).await.unwrap();
        assert_eq!(bundle.collateral, Collateral::new(from.clone()));
    }
}

/// PEM of a revocation list, with base64 of our own making being out of place here.
fn rcgen_pem(der: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = b"-----BEGIN X509 CRL-----\n".to_vec();
    for (index, three) in der.chunks(3).enumerate() {
        let bits = three.iter().fold(0u32, |bits, b| (bits << 8) | u32::from(*b));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= three.len() { digit } else { b'=' });
        }
        if index % 16 == 15 {
            out.push(b'\n');
        }
    }
    out.extend_from_slice(b"\n-----END X509 CRL-----\n");
    out
}

#[tokio::test]
async fn asks_where_the_root_says_if_the_service_has_no_list_of_the_root() {
    let Some(from) = collateral(TDX_JUNE) else { return };
    let mut replies = replies(&from);
    replies[3].status = 404;
    let server = Server::start(replies).await;
    let bundle = fetch(&server, &wanted(B0C0), JUNE_2025).await.unwrap();
    assert_eq!(bundle.collateral, Collateral::new(from));
    assert_eq!(server.asked_for_root_crl_elsewhere(), 1);
}

#[tokio::test]
async fn asks_a_busy_service_again() {
    let Some(from) = collateral(TDX_JUNE) else { return };
    let mut replies = replies(&from);
    replies[1].busy = 2;
    let server = Server::start(replies).await;
    fetch(&server, &wanted(B0C0), JUNE_2025).await.unwrap();
    assert_eq!((server.asked(Part::TcbInfo), server.asked(Part::QeIdentity)), (1, 3));
}

#[tokio::test]
async fn speaks_tls_to_a_service_whose_authority_is_given_and_to_no_other() {
    let Some(from) = collateral(TDX_JUNE) else { return };
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(
        rustls::crypto::aws_lc_rs::default_provider().into(),
    )
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certified.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
    .unwrap();
    let server = Server::start_tls(replies(&from), config).await;
    let fetch = async |tls: Option<TlsRoots>| {
        let service = Service::parse(&server.url(), PlainHttp::LoopbackOnly).unwrap();
        let root = TrustRoot::Intel;
        Source::new(service, tls, &root).fetch(&wanted(B0C0), &root, &HURRY, JUNE_2025).await
    };
    let own = TlsRoots::from_pem(certified.cert.pem().as_bytes()).unwrap();
    assert_eq!(fetch(Some(own)).await.unwrap().collateral, Collateral::new(from.clone()));

    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let other = TlsRoots::from_pem(other.cert.pem().as_bytes()).unwrap();
    assert_eq!(fetch(Some(other)).await.unwrap_err().code(), "E-FETCH-TLS");
    assert_eq!(fetch(None).await.unwrap_err().code(), "E-FETCH-AUTHORITIES");
    assert_eq!(TlsRoots::from_pem(b"no PEM").unwrap_err(), FetchError::NoAuthorities);
}

#[tokio::test]
async fn a_newer_bundle_replaces_an_older_one_and_never_the_reverse() {
    let Some(old) = fetched(TDX_JUNE, &wanted(B0C0), JUNE_2025).await else { return };
    let new = fetched(TDX_OCTOBER, &wanted(B0C0), OCTOBER_2026).await.unwrap();
    assert_eq!(replace(&old.collateral, &new), Ok(()));
    assert_eq!(replace(&new.collateral, &new), Ok(()));
    let refused = replace(&new.collateral, &old);
    assert_eq!(refused, Err(Outdated::EvaluationNumber { have: 20, got: 17 }));
    // With the same number, the date decides.
    let mut earlier = new.clone();
    earlier.facts.issued.0 -= 1;
    assert_eq!(replace(&new.collateral, &earlier).unwrap_err().code(), "E-FETCH-OLDER");
    // Another family's bundle is of no use here, however new it is.
    let other = fetched(TDX_MARCH, &wanted(C090), MARCH_2026).await.unwrap();
    assert_eq!(replace(&new.collateral, &other), Ok(()));
}
