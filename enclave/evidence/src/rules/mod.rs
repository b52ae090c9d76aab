//! The rules of an appraisal: one id each, in the one order they are evaluated. Adding a rule means
//! a variant here, a section in `POLICY.md` and a line in the appraiser; the transcript refuses to
//! accept when a listed rule was not evaluated.

pub(crate) mod device;
mod platform;
pub(crate) mod sgx;
mod worker;

pub(crate) use platform::{
    collateral_age, config_id, debug, eval_number, platform_flags, platform_id, quote_form, seam,
    tcb_status, td_attributes, verify_dcap, xfam,
};
pub(crate) use worker::{
    devices, document, event_log, image, keyset, manifest, model_root, network, quote_report_data,
    report_data, tls_key,
};

use core::fmt;

use serde::{Serialize, Serializer};

use crate::transcript::Outcome;

/// What a rule found: a value for the rules after it, or why the evidence is refused.
pub(crate) type Decision<T> = Result<Passed<T>, Refused>;

/// A rule that does not refuse.
#[derive(Debug)]
pub(crate) struct Passed<T> {
    pub(crate) value: T,
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
}

impl<T> Passed<T> {
    /// The rule holds; `detail` shows the input it judged.
    pub(crate) const fn new(value: T, detail: String) -> Self {
        Self { value, outcome: Outcome::Pass, detail }
    }

    /// The rule judged nothing; `detail` says what there was to see.
    pub(crate) const fn info(value: T, detail: String) -> Self {
        Self { value, outcome: Outcome::Info, detail }
    }
}

/// A rule that refuses.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) expected: String,
    pub(crate) found: String,
    pub(crate) next_step: &'static str,
}

impl Refused {
    pub(crate) fn new<T>(
        code: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
        next_step: &'static str,
    ) -> Decision<T> {
        Err(Self { code, expected: expected.into(), found: found.into(), next_step })
    }
}

/// Declares the rules: variant, id, title. Their order is the order of evaluation and of the
/// sections of `POLICY.md`.
macro_rules! rules {
    (
        worker { $($(#[$meta:meta])* $variant:ident, $id:literal, $clause:literal, $title:literal;)* }
        device {
            $($(#[$dmeta:meta])* $dvariant:ident, $did:literal, $dclause:literal, $dtitle:literal;)*
        }
        enclave {
            $($(#[$emeta:meta])* $evariant:ident, $eid:literal, $eclause:literal, $etitle:literal;)*
        }
    ) => {
        /// Stable ids of the rules, in order of evaluation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum RuleId {
            $($(#[$meta])* $variant,)*
            $($(#[$dmeta])* $dvariant,)*
            $($(#[$emeta])* $evariant,)*
        }

        impl RuleId {
            /// Every rule about a worker in a trust domain, in order of evaluation. A verdict has
            /// all of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Every rule about its devices, in order of evaluation. A verdict has all of them
            /// behind the others if the pins name devices, and none if they do not.
            pub const DEVICE: &'static [Self] = &[$(Self::$dvariant,)*];

            /// The rules that only a worker in an SGX enclave has. [`Self::OF_AN_ENCLAVE`] has all
            /// that decide about one, in order.
            pub const SGX: &'static [Self] = &[$(Self::$evariant,)*];

            /// The id as shown, `R-…`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)*
                    $(Self::$dvariant => $did,)*
                    $(Self::$evariant => $eid,)*
                }
            }

            /// What must hold, in one phrase.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)*
                    $(Self::$dvariant => $dtitle,)*
                    $(Self::$evariant => $etitle,)*
                }
            }

            /// Section of `POLICY.md` that states the rule.
            #[must_use]
            pub const fn clause(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("policy ", $clause),)*
                    $(Self::$dvariant => concat!("policy ", $dclause),)*
                    $(Self::$evariant => concat!("policy ", $eclause),)*
                }
            }
        }
    };
}

rules! {
    worker {
        /// The document's text decodes within its limits.
        Document, "R-DOCUMENT", "1", "attestation document is well formed";
        /// Size, version, platform and certification data of the quote are known.
        QuoteForm, "R-QUOTE-FORM", "2", "quote is of a known form and a pinned kind of platform";
        /// No debug bit is set.
        Debug, "R-DEBUG", "3", "trust domain is not under debug";
        /// Every signature verifies under the pinned root.
        Dcap, "R-DCAP", "4", "quote and collateral verify under the pinned root";
        /// The platform is up to date.
        TcbStatus, "R-TCB-STATUS", "5", "platform, TDX module and quoting enclave are up to date";
        /// The collateral knows of recent vulnerabilities.
        EvalNumber, "R-EVAL-NUMBER", "6", "collateral has the required TCB evaluation number";
        /// The collateral is recent.
        CollateralAge, "R-COLLATERAL-AGE", "7", "collateral is recent";
        /// The platform certificate's properties are accepted.
        PlatformFlags, "R-PLATFORM-FLAGS", "8", "platform properties are accepted";
        /// The platform is one of those admitted.
        PlatformId, "R-PLATFORM-ID", "9", "platform is admitted and not denied";
        /// TD attributes are pinned.
        TdAttributes, "R-TD-ATTRIBUTES", "10", "TD attributes are pinned";
        /// Extended features are pinned.
        Xfam, "R-XFAM", "11", "extended CPU features are pinned";
        /// The TDX module is pinned.
        Seam, "R-SEAM", "12", "TDX module is pinned, its signer fields zero";
        /// The host-chosen configuration fields are pinned.
        ConfigId, "R-CONFIG-ID", "13", "configuration and owner fields are as pinned";
        /// The image is pinned as one tuple.
        Image, "R-IMAGE", "14", "image (MRTD with RTMR0, RTMR1, RTMR2) is pinned";
        /// The quote was made for this connection, nonce and keyset.
        ReportData, "R-REPORT-DATA", "15", "quote is bound to this connection, nonce and keyset";
        /// The event log is the expected one and replays to RTMR3.
        EventLog, "R-EVENT-LOG", "16", "event log replays to RTMR3";
        /// The manifest is the measured one and pinned.
        Manifest, "R-MANIFEST", "17", "worker manifest is measured and pinned";
        /// The model is the measured one and pinned.
        ModelRoot, "R-MODEL-ROOT", "18", "model root is measured and pinned";
        /// The keyset is well formed and has a usable key.
        Keyset, "R-KEYSET", "19", "keyset is well formed and has a valid worker key";
        /// Manifest, keyset and pins are of one network.
        Network, "R-NETWORK", "20", "worker serves the pinned network";
        /// The attested TLS key is the one of this connection.
        TlsKey, "R-TLS-KEY", "21", "attested TLS key is the key of this connection";
        /// Which device evidence was appraised.
        Device, "R-DEVICE", "22", "devices are shown exactly where the pins ask for them";
    }
    device {
        /// Reports and chains are well formed.
        GpuForm, "R-GPU-FORM", "23", "device reports and chains are well formed";
        /// The reports are fresh.
        GpuNonce, "R-GPU-NONCE", "24", "device reports were made for this connection and nonce";
        /// The chains end in the pinned root.
        GpuChain, "R-GPU-CHAIN", "25", "device certificates chain to the pinned root";
        /// The reports are signed by the devices.
        GpuSignature, "R-GPU-SIGNATURE", "26", "device reports are signed by their devices";
        /// The reported firmware is the certified one.
        GpuFirmware, "R-GPU-FWID", "27", "devices run the firmware their keys belong to";
        /// There are as many of each kind as pinned.
        GpuKinds, "R-GPU-KINDS", "28", "kinds and numbers of devices are as pinned";
        /// No device is counted twice.
        GpuDistinct, "R-GPU-DISTINCT", "29", "no device is shown twice";
        /// No certificate is denied.
        GpuDenied, "R-GPU-DENIED", "30", "no device certificate is denied";
        /// The devices were started for confidential use.
        GpuMode, "R-GPU-MODE", "31", "modes of the GPUs are pinned";
        /// The driver version is pinned.
        GpuDriver, "R-GPU-DRIVER", "32", "driver versions are pinned";
        /// The VBIOS version is pinned.
        GpuVbios, "R-GPU-VBIOS", "33", "VBIOS versions are pinned";
        /// Everything measured has its golden value.
        GpuRecords, "R-GPU-RECORDS", "34", "every measurement has its golden value";
    }
    enclave {
        /// No debug bit is set.
        SgxDebug, "R-SGX-DEBUG", "35", "enclave is not under debug";
        /// The flags are pinned.
        SgxAttributes, "R-SGX-ATTRIBUTES", "36", "enclave attributes are pinned";
        /// The processor state is pinned.
        SgxXfrm, "R-SGX-XFRM", "37", "processor state of the enclave (XFRM) is pinned";
        /// What exceptions report is pinned.
        SgxMiscSelect, "R-SGX-MISCSELECT", "38", "MISCSELECT is pinned";
        /// The host-chosen configuration is pinned.
        SgxConfig, "R-SGX-CONFIG", "39", "configuration and extended ids are as pinned";
        /// The enclave is pinned.
        SgxEnclave, "R-SGX-ENCLAVE", "40", "enclave (MRENCLAVE, or MRSIGNER with product and version) is pinned";
        /// The enclave commits to the boot events.
        SgxEvents, "R-SGX-EVENTS", "41", "boot events are those an enclave commits to";
    }
}

impl RuleId {
    /// The rules that decide about a quote alone, without the document that attest/1 brings.
    pub const OF_A_QUOTE: &'static [Self] = &[
        Self::QuoteForm,
        Self::Debug,
        Self::Dcap,
        Self::TcbStatus,
        Self::EvalNumber,
        Self::CollateralAge,
        Self::PlatformFlags,
        Self::PlatformId,
        Self::TdAttributes,
        Self::Xfam,
        Self::Seam,
        Self::ConfigId,
        Self::Image,
        Self::ReportData,
    ];

    /// Every rule that decides about a worker in an SGX enclave, in order of evaluation.
    pub const OF_AN_ENCLAVE: &'static [Self] = &[
        Self::Document,
        Self::QuoteForm,
        Self::SgxDebug,
        Self::Dcap,
        Self::TcbStatus,
        Self::EvalNumber,
        Self::CollateralAge,
        Self::PlatformFlags,
        Self::PlatformId,
        Self::SgxAttributes,
        Self::SgxXfrm,
        Self::SgxMiscSelect,
        Self::SgxConfig,
        Self::SgxEnclave,
        Self::SgxEvents,
        Self::ReportData,
        Self::Manifest,
        Self::ModelRoot,
        Self::Keyset,
        Self::Network,
        Self::TlsKey,
        Self::Device,
    ];

    /// The rules that decide about the quote of an enclave alone.
    pub const OF_AN_ENCLAVE_QUOTE: &'static [Self] = &[
        Self::QuoteForm,
        Self::SgxDebug,
        Self::Dcap,
        Self::TcbStatus,
        Self::EvalNumber,
        Self::CollateralAge,
        Self::PlatformFlags,
        Self::PlatformId,
        Self::SgxAttributes,
        Self::SgxXfrm,
        Self::SgxMiscSelect,
        Self::SgxConfig,
        Self::SgxEnclave,
        Self::ReportData,
    ];
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl Serialize for RuleId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_section_in_the_policy_text_in_order() {
        let text = include_str!("../../POLICY.md");
        let headings: Vec<_> = text.lines().filter(|l| l.starts_with("### ")).collect();
        let wanted: Vec<_> = RuleId::ALL
            .iter()
            .chain(RuleId::DEVICE)
            .chain(RuleId::SGX)
            .map(|r| format!("### {} {}", r.clause().trim_start_matches("policy "), r.id()))
            .collect();
        assert_eq!(headings, wanted);
    }

    #[test]
    fn every_refusal_code_of_a_rule_is_in_the_policy_text() {
        let policy = include_str!("../../POLICY.md");
        let sources = [
            include_str!("platform.rs"),
            include_str!("worker.rs"),
            include_str!("device.rs"),
            include_str!("sgx.rs"),
            include_str!("../nvidia/error.rs"),
            include_str!("../quote.rs"),
            include_str!("../events.rs"),
        ];
        let codes: Vec<&str> = sources
            .iter()
            .flat_map(|text| text.split('"').filter(|word| word.starts_with("E-")))
            .collect();
        assert!(codes.len() > 40, "found {} codes", codes.len());
        for code in codes {
            assert!(policy.contains(&format!("`{code}`")), "{code} is not in POLICY.md");
        }
    }
}
