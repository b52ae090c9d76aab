//! One answer of the service, and what each part has to look like. Everything here is form: an
//! answer that reads is still unsigned words.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use crate::error::{Problem, shown};
use crate::limits::MAX_CHAIN_BYTES;
use crate::part::Part;

/// What one endpoint answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `Content-Type`, empty if there is none.
    pub content_type: String,
    /// The issuer chain of the part's header, percent-encoded PEM.
    pub chain: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A JSON text with its signature. The signature covers the bytes as they stand in the answer, so
/// they are kept as they stand.
#[derive(Debug)]
pub(crate) struct SignedText {
    pub(crate) text: String,
    pub(crate) signature: [u8; 64],
    pub(crate) stated: Stated,
    pub(crate) chain: Chain,
}

/// The signer's certificate and its issuer's.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) pem: String,
    pub(crate) signer: Vec<u8>,
    pub(crate) root: Vec<u8>,
}

/// What TCB info and QE identity say about themselves.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stated {
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) issue_date: String,
    pub(crate) next_update: String,
    pub(crate) tcb_evaluation_data_number: u32,
    pub(crate) fmspc: Option<String>,
}

impl Answer {
    /// Reads TCB info or QE identity.
    pub(crate) fn signed_text(&self, part: Part) -> Result<SignedText, Problem> {
        let kind = self.content_type.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Problem::ContentType { got: shown(&self.content_type) });
        }
        let malformed = |e: serde_json::Error| Problem::Malformed(shown(&e.to_string()));
        let (text, signature) = if part == Part::TcbInfo {
            let read: TcbInfoAnswer<'_> = serde_json::from_slice(&self.body).map_err(malformed)?;
            (read.tcb_info, read.signature)
        } else {
            let read: QeAnswer<'_> = serde_json::from_slice(&self.body).map_err(malformed)?;
            (read.enclave_identity, read.signature)
        };
        let stated = serde_json::from_str(text.get()).map_err(malformed)?;
        let mut bytes = [0u8; 64];
        hex::decode_to_slice(signature, &mut bytes)
            .map_err(|_| Problem::Malformed("the signature is not 64 bytes of hex".to_owned()))?;
        let text = text.get().to_owned();
        Ok(SignedText { text, signature: bytes, stated, chain: self.chain(part)? })
    }

    /// Reads a revocation list: DER, or DER as hex (PCCS), or PEM. Gives DER.
    pub(crate) fn crl(&self) -> Result<Vec<u8>, Problem> {
        let text = core::str::from_utf8(&self.body).ok().map(str::trim);
        let der = match text {
            Some(pem) if pem.starts_with("-----BEGIN X509 CRL-----") => {
                rustls::pki_types::CertificateRevocationListDer::from_pem_slice(pem.as_bytes())
                    .map_err(|_| Problem::NotACrl)?
                    .as_ref()
                    .to_vec()
            }
            Some(digits) => hex::decode(digits).map_err(|_| Problem::NotACrl)?,
            None => self.body.clone(),
        };
        CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&der)
            .map_err(|_| Problem::NotACrl)?;
        Ok(der)
    }

    /// Reads the issuer chain: the signer and the root, in this order.
    pub(crate) fn chain(&self, part: Part) -> Result<Chain, Problem> {
        let header = part.chain_headers().first().copied().unwrap_or_default();
        let refuse = |reason| Problem::Chain { header, reason };
        let encoded = self.chain.as_deref().ok_or_else(|| refuse("missing"))?;
        if encoded.len() > MAX_CHAIN_BYTES {
            return Err(refuse("too large"));
        }
        let pem = percent_decode(encoded).ok_or_else(|| refuse("not percent-encoded text"))?;
        let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        let mut next = || certificates.next().and_then(Result::ok).map(|der| der.to_vec());
        match (next(), next(), next()) {
            (Some(signer), Some(root), None) => Ok(Chain { pem, signer, root }),
            _ => Err(refuse("not a PEM chain of two certificates")),
        }
    }
}

/// Text with `%xx` resolved (RFC 3986 §2.1); `None` where an escape is incomplete or the result is
/// not ASCII.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let c = if c == '%' {
            let (high, low) = (rest.next()?.to_digit(16)?, rest.next()?.to_digit(16)?);
            char::from_u32(high.checked_mul(16)?.checked_add(low)?)?
        } else {
            c
        };
        if !c.is_ascii() {
            return None;
        }
        out.push(c);
    }
    Some(out)
}

#[derive(Deserialize)]
struct TcbInfoAnswer<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    tcb_info: &'a RawValue,
    #[serde(borrow)]
    signature: &'a str,
}

#[derive(Deserialize)]
struct QeAnswer<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    enclave_identity: &'a RawValue,
    #[serde(borrow)]
    signature: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_escapes_and_refuses_incomplete_ones() {
        assert_eq!(percent_decode("a%20b%0A%2Bc+d").unwrap(), "a b\n+c+d");
        for broken in ["%", "%2", "%zz", "%80", "é", "%+1"] {
            assert_eq!(percent_decode(broken), None, "{broken}");
        }
    }
}
