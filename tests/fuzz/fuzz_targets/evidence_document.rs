//! What a worker answers to attest/1, as JSON: document, event log, device evidence. Nothing but the
//! genuine answer may be accepted; its name for the platform alone decides nothing.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::OnceLock;

use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, Session, replay_rtmr};
use chrysalis_fuzz::corpus::{Input, input};
use chrysalis_wire::{AttestationDocument, UnixTime};

chrysalis_fuzz::target!(seeds, one);

struct Genuine {
    input: Input,
    document: AttestationDocument,
    appraiser: Appraiser,
    collateral: Collateral,
    session: Session,
}

fn genuine() -> &'static Genuine {
    static GENUINE: OnceLock<Genuine> = OnceLock::new();
    GENUINE.get_or_init(|| {
        let input = input("document/002-genuine-gpu");
        let pins = Pins::parse(&input.text("/pins"), AllowSim::Yes).unwrap();
        Genuine {
            document: serde_json::from_value(input.value("/document").clone()).unwrap(),
            session: serde_json::from_value(input.value("/session").clone()).unwrap(),
            collateral: Collateral::parse(input.text("/collateral").as_bytes()).unwrap(),
            appraiser: Appraiser::new(pins),
            input,
        }
    })
}

fn seeds() -> Vec<Vec<u8>> {
    vec![genuine().input.value("/document").to_string().into_bytes()]
}

fn one(data: &[u8]) -> String {
    let Ok(document) = serde_json::from_slice::<AttestationDocument>(data) else {
        return "not a document".to_owned();
    };
    if let Ok(register) = replay_rtmr(&document.events) {
        assert_eq!(replay_rtmr(&document.events), Ok(register));
    }
    let Genuine { input, document: good, appraiser, collateral, session } = genuine();
    let now = UnixTime(input.number("/now"));
    let verdict = appraiser.appraise(&document, session, collateral, now);
    match verdict.result {
        Ok(_) => {
            let platform = good.platform.clone();
            assert_eq!(AttestationDocument { platform, ..document }, *good, "a forged document");
            "accepted".to_owned()
        }
        Err(refusal) => refusal.code.to_owned(),
    }
}
