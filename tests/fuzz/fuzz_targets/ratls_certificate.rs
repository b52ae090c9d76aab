//! Whole certificates, and to-be-signed parts that are signed here: a mutation behind a signature
//! would reach nothing else.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_fuzz::ratls::{seeds_to_be_signed, signed};
use gramine_ratls::{Format, MAX_CERTIFICATE_BYTES, RatlsCertificate};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let folder = std::env::var("CHRYSALIS_VECTORS").unwrap_or_default();
    let recorded = ["gramine", "intel-sgxsdk", "own-generated-cocoon-format"]
        .into_iter()
        .filter_map(|name| std::fs::read(format!("{folder}/attest/ratls/{name}.der")).ok());
    let made = seeds_to_be_signed();
    for seed in &made {
        let accepted = signed(seed).iter().any(|whole| RatlsCertificate::parse(whole).is_ok());
        assert!(accepted, "a seed that is refused leads nowhere");
    }
    made.into_iter().chain(recorded).collect()
}

fn one(data: &[u8]) -> String {
    let whole = parse(data);
    let inside: Vec<String> = signed(data).iter().map(|certificate| parse(certificate)).collect();
    format!("{whole}; {}", inside.join("; "))
}

fn parse(der: &[u8]) -> String {
    match RatlsCertificate::parse(der) {
        Ok(certificate) => {
            assert!(der.len() <= MAX_CERTIFICATE_BYTES);
            let (format, key) = (certificate.format(), certificate.key());
            assert!(Format::ALL.contains(&format) && format.allows(key.kind()));
            // Accepted only if the quote claims what is computed from the key.
            let expected = format.report_data(key, certificate.claims());
            assert_eq!(&expected, certificate.report_data());
            let holds = |window: &[u8]| window == expected.0;
            assert!(certificate.quote().windows(64).any(holds));
            let (from, until) = certificate.validity();
            assert!(from <= until);
            format!("{format}")
        }
        Err(error) => error.code().to_owned(),
    }
}
