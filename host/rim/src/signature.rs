//! The enveloped signature of a manifest (W3C XML Signature 1.1, in the one form NVIDIA writes).
//! The order matters: the chain says whose key it is, the signature covers `SignedInfo`, and the
//! digest in it covers the document without the signature.

use aws_lc_rs::digest::{SHA384, digest};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_evidence::nvidia::{Signer, verify_signer};
use chrysalis_wire::UnixTime;

use crate::RimError;
use crate::canonical::{Scope, canonical, scope};
use crate::tree::{Element, Node};

/// Takes the signature out of a document and verifies that it covers what is left.
pub(crate) fn verify(
    mut document: Element,
    root: &[u8],
    now: UnixTime,
) -> Result<(Element, Signer), RimError> {
    let signature = document.only(SIGNATURE)?.clone();
    document.children.retain(|node| !matches!(node, Node::Element(e) if e.name == SIGNATURE));

    let outer = scope(&document, &Scope::new())?;
    let inner = scope(&signature, &outer)?;
    if inner.get("ds").map(String::as_str) != Some(DSIG) {
        return Err(RimError::Form { what: "a signature in another namespace" });
    }
    let signed_info = signature.only("ds:SignedInfo")?;
    let digest_value = reference(signed_info)?;

    let data = signature.only("ds:KeyInfo")?.only("ds:X509Data")?;
    let certificates = data.elements().filter(|e| e.name == CERTIFICATE);
    let chain: Vec<Vec<u8>> =
        certificates.map(|e| decode(e, CERTIFICATE)).collect::<Result<_, _>>()?;
    let signer = verify_signer(&chain, root, now).map_err(RimError::Chain)?;
    let value = decode(signature.only("ds:SignatureValue")?, "ds:SignatureValue")?;
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, signer.key)
        .verify(canonical(signed_info, &inner)?.as_bytes(), &value)
        .map_err(|_| RimError::Signature)?;

    let whole = canonical(&document, &Scope::new())?;
    if digest(&SHA384, whole.as_bytes()).as_ref() != digest_value {
        return Err(RimError::Digest);
    }
    Ok((document, signer))
}

/// The digest in `SignedInfo`, which must be of the whole document and of nothing else.
fn reference(signed_info: &Element) -> Result<Vec<u8>, RimError> {
    let algorithm = |parent: &Element, name: &'static str, expected: &'static str| {
        let element = parent.only(name)?;
        let only = element.attributes.len() == 1 && element.children.is_empty();
        if only && element.attribute("Algorithm") == Some(expected) {
            Ok(())
        } else {
            Err(RimError::Algorithm { what: name, expected })
        }
    };
    algorithm(signed_info, "ds:CanonicalizationMethod", C14N_11)?;
    algorithm(signed_info, "ds:SignatureMethod", ECDSA_SHA384)?;
    let reference = signed_info.only("ds:Reference")?;
    if reference.attributes != [("URI".to_owned(), String::new())] {
        return Err(RimError::Form { what: "a reference to something else than the document" });
    }
    algorithm(reference, "ds:DigestMethod", SHA384_METHOD)?;
    let transforms: Vec<_> = reference
        .only("ds:Transforms")?
        .elements()
        .map(|e| (e.name.as_str(), e.attributes.len(), e.attribute("Algorithm")))
        .collect();
    let wanted = [ENVELOPED, C14N_11].map(|method| ("ds:Transform", 1, Some(method)));
    if transforms != wanted {
        let expected = "the enveloped signature's, then C14N 1.1";
        return Err(RimError::Algorithm { what: "ds:Transforms", expected });
    }
    decode(reference.only("ds:DigestValue")?, "ds:DigestValue")
}

fn decode(element: &Element, what: &'static str) -> Result<Vec<u8>, RimError> {
    let text: String = element.text(what)?.split_whitespace().collect();
    STANDARD.decode(text).map_err(|_| RimError::Missing { what })
}

const SIGNATURE: &str = "ds:Signature";
const CERTIFICATE: &str = "ds:X509Certificate";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const C14N_11: &str = "http://www.w3.org/2006/12/xml-c14n11";
const ECDSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
const SHA384_METHOD: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";
