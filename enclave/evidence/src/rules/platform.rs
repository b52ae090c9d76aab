//! Rules about the platform: is the quote genuine, is the machine up to date, is the trust domain
//! configured as pinned. The quote is the peer's; everything after `verify_dcap` is signed.

use chrysalis_wire::UnixTime;
use dcap_qvl::quote::TDReport10;
use dcap_qvl::{PckCertFlag, QuoteClaims, TcbStatus};

use super::{Decision, Passed, Refused};
use crate::collateral::Collateral;
use crate::dcap::{self, DcapError, VerifiedQuote};
use crate::deny::{self, Admission, Denied};
use crate::pins::{Pins, PlatformPins};
use crate::quote::{CutQuote, TeeKind};
use crate::text::printable;

pub(crate) fn quote_form(raw: &[u8], pins: &Pins) -> Decision<CutQuote> {
    let quote = match CutQuote::parse(raw) {
        Ok(quote) => quote,
        Err(e) => {
            return Refused::new(
                e.code(),
                "a TDX quote of version 4 or 5, or an SGX quote",
                e.to_string(),
                "ask the worker's operator which platform made this; do not use the worker",
            );
        }
    };
    if quote.tee() == TeeKind::Sgx && pins.sgx().is_none() {
        return Refused::new(
            "E-QUOTE-TEE",
            "a TDX quote: the pins have no [sgx] section, which denies enclaves",
            format!("a {} (version {})", quote.body(), quote.version()),
            "use pins of a worker that runs in an enclave, or another worker",
        );
    }
    let detail = format!(
        "version {}, {}, {} bytes, {} after its end ignored, SHA-256 {}",
        quote.version(),
        quote.body(),
        quote.bytes().len(),
        quote.ignored(),
        quote.digest()
    );
    Ok(Passed::new(quote, detail))
}

/// Judges the claimed bits before any signature is checked, so that a debug TD is named as one;
/// the DCAP verification refuses them again on verified bytes.
pub(crate) fn debug(quote: &CutQuote) -> Decision<()> {
    let tud = quote.attributes();
    if tud == 0 {
        return Ok(Passed::new((), "TUD byte of td_attributes is 00".to_owned()));
    }
    Refused::new(
        "E-DEBUG",
        "TUD byte of td_attributes 00",
        format!("{tud:02x}: the host can read and change this TD's memory"),
        "never send anything to this worker; its operator must start it without debug",
    )
}

pub(crate) fn verify_dcap(
    quote: &CutQuote,
    collateral: &Collateral,
    pins: &Pins,
    now: UnixTime,
) -> Decision<VerifiedQuote> {
    let root = pins.root();
    let error = match dcap::verify(quote, collateral, root, now) {
        Ok(verified) => {
            let platform = &verified.claims().platform;
            let detail = format!(
                "{root}; key id {}; PCK CRL {}, root CRL {}",
                short(&platform.root_key_id),
                platform.pck_crl_num,
                platform.root_ca_crl_num
            );
            return Ok(Passed::new(verified, detail));
        }
        Err(e) => e,
    };
    let genuine = "a quote and collateral that verify under the pinned root";
    let found = error.to_string();
    match error {
        DcapError::Root => Refused::new(
            "E-ROOT",
            root.to_string(),
            match quote.carried_root() {
                Some(der) => format!("a root certificate of {} bytes, {}", der.len(), {
                    crate::roots::TrustRoot::InsecureSim(der.to_vec()).fingerprint()
                }),
                None => found,
            },
            "a simulated worker needs INSECURE-SIM pins; a hardware worker needs production pins",
        ),
        DcapError::NotYetValid { .. } => Refused::new(
            "E-COLLATERAL-EARLY",
            "collateral that is valid now",
            found,
            "check this machine's clock",
        ),
        DcapError::Expired { .. } => Refused::new(
            "E-COLLATERAL-EXPIRED",
            "collateral that is valid now",
            found,
            "fetch new collateral for this platform family, and check this machine's clock",
        ),
        DcapError::Fmspc { .. } => Refused::new(
            "E-COLLATERAL-FMSPC",
            "collateral for the platform family of the quote",
            found,
            "fetch collateral for the FMSPC of the quote",
        ),
        DcapError::Pce { .. } => Refused::new(
            "E-COLLATERAL-PCE",
            "collateral for the PCE of the quote's platform",
            found,
            "fetch collateral for the platform of the quote",
        ),
        DcapError::Collateral(ref e) => Refused::new(
            e.code(),
            "collateral with TCB info and QE identity of known form",
            found,
            "fetch the collateral again",
        ),
        DcapError::Refused(_) | DcapError::OtherReport => Refused::new(
            "E-DCAP",
            genuine,
            found,
            "do not use this worker; if the platform is new, fetch new collateral and try again",
        ),
    }
}

/// Every level on its own must be up to date. The library's merged status is not enough: it hides
/// a quoting enclave that needs configuration, and a TD whose module was current at launch but has
/// been replaced by an older one since.
///
/// A dated exception of the pins can name what else is accepted of one platform family. It has to
/// name every status and every advisory that the collateral states at any level. Gives the end of
/// the exception that was needed.
pub(crate) fn tcb_status(
    quote: &VerifiedQuote,
    pins: &PlatformPins,
    now: UnixTime,
) -> Decision<Option<UnixTime>> {
    let claims = quote.claims();
    let current = claims.platform.current_tcb_level.as_ref();
    let mut levels = vec![
        ("merged", claims.tcb.status),
        ("platform at launch", claims.platform.tcb_level.tcb_status),
        ("quoting enclave", claims.qe.tcb_level.tcb_status),
    ];
    levels.extend(current.map(|level| ("platform now", level.tcb_status)));
    let ids = advisories(claims);
    let advisories =
        if ids.is_empty() { "no advisories".to_owned() } else { printable(&ids.join(" ")) };
    let bad: Vec<String> = levels
        .iter()
        .filter(|(_, status)| *status != TcbStatus::UpToDate)
        .map(|(what, status)| format!("{what} {status}"))
        .collect();
    if bad.is_empty() {
        return Ok(Passed::new(None, format!("UpToDate at {} levels; {advisories}", levels.len())));
    }
    let excepted = pins.exceptions.iter().find(|exception| {
        exception.fmspc == claims.platform.pck.fmspc
            && now < exception.until
            && levels.iter().all(|(_, status)| {
                *status == TcbStatus::UpToDate || exception.statuses.contains(status)
            })
            && ids.iter().all(|id| exception.advisories.iter().any(|named| named == id))
    });
    if let Some(exception) = excepted {
        let detail = format!(
            "EXCEPTION of the pins for FMSPC {} until {}: {}; {advisories}",
            hex::encode(exception.fmspc),
            exception.until.0,
            bad.join(", ")
        );
        return Ok(Passed::new(Some(exception.until), detail));
    }
    Refused::new(
        "E-TCB-STATUS",
        "UpToDate at every level, or an exception of the pins that covers all of it",
        format!(
            "{}; {advisories}; FMSPC {}",
            bad.join(", "),
            hex::encode(claims.platform.pck.fmspc)
        ),
        "the operator must update BIOS, microcode or TDX module as the advisories say",
    )
}

/// The advisories of every level, each once: the merged list leaves out what hides behind it.
fn advisories(claims: &QuoteClaims) -> Vec<&str> {
    let platform = &claims.platform;
    let current = platform.current_tcb_level.iter().flat_map(|level| &level.advisory_ids);
    let mut ids: Vec<&str> = claims
        .tcb
        .advisory_ids
        .iter()
        .chain(&platform.tcb_level.advisory_ids)
        .chain(&claims.qe.tcb_level.advisory_ids)
        .chain(current)
        .map(String::as_str)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

pub(crate) fn eval_number(quote: &VerifiedQuote, pins: &PlatformPins) -> Decision<()> {
    let (min, got) = (pins.min_tcb_evaluation_number, quote.claims().tcb.eval_data_number);
    if got >= min {
        return Ok(Passed::new((), format!("{got}, at least {min}")));
    }
    Refused::new(
        "E-EVAL-NUMBER",
        format!("TCB evaluation number {min} or more"),
        got.to_string(),
        "fetch newer collateral; an old one hides vulnerabilities found since",
    )
}

pub(crate) fn collateral_age(
    quote: &VerifiedQuote,
    pins: &PlatformPins,
    now: UnixTime,
) -> Decision<()> {
    let age = now.0.saturating_sub(quote.collateral_issued().0);
    let limit = u64::from(pins.max_collateral_age_days).saturating_mul(SECONDS_PER_DAY);
    let days = age / SECONDS_PER_DAY;
    if age <= limit {
        let detail = format!("issued {days} days ago, at most {}", pins.max_collateral_age_days);
        return Ok(Passed::new((), detail));
    }
    Refused::new(
        "E-COLLATERAL-AGE",
        format!("collateral issued at most {} days ago", pins.max_collateral_age_days),
        format!("{days} days and {} seconds", age % SECONDS_PER_DAY),
        "fetch new collateral",
    )
}

/// A flag the certificate does not state counts as set: unknown is not "no".
pub(crate) fn platform_flags(quote: &VerifiedQuote, pins: &PlatformPins) -> Decision<()> {
    let pck = &quote.claims().platform.pck;
    let flags = [
        ("dynamic_platform", pck.dynamic_platform, pins.allow_dynamic_platform, "E-DYNAMIC"),
        ("cached_keys", pck.cached_keys, pins.allow_cached_keys, "E-CACHED-KEYS"),
        ("smt", pck.smt_enabled, pins.allow_smt, "E-SMT"),
    ];
    for (name, flag, allowed, code) in flags {
        if flag != PckCertFlag::False && !allowed {
            return Refused::new(
                code,
                format!("{name} False in the platform certificate"),
                format!("{flag:?}"),
                "use another platform, or accept the property in [platform] of the pins",
            );
        }
    }
    let shown: Vec<String> = flags.iter().map(|(n, flag, ..)| format!("{n} {flag:?}")).collect();
    Ok(Passed::new((), format!("{}; sgx_type {}", shown.join(", "), pck.sgx_type)))
}

/// Denials first: they hold under either admission.
pub(crate) fn platform_id(quote: &VerifiedQuote, pins: &Pins) -> Decision<()> {
    let pck = &quote.claims().platform.pck;
    let fmspc = hex::encode(pck.fmspc);
    let ppid: Option<[u8; 16]> = pck.ppid.as_slice().try_into().ok();
    let shown = format!(
        "FMSPC {fmspc}, platform instance {}, PPID {}",
        pck.platform_instance_id.map_or_else(|| "none".to_owned(), hex::encode),
        short(&pck.ppid)
    );
    let advisories = advisories(quote.claims()).into_iter();
    // Either id of a platform denies it: a publisher may know only one.
    let ids = [pck.platform_instance_id, ppid].into_iter().flatten();
    let named = [("E-FMSPC-DENIED", Denied::Fmspc(pck.fmspc))]
        .into_iter()
        .chain(ids.map(|id| ("E-PLATFORM-DENIED", Denied::Platform(id))))
        .chain(advisories.map(|id| ("E-ADVISORY-DENIED", Denied::Advisory(id.to_owned()))));
    for (code, what) in named {
        if let Some(reason) = deny::reason(pins.denied(), &what) {
            return Refused::new(
                code,
                "a platform that the pins do not deny",
                format!("denied ({}): {shown}", printable(reason)),
                "use a worker on another platform; the reason is the publisher's of the pins",
            );
        }
    }
    let Admission::Vetted(vetted) = &pins.platform().admission else {
        return Ok(Passed::info((), format!("open: any platform is admitted; {shown}")));
    };
    // A platform with an instance id is vetted by it alone: its PPID is that of one package.
    match pck.platform_instance_id.or(ppid) {
        Some(id) if vetted.contains(&id) => Ok(Passed::new(
            (),
            format!("{}, one of {} vetted; {shown}", hex::encode(id), vetted.len()),
        )),
        _ => Refused::new(
            "E-PLATFORM-UNVETTED",
            match vetted.len() {
                0 => "a vetted platform; the list is empty, which denies".to_owned(),
                many => format!("one of {many} vetted platforms"),
            },
            shown,
            "if this platform's owner is trusted, add its id to vetted in [platform] of the pins",
        ),
    }
}

pub(crate) fn td_attributes(td: &TDReport10, pins: &PlatformPins) -> Decision<()> {
    listed("E-TD-ATTRIBUTES", "td_attributes", &td.td_attributes, &pins.td_attributes)
}

pub(crate) fn xfam(td: &TDReport10, pins: &PlatformPins) -> Decision<()> {
    listed("E-XFAM", "xfam", &td.xfam, &pins.xfam)
}

pub(crate) fn seam(td: &TDReport10, pins: &PlatformPins) -> Decision<()> {
    if td.mr_signer_seam != [0; 48] || td.seam_attributes != [0; 8] {
        return Refused::new(
            "E-SEAM-SIGNER",
            "mr_signer_seam and seam_attributes zero (a module signed by Intel)",
            format!(
                "mr_signer_seam {}, seam_attributes {}",
                hex::encode(td.mr_signer_seam),
                hex::encode(td.seam_attributes)
            ),
            "do not use this worker: its TDX module is not Intel's production module",
        );
    }
    listed("E-SEAM", "mr_seam", &td.mr_seam, &pins.mr_seam)
}

pub(crate) fn config_id(td: &TDReport10, pins: &PlatformPins) -> Decision<()> {
    for (name, value) in [("mr_owner", td.mr_owner), ("mr_owner_config", td.mr_owner_config)] {
        if value != [0; 48] {
            return Refused::new(
                "E-OWNER",
                format!("{name} zero"),
                hex::encode(value),
                "start the worker without owner fields; nothing here gives them a meaning",
            );
        }
    }
    listed("E-CONFIG-ID", "mr_config_id", &td.mr_config_id, &pins.mr_config_id)
}

/// Exact membership; an empty list denies.
fn listed<const N: usize>(
    code: &'static str,
    name: &str,
    found: &[u8; N],
    list: &[[u8; N]],
) -> Decision<()> {
    if list.contains(found) {
        let detail = format!("{name} {}, one of {}", hex::encode(found), list.len());
        return Ok(Passed::new((), detail));
    }
    let expected = match list {
        [] => format!("{name} from the pins; the list is empty, which denies"),
        [one] => format!("{name} {}", hex::encode(one)),
        many => format!("{name} from the {} values in the pins", many.len()),
    };
    Refused::new(
        code,
        expected,
        hex::encode(found),
        "if this platform is meant to be accepted, add the value to [platform] of the pins",
    )
}

fn short(bytes: &[u8]) -> String {
    let text = hex::encode(bytes);
    match text.get(..SHORT_CHARS) {
        Some(head) if text.len() > SHORT_CHARS => format!("{head}..."),
        _ => text,
    }
}

const SECONDS_PER_DAY: u64 = 86_400;
const SHORT_CHARS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shown_by_their_head() {
        assert_eq!(short(&[0xAB; 8]), "ab".repeat(8));
        assert_eq!(short(&[0xAB; 9]), format!("{}...", "ab".repeat(8)));
        assert_eq!(short(&[]), "");
    }
}
