//! The variable store inside the CFV: which secure boot keys it holds, and whether it holds
//! anything that changes the boot. Input is part of a firmware file that anybody may have made.
//!
//! Layout: edk2 `MdeModulePkg/Include/Guid/VariableFormat.h`, authenticated variables.

use super::bytes::{array, size_at, slice, u16_at, u64_at};
use super::efi::{GLOBAL, IMAGE_SECURITY};
use super::error::TdxError;

/// What the firmware will find in its variable store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredKeys {
    /// `PK`; empty where there is none.
    pub platform_key: Vec<u8>,
    /// `KEK`.
    pub key_exchange_key: Vec<u8>,
    /// `db`.
    pub signature_db: Vec<u8>,
    /// `dbx`.
    pub forbidden_db: Vec<u8>,
    /// `SecureBootEnable` is there and zero.
    pub disabled: bool,
}

impl StoredKeys {
    /// Reads the variable store of a CFV.
    ///
    /// # Errors
    /// [`TdxError::Malformed`] and [`TdxError::Truncated`] for a store that cannot be read,
    /// [`TdxError::StoredBootVariable`] for one that says what to boot.
    pub fn parse(cfv: &[u8]) -> Result<Self, TdxError> {
        let store = store(cfv)?;
        let mut keys = Self::default();
        let mut seen = [false; 5];
        let mut at = 0usize;
        for _ in 0..MAX_VARIABLES {
            let rest = store.get(at..).unwrap_or_default();
            if rest.len() < VARIABLE_BYTES || u16_at(WHAT, rest, 0)? != VARIABLE_START {
                return Ok(keys);
            }
            let variable = Variable::parse(rest, at)?;
            if variable.live {
                keys.put(&variable, at, &mut seen)?;
            }
            at = at.saturating_add(variable.size).next_multiple_of(4);
        }
        Err(TdxError::TooLarge {
            what: "stored variables",
            limit: MAX_VARIABLES,
            got: MAX_VARIABLES.saturating_add(1),
        })
    }

    /// No key at all: secure boot cannot be on.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        [&self.platform_key, &self.key_exchange_key, &self.signature_db, &self.forbidden_db]
            .into_iter()
            .all(Vec::is_empty)
    }

    /// Whether the firmware will say that secure boot is on.
    #[must_use]
    pub fn secure_boot(&self) -> bool {
        !self.platform_key.is_empty() && !self.disabled
    }

    fn put(
        &mut self,
        variable: &Variable<'_>,
        at: usize,
        seen: &mut [bool; 5],
    ) -> Result<(), TdxError> {
        let target = match (variable.vendor, variable.name.as_str()) {
            (GLOBAL, "PK") => (0, &mut self.platform_key),
            (GLOBAL, "KEK") => (1, &mut self.key_exchange_key),
            (IMAGE_SECURITY, "db") => (2, &mut self.signature_db),
            (IMAGE_SECURITY, "dbx") => (3, &mut self.forbidden_db),
            (SECURE_BOOT_ENABLE, "SecureBootEnable") => {
                self.disabled = variable.data == [0];
                return once(seen, 4, at);
            }
            // Boot####, BootOrder, Driver####, OsIndications, dbt … all change events or the boot.
            (GLOBAL | IMAGE_SECURITY, name) => {
                return Err(TdxError::StoredBootVariable { name: name.to_owned() });
            }
            _ => return Ok(()),
        };
        target.1.extend_from_slice(variable.data);
        once(seen, target.0, at)
    }
}

/// Two live copies: which one the firmware would read is not defined.
fn once(seen: &mut [bool; 5], index: usize, at: usize) -> Result<(), TdxError> {
    match seen.get_mut(index) {
        Some(mark) if !*mark => {
            *mark = true;
            Ok(())
        }
        _ => Err(TdxError::Malformed { what: WHAT, at, reason: "the variable is stored twice" }),
    }
}

struct Variable<'a> {
    live: bool,
    vendor: [u8; 16],
    name: String,
    data: &'a [u8],
    size: usize,
}

impl<'a> Variable<'a> {
    /// `bytes` begin at the variable; `at` is where that is, for errors.
    fn parse(bytes: &'a [u8], at: usize) -> Result<Self, TdxError> {
        let state = array::<1>(WHAT, bytes, 2)?;
        let name_bytes = size_at(WHAT, bytes, 36)?;
        let data_bytes = size_at(WHAT, bytes, 40)?;
        let name = slice(WHAT, bytes, VARIABLE_BYTES, name_bytes)?;
        let data_at = VARIABLE_BYTES.saturating_add(name_bytes);
        let data = slice(WHAT, bytes, data_at, data_bytes)?;
        let units = name.chunks_exact(2).map(|c| u16_at(WHAT, c, 0).unwrap_or(0xfffd));
        let text: String = char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect();
        let malformed = |reason| TdxError::Malformed { what: WHAT, at, reason };
        if name_bytes % 2 != 0 || name_bytes > MAX_NAME_BYTES {
            return Err(malformed("its name has an impossible length"));
        }
        let name = text.strip_suffix('\0').ok_or_else(|| malformed("its name has no end"))?;
        Ok(Self {
            // VAR_ADDED, also while a replacement was being written.
            live: matches!(state, [0x3f | 0x3e]),
            vendor: array(WHAT, bytes, 44)?,
            name: name.to_owned(),
            data,
            size: data_at.saturating_add(data_bytes),
        })
    }
}

/// The variables of the store, after the headers of volume and store.
fn store(cfv: &[u8]) -> Result<&[u8], TdxError> {
    const VOLUME: &str = "variable store";
    let malformed = |at, reason| TdxError::Malformed { what: VOLUME, at, reason };
    if array::<4>(VOLUME, cfv, 40)? != *b"_FVH" {
        return Err(malformed(40, "it is no firmware volume"));
    }
    let size = u64::try_from(cfv.len()).unwrap_or(u64::MAX);
    if u64_at(VOLUME, cfv, 32)? > size {
        return Err(malformed(32, "the volume is larger than its section"));
    }
    let header = usize::from(u16_at(VOLUME, cfv, 48)?);
    let head = slice(VOLUME, cfv, header, STORE_BYTES)?;
    if array::<16>(VOLUME, head, 0)? != AUTHENTICATED_STORE {
        return Err(malformed(header, "it does not hold authenticated variables"));
    }
    if array::<2>(VOLUME, head, 20)? != [FORMATTED, HEALTHY] {
        return Err(malformed(header, "it is not formatted or not healthy"));
    }
    let length = size_at(VOLUME, head, 16)?;
    let body = length
        .checked_sub(STORE_BYTES)
        .ok_or_else(|| malformed(header, "it is smaller than its own header"))?;
    slice(VOLUME, cfv, header.saturating_add(STORE_BYTES), body)
}

/// Most variables read; Debian's enrolled store has 21 and some deleted ones.
pub const MAX_VARIABLES: usize = 1024;

/// Longest name of a variable, in bytes of UTF-16 with its terminator.
const MAX_NAME_BYTES: usize = 512;

const WHAT: &str = "stored variable";
const VARIABLE_BYTES: usize = 60;
const VARIABLE_START: u16 = 0x55aa;
const STORE_BYTES: usize = 28;
const FORMATTED: u8 = 0x5a;
const HEALTHY: u8 = 0xfe;

/// gEfiAuthenticatedVariableGuid: aaf32c78-947b-439a-a180-2e144ec37792.
const AUTHENTICATED_STORE: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];

/// gEfiSecureBootEnableDisableGuid: f0a30bc7-af08-4556-99c4-001009c93a44.
const SECURE_BOOT_ENABLE: [u8; 16] = [
    0xc7, 0x0b, 0xa3, 0xf0, 0x08, 0xaf, 0x56, 0x45, 0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44,
];
