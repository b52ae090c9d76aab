//! What there is to ask for: a platform family, and the four parts of its collateral with the
//! endpoint of each (Intel SGX and TDX PCS API, version 4).

use core::fmt;

use chrysalis_evidence::PlatformFamily;

/// Kind of platform the collateral is for: the two have different TCB infos and quoting enclaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tee {
    /// TDX.
    Tdx,
    /// SGX.
    Sgx,
}

impl Tee {
    /// The word in the path.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Tdx => "tdx",
            Self::Sgx => "sgx",
        }
    }

    /// What TCB info and QE identity call themselves.
    pub(crate) const fn ids(self) -> (&'static str, &'static str) {
        match self {
            Self::Tdx => ("TDX", "TD_QE"),
            Self::Sgx => ("SGX", "QE"),
        }
    }
}

/// Which TCB data set the service should give: Intel publishes a new one some months before it
/// enforces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// The set that is enforced.
    #[default]
    Standard,
    /// The newest set.
    Early,
}

impl Update {
    const fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Early => "early",
        }
    }
}

/// Which collateral is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Kind of platform.
    pub tee: Tee,
    /// Its family.
    pub platform: PlatformFamily,
    /// Which data set.
    pub update: Update,
}

/// The four parts, each of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Levels of microcode and modules, and what is known against them.
    TcbInfo,
    /// The quoting enclave.
    QeIdentity,
    /// Revoked platform certificates.
    PckCrl,
    /// Revoked authorities.
    RootCrl,
}

impl Part {
    /// All of them, in the order they are asked for.
    pub const ALL: [Self; 4] = [Self::TcbInfo, Self::QeIdentity, Self::PckCrl, Self::RootCrl];

    /// Path and query below the base URL.
    #[must_use]
    pub fn path(self, wanted: &Wanted) -> String {
        let (tee, update) = (wanted.tee.word(), wanted.update.word());
        match self {
            // Caches compare the text, and theirs is upper-case.
            Self::TcbInfo => {
                let fmspc = hex::encode_upper(wanted.platform.fmspc);
                format!("/{tee}/certification/v4/tcb?fmspc={fmspc}&update={update}")
            }
            Self::QeIdentity => format!("/{tee}/certification/v4/qe/identity?update={update}"),
            Self::PckCrl => {
                let ca = wanted.platform.authority.word();
                format!("/sgx/certification/v4/pckcrl?ca={ca}&encoding=der")
            }
            Self::RootCrl => "/sgx/certification/v4/rootcacrl".to_owned(),
        }
    }

    /// Header with the issuer chain of the answer, percent-encoded PEM; some caches use the older
    /// name, which stands second.
    pub(crate) const fn chain_headers(self) -> &'static [&'static str] {
        match self {
            Self::TcbInfo => &["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"],
            Self::QeIdentity => &["sgx-enclave-identity-issuer-chain"],
            Self::PckCrl => &["sgx-pck-crl-issuer-chain"],
            Self::RootCrl => &[],
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcbInfo => "TCB info",
            Self::QeIdentity => "QE identity",
            Self::PckCrl => "PCK revocation list",
            Self::RootCrl => "root revocation list",
        })
    }
}
