//! Device evidence: an input is a report, and also a certificate chain. With the real ones of the
//! shared vectors at hand, nothing but they themselves may verify.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::OnceLock;

use chrysalis_evidence::nvidia::{
    ClaimedDevice, Device, DeviceError, DeviceEvidence, DeviceRoot, Report, chain_from_pem,
};
use chrysalis_fuzz::variant;
use chrysalis_wire::UnixTime;

chrysalis_fuzz::target!(seeds, one);

/// 2026-03-01.
const NOW: UnixTime = UnixTime(1_772_323_200);

/// A recorded H100, or evidence that only has its form where the vectors are absent.
fn recorded() -> &'static DeviceEvidence {
    static RECORDED: OnceLock<DeviceEvidence> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let folder = std::env::var("CHRYSALIS_VECTORS").unwrap_or_default();
        let file = |name: &str| std::fs::read(format!("{folder}/attest/nvidia/{name}")).ok();
        let report = file("h100-nvtrust.report.hex.txt").and_then(|text| unhex(text.trim_ascii()));
        let chain = file("h100-nvtrust.chain.txt").and_then(|pem| chain_from_pem(&pem).ok());
        DeviceEvidence {
            report: report.unwrap_or_else(made),
            chain: chain.unwrap_or_else(|| vec![0x30, 0x82, 0, 2, 5, 0]),
        }
    })
}

/// Two records and a VBIOS version, signed by nobody.
fn made() -> Vec<u8> {
    let mut out = vec![0x11, 0xe0, 1, 0xff];
    out.extend([7; 32]);
    out.extend([0, 0x11, 0x60, 0, 0, 2, 110, 0, 0]);
    for index in 1..=2 {
        out.extend([index, 1, 51, 0, 1, 48, 0]);
        out.extend([index; 48]);
    }
    out.extend([8; 32]);
    out.extend([12, 0, 6, 0, 8, 0, 0, 0x9f, 0, 0x96, 1, 0, 0, 0]);
    out.extend([9; 96]);
    out
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let pair = |p: &[u8]| u8::try_from(digit(p[0])? * 16 + digit(*p.get(1)?)?).ok();
    text.chunks(2).map(pair).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    vec![recorded().report.clone(), recorded().chain.clone(), made()]
}

fn one(data: &[u8]) -> String {
    let real = recorded();
    let verify = |report: &[u8], chain: &[u8]| {
        let evidence = DeviceEvidence { report: report.to_vec(), chain: chain.to_vec() };
        Device::verify(&evidence, &DeviceRoot::Nvidia, NOW).is_ok()
    };
    let report = match Report::parse(data) {
        Ok(report) => {
            assert!(Report::parse(&data[..data.len() - 1]).is_err(), "ends before its end");
            assert!(data == real.report || !verify(data, &real.chain), "a forged report");
            format!("report of {}", report.records.len())
        }
        Err(error) => variant(&error),
    };
    let evidence = DeviceEvidence { report: made(), chain: data.to_vec() };
    let chain = match ClaimedDevice::parse(&evidence) {
        Ok(_) => {
            assert!(data == real.chain || !verify(&real.report, data), "a forged chain");
            "chain".to_owned()
        }
        Err(DeviceError::Certificate { reason, .. }) => reason.to_owned(),
        Err(error) => variant(&error),
    };
    format!("{report}; {chain}")
}
