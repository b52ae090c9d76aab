//! Reads what a final Gramine manifest (`.manifest.sgx`) says about its enclave: the layout, the
//! attributes and identity its signature must carry, and whatever in it weakens the enclave. The
//! file may be anybody's; it is measured byte for byte whatever it says.

use chrysalis_wire::Digest;
use serde::Deserialize;
use toml::{Table, Value};

use super::error::{GramineError, SgxError};
use super::layout::EnclaveShape;
use super::sigstruct::{SigningDate, SigstructBody};

/// Largest manifest read, in bytes: some 30 000 trusted files.
pub const MAX_GRAMINE_MANIFEST_BYTES: usize = 4 << 20;

/// What a final Gramine manifest says about its enclave.
#[derive(Clone, Debug, PartialEq)]
pub struct GramineManifest {
    /// Address range, threads, EDMM.
    pub shape: EnclaveShape,
    /// ATTRIBUTES, XFRM and MISCSELECT of the enclave.
    pub attributes: EnclaveAttributes,
    /// `sgx.isvprodid`.
    pub isv_prod_id: u16,
    /// `sgx.isvsvn`.
    pub isv_svn: u16,
    /// `sgx.remote_attestation` is `dcap`.
    pub dcap: bool,
    /// Files whose hash is in the manifest.
    pub trusted_files: usize,
    /// Those hashes, SHA-256.
    pub trusted_sha256: Vec<Digest>,
    /// Files the host may change at will.
    pub allowed_files: Vec<String>,
    /// Keys by whose own name the enclave trusts its host with something, such as
    /// `loader.insecure__use_host_env`.
    pub insecure: Vec<String>,
}

/// SECS.ATTRIBUTES and MISCSELECT, each with the mask under which EINIT compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclaveAttributes {
    /// ATTRIBUTES.FLAGS.
    pub flags: u64,
    /// Bits of FLAGS that must be as given.
    pub flags_mask: u64,
    /// XFRM: processor state the enclave may use.
    pub xfrm: u64,
    /// Bits of XFRM that must be as given.
    pub xfrm_mask: u64,
    /// MISCSELECT.
    pub misc_select: u32,
    /// Bits of MISCSELECT that must be as given.
    pub misc_mask: u32,
}

impl Default for EnclaveAttributes {
    /// A 64-bit enclave that is not debugged, with every bit compared that Gramine compares.
    fn default() -> Self {
        Self {
            flags: FLAG_MODE64BIT,
            flags_mask: u64::MAX,
            xfrm: XFRM_LEGACY,
            xfrm_mask: XFRM_MASK,
            misc_select: 0,
            misc_mask: u32::MAX,
        }
    }
}

impl EnclaveAttributes {
    /// Whether a debugger of the host may read the enclave's memory.
    #[must_use]
    pub const fn debug(&self) -> bool {
        self.flags & FLAG_DEBUG != 0
    }
}

impl GramineManifest {
    /// Reads a final manifest.
    ///
    /// # Errors
    /// [`SgxError::TooLarge`], [`SgxError::Manifest`] for what Gramine could not use, and
    /// [`SgxError::Enclave`] for sizes no CPU accepts.
    pub fn parse(bytes: &[u8]) -> Result<Self, SgxError> {
        if bytes.len() > MAX_GRAMINE_MANIFEST_BYTES {
            let (what, limit) = ("Gramine manifest", MAX_GRAMINE_MANIFEST_BYTES);
            return Err(SgxError::TooLarge { what, limit, got: bytes.len() });
        }
        let text = core::str::from_utf8(bytes).map_err(|_| GramineError::NotText)?;
        let not_toml = |e: toml::de::Error| GramineError::Toml(e.to_string());
        let all: Table = toml::from_str(text).map_err(not_toml)?;
        let Some(sgx) = all.get("sgx").cloned() else {
            return Err(GramineError::Missing("[sgx]").into());
        };
        let raw: Sgx = sgx.try_into().map_err(not_toml)?;
        let missing = GramineError::Missing;
        let size = raw.enclave_size.as_deref().ok_or_else(|| missing("sgx.enclave_size"))?;
        let threads = raw.max_threads.ok_or_else(|| missing("sgx.max_threads"))?;
        let edmm = raw.edmm_enable.ok_or_else(|| missing("sgx.edmm_enable"))?;
        let size = parse_size("sgx.enclave_size", size)?;
        let shape = EnclaveShape::new(size, threads, edmm)?;
        let has_entry_hash = all
            .get("loader")
            .and_then(|loader| loader.get("entrypoint")?.get("sha256"))
            .and_then(Value::as_str)
            .is_some_and(is_sha256);
        if !has_entry_hash {
            return Err(missing("loader.entrypoint.sha256").into());
        }
        let mut insecure = Vec::new();
        weak_keys("", &all, &mut insecure);
        if raw.file_check_policy.as_deref().unwrap_or("strict") != "strict" {
            insecure.push("sgx.file_check_policy".to_owned());
        }
        let trusted_sha256 = trusted(&raw.trusted_files)?;
        Ok(Self {
            shape,
            attributes: raw.attributes()?,
            isv_prod_id: raw.isvprodid,
            isv_svn: raw.isvsvn,
            dcap: raw.remote_attestation.as_deref() == Some("dcap"),
            trusted_files: trusted_sha256.len(),
            trusted_sha256,
            allowed_files: raw.allowed_files,
            insecure,
        })
    }

    /// What its signer vouches for, signed on `date`.
    ///
    /// # Errors
    /// [`GramineError::Debug`]: nobody vouches for an enclave whose memory its host may read.
    pub fn body(&self, mrenclave: Digest, date: SigningDate) -> Result<SigstructBody, SgxError> {
        if self.attributes.debug() {
            return Err(GramineError::Debug.into());
        }
        Ok(SigstructBody {
            date,
            mrenclave,
            attributes: self.attributes,
            isv_prod_id: self.isv_prod_id,
            isv_svn: self.isv_svn,
        })
    }
}

/// `sgx` of a manifest: the fields that matter here. Gramine knows more, and checks them itself.
#[derive(Deserialize)]
struct Sgx {
    enclave_size: Option<String>,
    max_threads: Option<u64>,
    edmm_enable: Option<bool>,
    #[serde(default)]
    debug: bool,
    #[serde(default)]
    use_exinfo: bool,
    #[serde(default)]
    isvprodid: u16,
    #[serde(default)]
    isvsvn: u16,
    remote_attestation: Option<String>,
    file_check_policy: Option<String>,
    #[serde(default)]
    cpu_features: Table,
    #[serde(default)]
    trusted_files: Vec<Value>,
    #[serde(default)]
    allowed_files: Vec<String>,
}

impl Sgx {
    /// As Gramine's signer derives them. AVX, AVX-512 and AMX may be left to the machine; MPX and
    /// PKRU may not, so they are in the mask from the start.
    fn attributes(&self) -> Result<EnclaveAttributes, GramineError> {
        let mut attributes = EnclaveAttributes::default();
        if self.debug {
            attributes.flags |= FLAG_DEBUG;
        }
        attributes.misc_select = u32::from(self.use_exinfo);
        for (name, value) in &self.cpu_features {
            cpu_feature(&mut attributes, name, value.as_str().unwrap_or_default())?;
        }
        Ok(attributes)
    }
}

/// Takes one setting of `sgx.cpu_features`.
pub(super) fn cpu_feature(
    attributes: &mut EnclaveAttributes,
    name: &str,
    setting: &str,
) -> Result<(), GramineError> {
    let known = CPU_FEATURES.iter().find(|feature| feature.name == name);
    match (known, setting) {
        (Some(feature), "required") => {
            attributes.xfrm |= feature.bits;
            attributes.xfrm_mask |= feature.bits;
        }
        (Some(feature), "disabled") => attributes.xfrm_mask |= feature.bits,
        (Some(Feature { hardening: false, .. }), "unspecified") => {}
        _ => {
            return Err(GramineError::Value {
                field: format!("cpu_features.{name}"),
                expected: "avx, avx512, amx: required, disabled or unspecified; mpx, pkru: \
                           required or disabled",
                got: setting.chars().take(MAX_SHOWN_CHARS).collect(),
            });
        }
    }
    Ok(())
}

/// The hashes of the trusted files; each must have one by now.
fn trusted(files: &[Value]) -> Result<Vec<Digest>, GramineError> {
    let hash = |file: &Value| {
        let field = |name: &str| file.get(name).and_then(Value::as_str);
        let uri = field("uri").or_else(|| file.as_str()).unwrap_or_default();
        field("sha256")
            .filter(|text| is_sha256(text))
            .and_then(|text| text.to_ascii_lowercase().parse().ok())
            .ok_or_else(|| GramineError::NoHash { uri: uri.to_owned() })
    };
    files.iter().map(hash).collect()
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Keys whose name says `insecure__` and that are not switched off.
fn weak_keys(path: &str, table: &Table, found: &mut Vec<String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let off = matches!(value, Value::Boolean(false) | Value::Integer(0));
        if key.starts_with("insecure__") && !off {
            found.push(path);
        } else if let Value::Table(inner) = value {
            weak_keys(&path, inner, found);
        }
    }
}

/// A size as Gramine writes them: decimal digits and `K`, `M` or `G`.
pub(super) fn parse_size(field: &str, text: &str) -> Result<u64, GramineError> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 1 << 10),
        Some(digits) if text.ends_with('M') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (text, 1u64),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = Some(digits).filter(|_| plain).and_then(|digits| digits.parse::<u64>().ok());
    number.and_then(|number| number.checked_mul(unit)).ok_or_else(|| GramineError::Value {
        field: field.to_owned(),
        expected: "decimal digits, then nothing, K, M or G",
        got: text.chars().take(MAX_SHOWN_CHARS).collect(),
    })
}

struct Feature {
    name: &'static str,
    bits: u64,
    /// Whether leaving it to the host would weaken the enclave.
    hardening: bool,
}

/// XFRM bits by the name of `sgx.cpu_features`, SDM 1, "XSAVE-managed features".
const CPU_FEATURES: [Feature; 5] = [
    Feature { name: "avx", bits: 0x4, hardening: false },
    Feature { name: "avx512", bits: 0xe4, hardening: false },
    Feature { name: "amx", bits: 0x6_0000, hardening: false },
    Feature { name: "mpx", bits: 0x18, hardening: true },
    Feature { name: "pkru", bits: 0x200, hardening: true },
];

const FLAG_DEBUG: u64 = 0x2;
const FLAG_MODE64BIT: u64 = 0x4;
/// x87 and SSE, which every enclave has.
const XFRM_LEGACY: u64 = 0x3;
/// All bits but those of AVX, AVX-512 and AMX.
const XFRM_MASK: u64 = 0xffff_ffff_fff9_ff1b;
const MAX_SHOWN_CHARS: usize = 32;
