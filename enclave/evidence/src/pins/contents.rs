//! What a pin says about a worker's contents, whatever platform it names: from where the platform's
//! own rules have chosen the possible pins, one set of rules goes on with this.

use chrysalis_wire::Digest;

use super::{EnclavePin, WorkerPin};

/// The contents one pin accepts. Holds together with the identity of the same pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents<'a> {
    pub(crate) name: &'a str,
    pub(crate) manifest_sha256: Digest,
    pub(crate) model_root: Digest,
}

impl WorkerPin {
    pub(crate) fn contents(&self) -> Contents<'_> {
        let Self { name, manifest_sha256, model_root, .. } = self;
        Contents { name, manifest_sha256: *manifest_sha256, model_root: *model_root }
    }
}

impl EnclavePin {
    pub(crate) fn contents(&self) -> Contents<'_> {
        let Self { name, manifest_sha256, model_root, .. } = self;
        Contents { name, manifest_sha256: *manifest_sha256, model_root: *model_root }
    }
}
