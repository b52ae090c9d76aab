//! Applies pins to evidence. The evidence is the peer's; pins, session, collateral source and clock
//! are the verifier's own. There is one path: form, cryptography, then every rule in order.

use chrysalis_wire::{AttestationDocument, Digest, KeyRole, UnixTime};
use dcap_qvl::quote::TDReport10;

use crate::binding::{ReportData, Role, Session};
use crate::collateral::Collateral;
use crate::dcap::{Report, VerifiedQuote};
use crate::document::Document;
use crate::enclave::EnclaveReport;
use crate::measurement::{EnclaveIdentity, Measured, Measurement};
use crate::nvidia::{self, device_digest};
use crate::pins::{Contents, Pins};
use crate::quote::{CutQuote, TeeKind};
use crate::quote_verdict::{AcceptedQuote, QuoteVerdict};
use crate::rules::{self, RuleId, sgx};
use crate::transcript::Transcript;
use crate::verdict::{Refusal, Verdict, VerifiedWorker};

/// Decides whether a worker may be used.
#[derive(Clone, Debug)]
pub struct Appraiser {
    pins: Pins,
}

impl Appraiser {
    /// An appraiser for one policy.
    #[must_use]
    pub const fn new(pins: Pins) -> Self {
        Self { pins }
    }

    /// The policy.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Appraises a worker's answer to one challenge.
    ///
    /// `session` is the verifier's own view of the connection, `collateral` comes from anywhere but
    /// the peer, `now` from a clock the host of the peer does not set. Every rule of
    /// `POLICY.md` is in the verdict; those after the first refusal are skipped.
    #[must_use]
    pub fn appraise(
        &self,
        doc: &AttestationDocument,
        session: &Session,
        collateral: &Collateral,
        now: UnixTime,
    ) -> Verdict {
        self.appraise_end(Role::Server, doc, session, collateral, now)
    }

    /// Appraises the answer of the end `prover` of a connection to one challenge; for a TLS client,
    /// `session` is about its key and under its label. Otherwise as [`Appraiser::appraise`].
    #[must_use]
    pub fn appraise_end(
        &self,
        prover: Role,
        doc: &AttestationDocument,
        session: &Session,
        collateral: &Collateral,
        now: UnixTime,
    ) -> Verdict {
        let mut log = match self.pins.device() {
            Some(_) => Transcript::of(&[RuleId::ALL, RuleId::DEVICE]),
            None => Transcript::default(),
        };
        let result = self
            .verify(&mut log, doc, collateral, now)
            .map(|evidence| Evidence { prover, ..evidence })
            .and_then(|evidence| self.judge(&mut log, &evidence, session, now));
        log.finish(result, self.pins.insecure_sim())
    }

    /// Appraises a quote that comes without a document, as in an RA-TLS certificate.
    ///
    /// `expected` is computed by the caller from what the quote has to vouch for. It says nothing
    /// about *when* the quote was made, and the rules about what the worker measured at run time
    /// (manifest, model, keyset) are skipped: an accepted quote is no [`VerifiedWorker`].
    #[must_use]
    pub fn appraise_quote(
        &self,
        quote: &[u8],
        expected: &ReportData,
        collateral: &Collateral,
        now: UnixTime,
    ) -> QuoteVerdict {
        let mut log = Transcript::of(&[RuleId::OF_A_QUOTE]);
        let result = self
            .verify_quote(&mut log, quote, collateral, now)
            .and_then(|(cut, verified)| self.accept(&mut log, &cut, &verified, expected, now));
        log.finish_quote(result, self.pins.insecure_sim())
    }

    fn accept(
        &self,
        log: &mut Transcript,
        quote: &CutQuote,
        verified: &VerifiedQuote,
        expected: &ReportData,
        now: UnixTime,
    ) -> Result<AcceptedQuote, Refusal> {
        let Admitted { measured: measurement, pins, holds_until } =
            self.judge_platform(log, verified, now)?;
        let found = match verified.report() {
            Report::Td(td) => &td.report_data,
            Report::Enclave(report) => &report.report_data,
        };
        log.rule(RuleId::ReportData, rules::quote_report_data(found, expected))?;
        Ok(AcceptedQuote {
            pin_names: pins.iter().map(|pin| pin.name.to_owned()).collect(),
            insecure_sim: self.pins.insecure_sim(),
            measurement,
            evidence_digest: quote.digest(),
            collateral_expires: holds_until,
        })
    }

    /// From claims to signed facts.
    pub(crate) fn verify<'a>(
        &self,
        log: &mut Transcript,
        doc: &'a AttestationDocument,
        collateral: &Collateral,
        now: UnixTime,
    ) -> Result<Evidence<'a>, Refusal> {
        let document = log.rule(RuleId::Document, rules::document(doc))?;
        let (quote, verified) = self.verify_quote(log, &document.quote, collateral, now)?;
        Ok(Evidence { prover: Role::Server, document, quote, verified })
    }

    fn verify_quote(
        &self,
        log: &mut Transcript,
        raw: &[u8],
        collateral: &Collateral,
        now: UnixTime,
    ) -> Result<(CutQuote, VerifiedQuote), Refusal> {
        let quote = log.rule(RuleId::QuoteForm, rules::quote_form(raw, &self.pins))?;
        self.choose_rules(log, quote.tee());
        match quote.tee() {
            TeeKind::Tdx => log.rule(RuleId::Debug, rules::debug(&quote))?,
            TeeKind::Sgx => log.rule(RuleId::SgxDebug, sgx::debug(&quote))?,
        }
        let dcap = rules::verify_dcap(&quote, collateral, &self.pins, now);
        let verified = log.rule(RuleId::Dcap, dcap)?;
        Ok((quote, verified))
    }

    /// The kind of platform decides which rules there are. What the quote only claims here, its
    /// verification confirms; pins of the other kind accept nothing either way.
    fn choose_rules(&self, log: &mut Transcript, tee: TeeKind) {
        match tee {
            TeeKind::Tdx if self.pins.sgx().is_some() => log.of_no_enclave(),
            TeeKind::Tdx => {}
            TeeKind::Sgx => log.of_an_enclave(),
        }
    }

    /// Platform and image; the pins that the image leaves possible.
    fn judge_platform(
        &self,
        log: &mut Transcript,
        verified: &VerifiedQuote,
        now: UnixTime,
    ) -> Result<Admitted<'_>, Refusal> {
        let platform = self.pins.platform();
        let status = rules::tcb_status(verified, platform, now);
        let excepted_until = log.rule(RuleId::TcbStatus, status)?;
        log.rule(RuleId::EvalNumber, rules::eval_number(verified, platform))?;
        log.rule(RuleId::CollateralAge, rules::collateral_age(verified, platform, now))?;
        log.rule(RuleId::PlatformFlags, rules::platform_flags(verified, platform))?;
        log.rule(RuleId::PlatformId, rules::platform_id(verified, &self.pins))?;
        let (measured, pins) = match verified.report() {
            Report::Td(td) => self.judge_td(log, td, verified.image_hash(), now)?,
            Report::Enclave(report) => self.judge_enclave(log, report, now)?,
        };
        let end = verified.collateral_expires();
        let holds_until = excepted_until.map_or(end, |until| until.min(end));
        Ok(Admitted { measured, pins, holds_until })
    }

    fn judge_td(
        &self,
        log: &mut Transcript,
        td: &TDReport10,
        image_hash: Option<Digest>,
        now: UnixTime,
    ) -> Result<(Measured, Vec<Contents<'_>>), Refusal> {
        let platform = self.pins.platform();
        log.rule(RuleId::TdAttributes, rules::td_attributes(td, platform))?;
        log.rule(RuleId::Xfam, rules::xfam(td, platform))?;
        log.rule(RuleId::Seam, rules::seam(td, platform))?;
        log.rule(RuleId::ConfigId, rules::config_id(td, platform))?;

        let rtmr = [td.rt_mr0, td.rt_mr1, td.rt_mr2, td.rt_mr3];
        let measurement = Measurement { mrtd: td.mr_td, rtmr };
        let image = rules::image(&self.pins, &measurement, image_hash, now);
        let possible = log.rule(RuleId::Image, image)?;
        Ok((Measured::Td(measurement), possible))
    }

    fn judge_enclave(
        &self,
        log: &mut Transcript,
        report: &EnclaveReport,
        now: UnixTime,
    ) -> Result<(Measured, Vec<Contents<'_>>), Refusal> {
        let pins = log.rule(RuleId::SgxAttributes, sgx::attributes(report, self.pins.sgx()))?;
        log.rule(RuleId::SgxXfrm, sgx::xfrm(report, pins))?;
        log.rule(RuleId::SgxMiscSelect, sgx::misc_select(report, pins))?;
        log.rule(RuleId::SgxConfig, sgx::config(report, pins))?;
        let enclave = sgx::enclave(report, pins, &self.pins, now);
        let possible = log.rule(RuleId::SgxEnclave, enclave)?;
        let EnclaveReport { mrenclave, mrsigner, isv_prod_id, isv_svn, .. } = *report;
        let identity = EnclaveIdentity { mrenclave, mrsigner, isv_prod_id, isv_svn };
        Ok((Measured::Enclave(identity), possible))
    }

    /// Signed facts against the pins and the session.
    pub(crate) fn judge(
        &self,
        log: &mut Transcript,
        evidence: &Evidence<'_>,
        session: &Session,
        now: UnixTime,
    ) -> Result<VerifiedWorker, Refusal> {
        let Evidence { prover, document, quote, verified } = evidence;
        let Admitted { measured: measurement, pins, holds_until } =
            self.judge_platform(log, verified, now)?;
        let (keyset_digest, (manifest_event, model_event)) = match verified.report() {
            Report::Td(td) => {
                // Freshness comes before anything else the peer wrote is read.
                let devices = device_digest(&document.devices);
                let found = &td.report_data;
                let bound = rules::report_data(found, *prover, session, document, devices);
                let keyset_digest = log.rule(RuleId::ReportData, bound)?;
                let events = rules::event_log(document.events, &td.rt_mr3);
                (keyset_digest, log.rule(RuleId::EventLog, events)?)
            }
            Report::Enclave(report) => {
                // What the quote has to commit to is made of the events, so they come first here.
                let events = sgx::events(document.events);
                let (committed, payloads) = log.rule(RuleId::SgxEvents, events)?;
                let found = &report.report_data;
                let bound = rules::report_data(found, *prover, session, document, committed);
                (log.rule(RuleId::ReportData, bound)?, payloads)
            }
        };
        let measured = rules::manifest(&document.manifest, &manifest_event, &pins);
        let (manifest, manifest_digest, pins) = log.rule(RuleId::Manifest, measured)?;
        let model = rules::model_root(&manifest, &model_event, &pins);
        let pin = log.rule(RuleId::ModelRoot, model)?;
        let keys = rules::keyset(&document.keyset, now);
        let keyset = log.rule(RuleId::Keyset, keys)?;
        let key_ends = keyset.seal_key(KeyRole::Worker, now).map(|key| key.not_after);
        log.rule(RuleId::Network, rules::network(&self.pins, &manifest, &keyset))?;
        log.rule(RuleId::TlsKey, rules::tls_key(&keyset, session))?;
        let asked = self.pins.device();
        let decision = match measurement {
            Measured::Td(_) => rules::devices(asked, &document.devices),
            Measured::Enclave(_) => sgx::no_device(asked, &document.devices),
        };
        log.rule(RuleId::Device, decision)?;
        let devices = match asked {
            Some(pins) => nvidia::judge(log, &document.devices, &session.gpu_nonce(), pins, now)?,
            None => Vec::new(),
        };

        Ok(VerifiedWorker {
            pin_name: pin.name.to_owned(),
            insecure_sim: self.pins.insecure_sim(),
            keyset,
            keyset_digest,
            measurement_digest: measurement.digest(),
            measurement,
            model_root: manifest.model.root,
            manifest,
            manifest_digest,
            // What a device's certificates are valid for is not in the verdict.
            valid_until: key_ends
                .filter(|_| devices.is_empty())
                .map(|end| end.min(holds_until).min(verified.valid_until(self.pins.platform()))),
            image_hash: verified.image_hash(),
            devices,
            evidence_digest: quote.digest(),
            collateral_expires: holds_until,
        })
    }
}

/// A platform and an image that are accepted.
struct Admitted<'a> {
    measured: Measured,
    /// The pins that the image leaves possible.
    pins: Vec<Contents<'a>>,
    /// When the collateral, or the exception that was needed, ends.
    holds_until: UnixTime,
}

/// Evidence whose quote is verified and whose other parts are still the peer's words.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) prover: Role,
    pub(crate) document: Document<'a>,
    pub(crate) quote: CutQuote,
    pub(crate) verified: VerifiedQuote,
}
