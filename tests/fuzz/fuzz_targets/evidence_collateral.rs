//! Collateral: the first byte says which part of a genuine bundle the rest of the input replaces, an
//! X.509 chain, a CRL, signed JSON, a signature, or the bundle itself. Only the genuine part may verify.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::OnceLock;

use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, QuoteCollateralV3, ReportData};
use chrysalis_fuzz::corpus::{Input, input};
use chrysalis_wire::UnixTime;

chrysalis_fuzz::target!(seeds, one);

/// The genuine case of the conformance corpus.
struct Genuine {
    input: Input,
    bundle: QuoteCollateralV3,
    appraiser: Appraiser,
}

fn genuine() -> &'static Genuine {
    static GENUINE: OnceLock<Genuine> = OnceLock::new();
    GENUINE.get_or_init(|| {
        let input = input("collateral/001-genuine");
        let bundle: serde_json::Value = serde_json::from_str(&input.text("/collateral")).unwrap();
        let bundle = serde_json::from_value(bundle["collateral"].clone()).unwrap();
        let pins = Pins::parse(&input.text("/pins"), AllowSim::Yes).unwrap();
        Genuine { input, bundle, appraiser: Appraiser::new(pins) }
    })
}

/// Whether the quote is accepted with this collateral.
fn accepted(collateral: &Collateral) -> Result<(), &'static str> {
    let Genuine { input, appraiser, .. } = genuine();
    let data: [u8; 64] = input.bytes("/report_data").try_into().unwrap();
    let now = UnixTime(input.number("/now"));
    let quote = input.bytes("/quote");
    let verdict = appraiser.appraise_quote(&quote, &ReportData(data), collateral, now);
    verdict.result.map(|_| ()).map_err(|refusal| refusal.code)
}

/// A part of a bundle as bytes; chains are not in here, as copies of the root in them mean nothing.
fn part(bundle: &mut QuoteCollateralV3, which: u8) -> Option<Part<'_>> {
    Some(match which {
        0 => Part::Bytes(&mut bundle.pck_crl),
        1 => Part::Bytes(&mut bundle.root_ca_crl),
        2 => Part::Bytes(&mut bundle.tcb_info_signature),
        3 => Part::Bytes(&mut bundle.qe_identity_signature),
        4 => Part::Text(&mut bundle.tcb_info),
        5 => Part::Text(&mut bundle.qe_identity),
        6 => Part::Chain(&mut bundle.tcb_info_issuer_chain),
        7 => Part::Chain(&mut bundle.qe_identity_issuer_chain),
        _ => return None,
    })
}

enum Part<'a> {
    Bytes(&'a mut Vec<u8>),
    Text(&'a mut String),
    Chain(&'a mut String),
}

fn seeds() -> Vec<Vec<u8>> {
    let mut bundle = genuine().bundle.clone();
    let mut seeds = vec![[&[8][..], genuine().input.text("/collateral").as_bytes()].concat()];
    for which in 0..8 {
        let content = match part(&mut bundle, which).unwrap() {
            Part::Bytes(bytes) => bytes.clone(),
            Part::Text(text) | Part::Chain(text) => text.as_bytes().to_vec(),
        };
        seeds.push([&[which][..], &content].concat());
    }
    seeds
}

fn one(data: &[u8]) -> String {
    let Some((which, content)) = data.split_first() else { return "empty".to_owned() };
    let mut bundle = genuine().bundle.clone();
    let same = match part(&mut bundle, *which) {
        None => {
            return match Collateral::parse(content) {
                Ok(collateral) => format!("bundle: {:?}", accepted(&collateral)),
                Err(error) => error.code().to_owned(),
            };
        }
        Some(Part::Bytes(bytes)) => {
            let same = bytes == content;
            *bytes = content.to_vec();
            same
        }
        Some(part @ (Part::Text(_) | Part::Chain(_))) => {
            let Ok(new) = std::str::from_utf8(content) else { return "not text".to_owned() };
            let chain = matches!(part, Part::Chain(_));
            let (Part::Text(text) | Part::Chain(text)) = part else { unreachable!() };
            let same = chain || text == new;
            *text = new.to_owned();
            same
        }
    };
    let outcome = accepted(&Collateral::new(bundle));
    assert!(same || outcome.is_err(), "another part {which} of the collateral verifies");
    format!("{which}: {outcome:?}")
}
