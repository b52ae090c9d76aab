//! From four answers to a bundle. Pure: the answers, the root and the time are arguments.

use chrysalis_evidence::{Collateral, QuoteCollateralV3, TrustRoot, parse_utc};
use chrysalis_wire::UnixTime;
use serde::Serialize;

use crate::answer::{Answer, SignedText};
use crate::authentic::{Root, crl_expires, crl_of, text_is_signed, within};
use crate::error::{FetchError, Problem, shown};
use crate::part::{Part, Wanted};

/// Authentic collateral, and what it says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The collateral.
    pub collateral: Collateral,
    /// Its numbers.
    pub facts: Facts,
}

/// What a bundle says about itself, under verified signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// `TDX` or `SGX`.
    pub tee: String,
    /// Platform family, lower-case hex.
    pub fmspc: String,
    /// TCB evaluation number of the TCB info.
    pub tcb_evaluation_number: u32,
    /// TCB evaluation number of the QE identity.
    pub qe_evaluation_number: u32,
    /// When the older of TCB info and QE identity was issued.
    pub issued: UnixTime,
    /// Last second at which every part is valid.
    pub expires: UnixTime,
    /// Platform certificates that are revoked.
    pub revoked_platforms: usize,
}

impl Facts {
    /// Whole days from `now` to the end; 0 if it is over.
    #[must_use]
    pub const fn days_left(&self, now: UnixTime) -> u64 {
        self.expires.0.saturating_sub(now.0) / SECONDS_PER_DAY
    }

    /// The number that rule 6 of the policy judges: the smaller of the two.
    #[must_use]
    pub fn evaluation_number(&self) -> u32 {
        self.tcb_evaluation_number.min(self.qe_evaluation_number)
    }
}

impl Bundle {
    /// Puts four answers together, in the order of [`Part::ALL`], and refuses what is not about
    /// `wanted`, not signed under `root` or not valid at `now`.
    ///
    /// # Errors
    /// [`FetchError`], naming the part.
    pub fn assemble(
        wanted: &Wanted,
        answers: &[Answer; 4],
        root: &TrustRoot,
        now: UnixTime,
    ) -> Result<Self, FetchError> {
        let [tcb, qe, pck, root_crl] = answers;
        let of = |part| move |problem| FetchError::Part { part, problem, attempts: 1 };
        let root_crl = root_crl.crl().map_err(of(Part::RootCrl))?;
        let root = Root::new(root.der()).map_err(of(Part::RootCrl))?;
        let revoked = root.own_crl(&root_crl, now.0).map_err(of(Part::RootCrl))?;

        let read = |part, answer: &Answer| -> Result<_, Problem> {
            let text = answer.signed_text(part)?;
            let signer = root.signer(&text.chain, &revoked, now.0)?;
            text_is_signed(&text, &signer)?;
            let window = about(part, &text, wanted, now)?;
            Ok((text, window))
        };
        let (tcb, tcb_window) = read(Part::TcbInfo, tcb).map_err(of(Part::TcbInfo))?;
        let (qe, qe_window) = read(Part::QeIdentity, qe).map_err(of(Part::QeIdentity))?;

        let platforms = || -> Result<_, Problem> {
            let der = pck.crl()?;
            let chain = pck.chain(Part::PckCrl)?;
            let authority = root.signer(&chain, &revoked, now.0)?;
            let list = crl_of(&der, &authority, now.0)?;
            authority_is(&authority, wanted)?;
            Ok((der, chain, list))
        };
        let (pck_crl, pck_chain, pck_list) = platforms().map_err(of(Part::PckCrl))?;

        let expires = [
            tcb_window.1,
            qe_window.1,
            UnixTime(crl_expires(&pck_list)),
            UnixTime(crl_expires(&revoked)),
        ];
        let facts = Facts {
            tee: tcb.stated.id.clone(),
            fmspc: hex::encode(wanted.platform.fmspc),
            tcb_evaluation_number: tcb.stated.tcb_evaluation_data_number,
            qe_evaluation_number: qe.stated.tcb_evaluation_data_number,
            issued: tcb_window.0.min(qe_window.0),
            expires: expires.into_iter().min().unwrap_or(UnixTime(0)),
            revoked_platforms: pck_list.tbs_cert_list.revoked_certificates.map_or(0, |l| l.len()),
        };
        let collateral = Collateral::new(QuoteCollateralV3 {
            pck_crl_issuer_chain: pck_chain.pem,
            root_ca_crl: root_crl,
            pck_crl,
            tcb_info_issuer_chain: tcb.chain.pem,
            tcb_info: tcb.text,
            tcb_info_signature: tcb.signature.to_vec(),
            qe_identity_issuer_chain: qe.chain.pem,
            qe_identity: qe.text,
            qe_identity_signature: qe.signature.to_vec(),
            pck_certificate_chain: None,
        });
        // What is written must be readable by the one who appraises with it.
        Collateral::parse(collateral.to_json().as_bytes())?;
        Ok(Self { collateral, facts })
    }
}

/// Whether a text is about what was asked for; its window.
fn about(
    part: Part,
    text: &SignedText,
    wanted: &Wanted,
    now: UnixTime,
) -> Result<(UnixTime, UnixTime), Problem> {
    let stated = &text.stated;
    let (tcb_id, qe_id) = wanted.tee.ids();
    let (id, version) = if part == Part::TcbInfo { (tcb_id, 3) } else { (qe_id, 2) };
    let other =
        |what, expected: String, got: &str| Problem::Other { what, expected, got: shown(got) };
    if stated.id != id {
        return Err(other("id", id.to_owned(), &stated.id));
    }
    if stated.version != version {
        return Err(other("version", version.to_string(), &stated.version.to_string()));
    }
    if part == Part::TcbInfo {
        let fmspc = hex::encode(wanted.platform.fmspc);
        let got = stated.fmspc.as_deref().unwrap_or("none");
        if !got.eq_ignore_ascii_case(&fmspc) {
            return Err(other("FMSPC", fmspc, got));
        }
    }
    let date = |text: &str| {
        parse_utc(text).ok_or_else(|| Problem::Malformed(format!("date {:?}", shown(text))))
    };
    let (issued, next) = (date(&stated.issue_date)?, date(&stated.next_update)?);
    within(issued.0, next.0, now.0)?;
    Ok((issued, next))
}

/// The two authorities differ by name alone; a list of the other one would leave every platform of
/// this one unjudged.
fn authority_is(authority: &x509_cert::Certificate, wanted: &Wanted) -> Result<(), Problem> {
    let name = authority.tbs_certificate().subject().common_name().ok().flatten();
    let name = name.map(|name| name.value().into_owned()).unwrap_or_default();
    let expected = wanted.platform.authority.common_name();
    if name == expected {
        return Ok(());
    }
    Err(Problem::Other { what: "the authority", expected: expected.to_owned(), got: shown(&name) })
}

const SECONDS_PER_DAY: u64 = 86_400;
