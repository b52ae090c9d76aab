//! Tagged evidence and its claims. What parses has one spelling: written again it is the same, and
//! nothing shorter parses.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_fuzz::ratls::{p256_key, quote};
use gramine_ratls::{Claims, TaggedEvidence};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let claims = Claims::of_key(&p256_key());
    let quote = quote(&[7; 64]);
    let evidence = TaggedEvidence { quote: &quote, claims: &claims }.encode();
    // More claims than ours, nested.
    let mut more = vec![0xA3];
    more.extend(&claims[1..]);
    more.extend(b"\x65nonce\x42\x01\x02\x61k\x82\xA1\x01\x60\xC1\xF6");
    assert!(TaggedEvidence::parse(&evidence).is_ok() && Claims::parse(&more).is_ok());
    vec![evidence, claims, more]
}

fn one(data: &[u8]) -> String {
    let evidence = match TaggedEvidence::parse(data) {
        Ok(parsed) => {
            assert_eq!(parsed.encode(), data);
            format!("evidence, {}", claims(parsed.claims))
        }
        Err(error) => format!("{:?}", core::mem::discriminant(&error)),
    };
    format!("{evidence}; {}", claims(data))
}

fn claims(data: &[u8]) -> String {
    match Claims::parse(data) {
        Ok(parsed) => {
            for length in 0..data.len() {
                assert!(Claims::parse(&data[..length]).is_err(), "claims end where they end");
            }
            format!("claims, nonce {}", parsed.nonce.is_some())
        }
        // The text says what and where, and holds nothing of the input but numbers.
        Err(error) => error.to_string().chars().filter(|c| !c.is_ascii_digit()).collect(),
    }
}
