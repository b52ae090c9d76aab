//! What a pin says about a worker's contents, whatever platform it names: from where the platform's
//! own rules have chosen the possible pins, one set of rules goes on with this.

use chrysalis_wire::{Digest, UnixTime};

use super::{EnclavePin, PinnedIdentity, WorkerPin};
use crate::deny::{self, Denial, Denied};

/// The contents one pin accepts. Holds together with the identity of the same pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents<'a> {
    pub(crate) name: &'a str,
    pub(crate) manifest_sha256: Digest,
    pub(crate) model_root: Digest,
    pub(crate) activates_at: Option<UnixTime>,
    image: Image<'a>,
}

/// The value by which denials name the image, where the pin has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Image<'a> {
    Td(&'a [u8; 48]),
    Enclave(Digest),
    /// Any enclave of a signer; its measurement is denied as the report states it.
    Signer,
}

impl Contents<'_> {
    /// Why the pinned worker is denied all the same.
    pub(crate) fn denied<'d>(&self, list: &'d [Denial]) -> Option<&'d str> {
        let image = match self.image {
            Image::Td(mrtd) => Some(Denied::Mrtd(*mrtd)),
            Image::Enclave(mrenclave) => Some(Denied::Mrenclave(mrenclave)),
            Image::Signer => None,
        };
        let contents = [Denied::Manifest(self.manifest_sha256), Denied::Model(self.model_root)];
        image.iter().chain(&contents).find_map(|value| deny::reason(list, value))
    }
}

impl WorkerPin {
    pub(crate) fn contents(&self) -> Contents<'_> {
        let Self { name, manifest_sha256, model_root, activates_at, mrtd, .. } = self;
        Contents {
            name,
            manifest_sha256: *manifest_sha256,
            model_root: *model_root,
            activates_at: *activates_at,
            image: Image::Td(mrtd),
        }
    }
}

impl EnclavePin {
    pub(crate) fn contents(&self) -> Contents<'_> {
        let Self { name, identity, manifest_sha256, model_root, activates_at } = self;
        Contents {
            name,
            manifest_sha256: *manifest_sha256,
            model_root: *model_root,
            activates_at: *activates_at,
            image: match identity {
                PinnedIdentity::Enclave { mrenclave } => Image::Enclave(*mrenclave),
                PinnedIdentity::Signer { .. } => Image::Signer,
            },
        }
    }
}
