//! The rules of an appraisal: one id each, in the one order they are evaluated. Adding a rule means
//! a variant here, a section in `POLICY.md` and a line in the appraiser; the transcript refuses to
//! accept when a listed rule was not evaluated.

mod platform;
mod worker;

pub(crate) use platform::{
    collateral_age, config_id, debug, eval_number, platform_flags, platform_id, quote_form, seam,
    tcb_status, td_attributes, verify_dcap, xfam,
};
pub(crate) use worker::{
    device, document, event_log, image, keyset, manifest, model_root, network, quote_report_data,
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
    ($($(#[$meta:meta])* $variant:ident, $id:literal, $clause:literal, $title:literal;)*) => {
        /// Stable ids of the rules, in order of evaluation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum RuleId {
            $($(#[$meta])* $variant,)*
        }

        impl RuleId {
            /// Every rule, in order of evaluation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The id as shown, `R-…`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What must hold, in one phrase.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// Section of `POLICY.md` that states the rule.
            #[must_use]
            pub const fn clause(self) -> &'static str {
                match self { $(Self::$variant => concat!("policy ", $clause),)* }
            }
        }
    };
}

rules! {
    /// The document's text decodes within its limits.
    Document, "R-DOCUMENT", "1", "attestation document is well formed";
    /// Size, version, platform and certification data of the quote are known.
    QuoteForm, "R-QUOTE-FORM", "2", "quote is a TDX quote of a known form";
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
    /// Which platform it is.
    PlatformId, "R-PLATFORM-ID", "9", "platform identity (not pinned by this policy version)";
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
    Device, "R-DEVICE", "22", "device evidence (CPU only in this policy version)";
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
    fn only_rules_about_the_document_are_missing_for_a_quote_alone() {
        let missing: Vec<_> =
            RuleId::ALL.iter().filter(|id| !RuleId::OF_A_QUOTE.contains(id)).collect();
        use RuleId::{Device, Document, EventLog, Keyset, Manifest, ModelRoot, Network, TlsKey};
        let document = [Document, EventLog, Manifest, ModelRoot, Keyset, Network, TlsKey, Device];
        assert!(missing.into_iter().eq(&document));
        assert!(RuleId::OF_A_QUOTE.is_sorted());
    }

    #[test]
    fn every_rule_has_its_section_in_the_policy_text_in_order() {
        let text = include_str!("../../POLICY.md");
        let headings: Vec<_> = text.lines().filter(|l| l.starts_with("### ")).collect();
        let wanted: Vec<_> = RuleId::ALL
            .iter()
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
