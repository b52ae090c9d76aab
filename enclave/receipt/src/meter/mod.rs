//! The metering loop between a payer and a meter, without its I/O.
//!
//! A payer signs a cap once and an [`offer`] for every request. The meter sets aside the most a
//! request can cost ([`price`]), serves it, and counts what it came to ([`book`]). What it owes is
//! proved to both sides by a [`claim`], from which a later meter goes on.
//!
//! Loss is bounded on both sides: a payer risks what its caps allow, and a payee what it served since
//! the last claim that left the enclave and, where its owner vouches for no deposit ([`funding`]), what
//! a payer promised without coins. A payer who withholds a claim gains nothing while the payee's
//! host kept it; a host that withholds one makes its own owner start lower.

pub(crate) mod book;
pub(crate) mod claim;
pub(crate) mod funding;
pub(crate) mod offer;
pub(crate) mod price;
pub(crate) mod required;
pub(crate) mod terms;
