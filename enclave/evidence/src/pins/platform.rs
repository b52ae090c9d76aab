//! `[platform]`: on which processors, modules and settings an accepted worker may run.

use serde::Deserialize;

use super::exception::ExceptionEntry;
use super::{MAX_PINNED_VALUES, PinsError, TcbException, at_most, in_range};
use crate::deny::{self, Admission, AdmissionName};
use crate::hexadecimal::HexArray;

/// What platforms are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformPins {
    /// Which platforms are admitted.
    pub admission: Admission,
    /// Accepted `td_attributes`, compared exactly. None has a debug bit.
    pub td_attributes: Vec<[u8; 8]>,
    /// Accepted `xfam`, compared exactly.
    pub xfam: Vec<[u8; 8]>,
    /// Accepted TDX module measurements.
    pub mr_seam: Vec<[u8; 48]>,
    /// Accepted `mr_config_id`; only zero unless the file lists others.
    pub mr_config_id: Vec<[u8; 48]>,
    /// Oldest accepted collateral, in days since its issue.
    pub max_collateral_age_days: u32,
    /// Smallest accepted TCB evaluation number of the collateral.
    pub min_tcb_evaluation_number: u32,
    /// Whether platforms that accept added CPU packages are accepted.
    pub allow_dynamic_platform: bool,
    /// Whether platforms that keep their keys at Intel's registration service are accepted.
    pub allow_cached_keys: bool,
    /// Whether platforms with simultaneous multithreading are accepted.
    pub allow_smt: bool,
    /// Platform families accepted for a while although they are not up to date.
    pub exceptions: Vec<TcbException>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformSection {
    #[serde(default)]
    admission: AdmissionName,
    vetted: Option<Vec<HexArray<16>>>,
    td_attributes: Vec<HexArray<8>>,
    xfam: Vec<HexArray<8>>,
    mr_seam: Vec<HexArray<48>>,
    mr_config_id: Option<Vec<HexArray<48>>>,
    max_collateral_age_days: u32,
    min_tcb_evaluation_number: u32,
    #[serde(default)]
    allow_dynamic_platform: bool,
    #[serde(default)]
    allow_cached_keys: bool,
    #[serde(default)]
    allow_smt: bool,
    #[serde(default)]
    exception: Vec<ExceptionEntry>,
}

impl PlatformSection {
    pub(super) fn check(self) -> Result<PlatformPins, PinsError> {
        let mr_config_id = self.mr_config_id.unwrap_or_else(|| vec![HexArray([0; 48])]);
        at_most("td_attributes", MAX_PINNED_VALUES, self.td_attributes.len())?;
        at_most("xfam", MAX_PINNED_VALUES, self.xfam.len())?;
        at_most("mr_seam", MAX_PINNED_VALUES, self.mr_seam.len())?;
        at_most("mr_config_id", MAX_PINNED_VALUES, mr_config_id.len())?;
        if let Some(HexArray(value)) = self.td_attributes.iter().find(|a| a.0.first() != Some(&0)) {
            return Err(PinsError::Debug { value: hex::encode(value) });
        }
        at_most("platform.exception", MAX_PINNED_VALUES, self.exception.len())?;
        let age = self.max_collateral_age_days;
        in_range("max_collateral_age_days", age, 1, MAX_COLLATERAL_AGE_DAYS)?;
        let number = self.min_tcb_evaluation_number;
        in_range("min_tcb_evaluation_number", number, 1, u32::MAX)?;
        Ok(PlatformPins {
            admission: deny::admission(self.admission, self.vetted)?,
            td_attributes: plain(self.td_attributes),
            xfam: plain(self.xfam),
            mr_seam: plain(self.mr_seam),
            mr_config_id: plain(mr_config_id),
            max_collateral_age_days: age,
            min_tcb_evaluation_number: number,
            allow_dynamic_platform: self.allow_dynamic_platform,
            allow_cached_keys: self.allow_cached_keys,
            allow_smt: self.allow_smt,
            exceptions: self
                .exception
                .into_iter()
                .map(ExceptionEntry::check)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn plain<const N: usize>(list: Vec<HexArray<N>>) -> Vec<[u8; N]> {
    list.into_iter().map(|h| h.0).collect()
}

/// Intel's collateral is valid for 30 days, so a longer bound would bound nothing.
const MAX_COLLATERAL_AGE_DAYS: u32 = 30;
