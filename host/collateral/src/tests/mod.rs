//! The fetcher against a server of our own on loopback: it serves recorded answers of Intel's
//! service, and everything a service should not answer. The recorded data stays outside the tree;
//! without its folder these tests say `skipped`.

mod hostile;
mod recorded;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use chrysalis_evidence::{Authority, PlatformFamily, QuoteCollateralV3, TrustRoot};
use chrysalis_wire::UnixTime;

use self::server::{Reply, Server};
use crate::{Bundle, FetchError, Part, Patience, PlainHttp, Service, Source, Tee, Update, Wanted};

/// 2025-06-27, inside the windows of the TDX and SGX collateral of June 2025.
const JUNE_2025: UnixTime = UnixTime(1_751_000_000);
/// 2026-03-01.
const MARCH_2026: UnixTime = UnixTime(1_772_323_200);
/// 2026-10-23.
const OCTOBER_2026: UnixTime = UnixTime(1_792_800_000);

const TDX_JUNE: &str = "attest/dcap/tdx_quote_collateral.json";
const TDX_MARCH: &str = "attest/dcap/tdx_quote_outdated_collateral.json";
const TDX_OCTOBER: &str = "attest/dcap/tdx_quote_td15ex_collateral.json";
const SGX_JUNE: &str = "attest/dcap/sgx_quote_collateral.json";

/// Bytes of a vector; `None` (and a line on stderr) where the vectors folder is absent.
fn vector(path: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    let file = root.join(path);
    Some(std::fs::read(&file).unwrap_or_else(|e| panic!("vector {path} is missing: {e}")))
}

fn collateral(path: &str) -> Option<QuoteCollateralV3> {
    let mut found: QuoteCollateralV3 = serde_json::from_slice(&vector(path)?).unwrap();
    found.pck_certificate_chain = None;
    Some(found)
}

/// What the four endpoints answer, in the order of [`Part::ALL`], as Intel's service and a cache do.
fn replies(from: &QuoteCollateralV3) -> [Reply; 4] {
    let text = |name: &str, text: &str, signature: &[u8]| {
        format!("{{\"{name}\":{text},\"signature\":\"{}\"}}", hex::encode(signature))
    };
    let tcb = text("tcbInfo", &from.tcb_info, &from.tcb_info_signature);
    let qe = text("enclaveIdentity", &from.qe_identity, &from.qe_identity_signature);
    [
        Reply::json(tcb).with("TCB-Info-Issuer-Chain", &escaped(&from.tcb_info_issuer_chain)),
        Reply::json(qe)
            .with("SGX-Enclave-Identity-Issuer-Chain", &escaped(&from.qe_identity_issuer_chain)),
        Reply::new("application/pkix-crl", from.pck_crl.clone())
            .with("SGX-PCK-CRL-Issuer-Chain", &escaped(&from.pck_crl_issuer_chain)),
        Reply::new("text/html; charset=utf-8", hex::encode(&from.root_ca_crl)),
    ]
}

fn escaped(pem: &str) -> String {
    pem.replace('%', "%25").replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B")
}

fn wanted(fmspc: [u8; 6]) -> Wanted {
    let platform = PlatformFamily { fmspc, authority: Authority::Platform };
    Wanted { tee: Tee::Tdx, platform, update: Update::Standard }
}

const B0C0: [u8; 6] = [0xb0, 0xc0, 0x6f, 0, 0, 0];
const C090: [u8; 6] = [0x90, 0xc0, 0x6f, 0, 0, 0];

/// Impatient, so that a test of waiting does not wait.
const HURRY: Patience = Patience {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    attempts: 3,
    first_wait: Duration::from_millis(1),
};

async fn fetch(server: &Server, wanted: &Wanted, now: UnixTime) -> Result<Bundle, FetchError> {
    let service = Service::parse(&server.url(), PlainHttp::LoopbackOnly).unwrap();
    let root = TrustRoot::Intel;
    // A test never asks Intel.
    let nowhere = Service::parse(&format!("{}/crl", server.url()), PlainHttp::LoopbackOnly);
    let source = Source::new(service, None, &root).with_root_crl(nowhere.unwrap());
    source.fetch(wanted, &root, &HURRY, now).await
}

/// Fetches with one reply replaced, and gives the error and how often that part was asked for.
async fn refused(part: Part, reply: impl Fn(&Reply) -> Reply) -> Option<(FetchError, usize)> {
    let mut replies = replies(&collateral(TDX_JUNE)?);
    let at = Part::ALL.iter().position(|p| *p == part).unwrap();
    replies[at] = reply(&replies[at]);
    let server = Server::start(replies).await;
    let error = fetch(&server, &wanted(B0C0), JUNE_2025).await.unwrap_err();
    let FetchError::Part { part: named, .. } = &error else { panic!("{error}") };
    assert_eq!(*named, part, "{error}");
    Some((error, server.asked(part)))
}
