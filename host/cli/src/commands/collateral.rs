//! `chrysalis policy fetch-collateral`: fetches Intel's signed facts for a platform family and puts
//! them in place of the ones there are, unless those are newer. The service is untrusted; nothing is
//! written that is not signed under Intel's root.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use chrysalis_collateral::{
    Bundle, Facts, FetchError, Outdated, Patience, PlainHttp, Service, Source, Tee, TlsRoots,
    Update, UrlError, Wanted, replace,
};
use chrysalis_evidence::{
    Authority, Collateral, CutQuote, Examined, MAX_COLLATERAL_BYTES, PlatformFamily, TeeKind,
    TrustRoot, examine,
};
use chrysalis_wire::limits::MAX_ATTESTATION_BYTES;
use chrysalis_wire::{Digest, UnixTime};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::commands::measure_input::quote_in;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};
use crate::report::Text;

/// `policy fetch-collateral`.
#[derive(Debug, Args)]
pub(crate) struct FetchCollateral {
    /// Fetch for the platform of this quote (binary, hex, or an attestation), and say what the
    /// bundle makes of it.
    #[arg(value_name = "QUOTE", required_unless_present = "fmspc", conflicts_with = "fmspc")]
    quote: Option<PathBuf>,
    /// Fetch for this platform family: 12 hex digits.
    #[arg(long, value_name = "HEX", value_parser = fmspc)]
    fmspc: Option<[u8; 6]>,
    /// Who certifies the platforms of --fmspc. TDX runs on multi-package platforms.
    #[arg(long, value_enum, default_value = "platform")]
    authority: AuthorityName,
    /// Kind of platform of --fmspc.
    #[arg(long, value_enum, default_value = "tdx")]
    tee: TeeName,
    /// Base URL of the service: Intel's PCS, or a cache (PCCS) of yours.
    #[arg(long, value_name = "URL")]
    url: String,
    /// Certificate authorities of the service, PEM; without it those of the system.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Accept http:// to another machine. Answers stay verified; the network can withhold them.
    #[arg(long)]
    allow_plain_http: bool,
    /// Where the root's revocation list is, if the service has none; without it where Intel's root
    /// certificate says.
    #[arg(long, value_name = "URL")]
    root_crl: Option<String>,
    /// Which data set: the one Intel enforces, or the newest.
    #[arg(long, value_enum, default_value = "standard")]
    update: UpdateName,
    /// The bundle: written as a whole, and kept as it is if what was fetched is older.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Fetch again every so many hours, until stopped.
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=168))]
    every: Option<u64>,
    /// Judge validity at this time, in seconds since 1970, instead of now.
    #[arg(long, value_name = "SECONDS", conflicts_with = "every")]
    at: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AuthorityName {
    Platform,
    Processor,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TeeName {
    Tdx,
    Sgx,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum UpdateName {
    Standard,
    Early,
}

pub(crate) fn fetch(arguments: &FetchCollateral, context: &Context) -> Result<ExitCode, Failure> {
    let quote = arguments.quote.as_deref().map(read_quote).transpose()?;
    let wanted = arguments.wanted(quote.as_ref())?;
    let source = arguments.source()?;
    let now = || arguments.at.map_or_else(|| context.now(), UnixTime);
    if arguments.at.is_some() {
        context.report.note("validity was judged at the given time; the bundle may be over by now");
    }
    context.block_on(async {
        let Some(hours) = arguments.every else {
            let fetched = arguments.once(&source, &wanted, quote.as_ref(), now()).await?;
            return fetched.report(context, &arguments.out, now());
        };
        loop {
            match arguments.once(&source, &wanted, quote.as_ref(), now()).await {
                Ok(fetched) => {
                    let _refused_or_not = fetched.report(context, &arguments.out, now())?;
                }
                // The next round may do better, and the bundle there is stays.
                Err(failure) => context.report.failure(&failure),
            }
            tokio::time::sleep(Duration::from_secs(hours.saturating_mul(SECONDS_PER_HOUR))).await;
        }
    })
}

impl FetchCollateral {
    fn wanted(&self, quote: Option<&CutQuote>) -> Result<Wanted, Failure> {
        let update = match self.update {
            UpdateName::Standard => Update::Standard,
            UpdateName::Early => Update::Early,
        };
        if let Some(quote) = quote {
            let platform = PlatformFamily::of_quote(quote).ok_or_else(|| {
                let message = "the quote's certificate does not name a platform family";
                Failure::new(Class::Malformed, "E-QUOTE-CHAIN", message)
                    .next("give the family with --fmspc")
            })?;
            let tee = if quote.tee() == TeeKind::Tdx { Tee::Tdx } else { Tee::Sgx };
            return Ok(Wanted { tee, platform, update });
        }
        let authority = match self.authority {
            AuthorityName::Platform => Authority::Platform,
            AuthorityName::Processor => Authority::Processor,
        };
        let tee = match self.tee {
            TeeName::Tdx => Tee::Tdx,
            TeeName::Sgx => Tee::Sgx,
        };
        let fmspc = self.fmspc.unwrap_or_default();
        Ok(Wanted { tee, platform: PlatformFamily { fmspc, authority }, update })
    }

    fn source(&self) -> Result<Source, Failure> {
        let plain =
            if self.allow_plain_http { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly };
        let service = Service::parse(&self.url, plain)?;
        let tls = match (&self.ca_file, service.uses_tls()) {
            (Some(path), _) => Some(authorities(path)?),
            (None, true) => SYSTEM_AUTHORITIES
                .iter()
                .map(Path::new)
                .find(|path| path.is_file())
                .map(authorities)
                .transpose()?,
            (None, false) => None,
        };
        let source = Source::new(service, tls, &TrustRoot::Intel);
        Ok(match &self.root_crl {
            Some(url) => source.with_root_crl(Service::parse(url, plain)?),
            None => source,
        })
    }

    async fn once(
        &self,
        source: &Source,
        wanted: &Wanted,
        quote: Option<&CutQuote>,
        now: UnixTime,
    ) -> Result<Fetched, Failure> {
        let root = TrustRoot::Intel;
        let bundle = source.fetch(wanted, &root, &Patience::default(), now).await?;
        let quote = quote.map(|quote| examine(quote, &bundle.collateral, &root, now));
        let (outcome, kept_because) = self.put(&bundle)?;
        let Bundle { collateral, facts } = bundle;
        Ok(Fetched { outcome, kept_because, digest: collateral.digest(), facts, quote })
    }

    /// Writes the bundle, unless the one there is knows more.
    fn put(&self, bundle: &Bundle) -> Result<(&'static str, Option<Outdated>), Failure> {
        let present = if self.out.exists() {
            // A file that is no bundle is not ours to replace.
            let bytes = files::read(&self.out, MAX_COLLATERAL_BYTES)?;
            Some(Collateral::parse(&bytes).map_err(|e| Failure::from(e).in_file(&self.out))?)
        } else {
            None
        };
        if let Some(present) = &present {
            if *present == bundle.collateral {
                return Ok(("unchanged", None));
            }
            if let Err(older) = replace(present, bundle) {
                return Ok(("kept", Some(older)));
            }
        }
        files::write(&self.out, bundle.collateral.to_json().as_bytes(), Existing::Replace)?;
        Ok((if present.is_some() { "replaced" } else { "wrote" }, None))
    }
}

/// What one round came to.
struct Fetched {
    outcome: &'static str,
    kept_because: Option<Outdated>,
    digest: Digest,
    facts: Facts,
    quote: Option<Result<Examined, String>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    outcome: &'static str,
    path: String,
    digest: Digest,
    #[serde(flatten)]
    facts: &'a Facts,
    days_left: u64,
    kept_because: Option<String>,
    quote: Option<&'a Examined>,
    quote_refused: Option<&'a str>,
}

impl Fetched {
    /// Shows it. An older answer and a quote that does not verify are refusals, said after the rest.
    fn report(&self, context: &Context, path: &Path, now: UnixTime) -> Result<ExitCode, Failure> {
        let shown = Shown {
            outcome: self.outcome,
            path: path.display().to_string(),
            digest: self.digest,
            facts: &self.facts,
            days_left: self.facts.days_left(now),
            kept_because: self.kept_because.as_ref().map(ToString::to_string),
            quote: self.quote.as_ref().and_then(|q| q.as_ref().ok()),
            quote_refused: self.quote.as_ref().and_then(|q| q.as_ref().err()).map(String::as_str),
        };
        context.report.result("chrysalis/collateral-fetched/v1", &shown, |out| shown.text(out))?;
        let refused = self.kept_because.is_some() || matches!(&self.quote, Some(Err(_)));
        Ok(if refused { Class::Refused.into() } else { ExitCode::SUCCESS })
    }
}

impl Shown<'_> {
    fn text(&self, out: &mut Text) -> std::fmt::Result {
        let facts = self.facts;
        out.field(self.outcome, &self.path)?;
        out.field("sha256", self.digest)?;
        out.field("platform family", format!("{} {}", facts.tee, facts.fmspc))?;
        let (tcb, qe) = (facts.tcb_evaluation_number, facts.qe_evaluation_number);
        out.field("evaluation number", format!("{tcb} (quoting enclave {qe})"))?;
        out.field("issued", format!("{} (seconds since 1970)", facts.issued.0))?;
        out.field("expires", format!("{}, in {} days", facts.expires.0, self.days_left))?;
        out.field("revoked platforms", facts.revoked_platforms)?;
        if let Some(quote) = self.quote {
            let advisories = match quote.advisories.as_slice() {
                [] => "no advisories".to_owned(),
                some => some.join(" "),
            };
            let instance = quote.platform_instance_id.as_deref().unwrap_or("none");
            out.field("quote", format!("{}; {advisories}", quote.status))?;
            out.field("platform instance", instance)?;
            out.field("ppid", &quote.ppid)?;
        }
        if let Some(reason) = self.quote_refused {
            out.verdict(false, &format!("the quote does not verify with it: {reason}"))?;
        }
        match &self.kept_because {
            Some(reason) => out.verdict(false, &format!("{reason}; the bundle there is was kept")),
            None => Ok(()),
        }
    }
}

fn read_quote(path: &Path) -> Result<CutQuote, Failure> {
    let bytes = files::read(path, MAX_ATTESTATION_BYTES)?;
    let quote = quote_in(&bytes).unwrap_or(bytes);
    CutQuote::parse(&quote).map_err(|e| {
        Failure::new(Class::Malformed, e.code(), e.to_string())
            .in_file(path)
            .next("give a quote as bytes or hex, or the attestation of a worker")
    })
}

fn authorities(path: &Path) -> Result<TlsRoots, Failure> {
    let pem = files::read(path, MAX_AUTHORITIES_BYTES)?;
    TlsRoots::from_pem(&pem).map_err(|e| Failure::from(e).in_file(path))
}

fn fmspc(text: &str) -> Result<[u8; 6], String> {
    let mut bytes = [0u8; 6];
    hex::decode_to_slice(text, &mut bytes)
        .map(|()| bytes)
        .map_err(|_| "write it as 12 hexadecimal digits, such as 90c06f000000".to_owned())
}

impl From<UrlError> for Failure {
    fn from(error: UrlError) -> Self {
        let (class, next) = match &error {
            UrlError::Form { .. } => (Class::Usage, "write it as https://HOST[:PORT][/PATH]"),
            UrlError::Plain { .. } => {
                (Class::Refused, "use https, or accept plain HTTP with --allow-plain-http")
            }
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let refused = match &error {
            FetchError::Part { problem, .. } => problem.is_refusal(),
            FetchError::Bundle(_) | FetchError::NoAuthorities => false,
        };
        let (class, next) = if refused {
            (Class::Refused, "check the clock of this machine; then ask another service")
        } else if error == FetchError::NoAuthorities {
            (Class::Usage, "give a PEM file with --ca-file")
        } else {
            (Class::Internal, "check the address of the service, and try again later")
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

/// Where systems keep the authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Largest file of authorities read, in bytes; Debian's is 220 KB.
const MAX_AUTHORITIES_BYTES: usize = 4 * 1024 * 1024;
const SECONDS_PER_HOUR: u64 = 3600;
