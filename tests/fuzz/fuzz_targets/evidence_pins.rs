//! Pins files. What loads without leave for the simulator is never a simulator's.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_evidence::{AllowSim, Pins};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let example = include_str!("../../../manifests/pins.example.toml");
    let lines = example.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    vec![lines.collect::<Vec<_>>().join("\n").into_bytes(), example.as_bytes().to_vec()]
}

fn one(data: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(data) else { return "not text".to_owned() };
    match Pins::parse(text, AllowSim::No) {
        Ok(pins) => {
            assert!(!pins.insecure_sim());
            assert!(Pins::parse(text, AllowSim::Yes).is_ok());
            "pins".to_owned()
        }
        Err(error) => error.code().to_owned(),
    }
}
