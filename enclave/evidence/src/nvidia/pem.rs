//! Turns the PEM chain that NVIDIA's management library hands out into the DER row that evidence
//! carries. It runs where evidence is made; what it gets wrong is refused by the verifier.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::CHAIN_LENGTH;
use super::error::DeviceError;

/// The certificates of a PEM chain, DER, one behind the other. Line feeds and zero bytes behind the
/// last certificate are the library's padding and are dropped.
///
/// # Errors
/// [`DeviceError::Certificate`] with the first one that cannot be read, or
/// [`DeviceError::ChainLength`].
pub fn chain_from_pem(pem: &[u8]) -> Result<Vec<u8>, DeviceError> {
    let refuse = |index, reason| DeviceError::Certificate { index, reason };
    let text = core::str::from_utf8(pem).map_err(|_| refuse(0, "is not PEM text"))?;
    let mut rest = text.trim_end_matches(['\n', '\0']);
    let mut out = Vec::new();
    let mut count = 0usize;
    while !rest.is_empty() {
        let body =
            rest.strip_prefix(BEGIN).ok_or_else(|| refuse(count, "has no BEGIN CERTIFICATE"))?;
        let (body, tail) =
            body.split_once(END).ok_or_else(|| refuse(count, "has no END CERTIFICATE"))?;
        let compact: String = body.split('\n').collect();
        let der = STANDARD.decode(compact).map_err(|_| refuse(count, "is not base64"))?;
        out.extend(der);
        count = count.saturating_add(1);
        rest = tail.strip_prefix('\n').unwrap_or(tail);
    }
    if count == CHAIN_LENGTH { Ok(out) } else { Err(DeviceError::ChainLength { got: count }) }
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----";
