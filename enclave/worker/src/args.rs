//! The worker's arguments. The host chooses them (in a VM, the measured PID 1 does) and therefore
//! they say only *where* things are; what the worker does is decided by the measured manifest.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::error::WorkerError;

/// Who extends the boot events into the runtime register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeasuredBy {
    /// The worker itself, as a process without a measured PID 1.
    Worker,
    /// PID 1 did, and closed the way; the worker checks that the register holds its own events.
    Init,
}

/// Where the host put things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The measured manifest.
    pub manifest: PathBuf,
    /// The model bundle, on an untrusted disk.
    pub bundle: PathBuf,
    /// Address to listen on; port 0 picks one. Loopback, unless PID 1 measured: then it is the
    /// guest's own address, behind which the host relays.
    pub listen: SocketAddr,
    /// Collateral for the self-appraisal. Self-authenticating, so the host may supply it.
    pub collateral: PathBuf,
    /// The pins of clients that the manifest names, if it does.
    pub peer_pins: Option<PathBuf>,
    /// Who measured.
    pub measured_by: MeasuredBy,
}

impl Args {
    /// Reads `--manifest FILE --bundle FILE --collateral FILE --listen ADDR`, each exactly once, and
    /// `--measured-by init` and `--peer-pins FILE` at most once.
    ///
    /// # Errors
    /// [`WorkerError::Usage`] for a missing, repeated, unknown or unreadable argument, and for a
    /// listen address that is not loopback in a worker that PID 1 did not measure: the relay is the
    /// only way in.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, WorkerError> {
        let mut values: [Option<OsString>; FLAGS.len()] = Default::default();
        let mut args = args.into_iter();
        while let Some(flag) = args.next() {
            let slot = FLAGS
                .iter()
                .position(|known| flag == *known)
                .and_then(|index| values.get_mut(index))
                .ok_or(WorkerError::Usage("an argument is unknown"))?;
            if slot.is_some() {
                return Err(WorkerError::Usage("an argument is given twice"));
            }
            *slot = Some(args.next().ok_or(WorkerError::Usage("an argument has no value"))?);
        }
        let [Some(manifest), Some(bundle), Some(collateral), Some(listen), measured_by, peer_pins] =
            values
        else {
            return Err(WorkerError::Usage("an argument is missing"));
        };
        let measured_by = match measured_by {
            None => MeasuredBy::Worker,
            Some(by) if by == "init" => MeasuredBy::Init,
            Some(_) => return Err(WorkerError::Usage("--measured-by is not init")),
        };
        let listen: SocketAddr = listen
            .to_str()
            .and_then(|text| text.parse().ok())
            .ok_or(WorkerError::Usage("--listen is not an ADDRESS:PORT"))?;
        if measured_by == MeasuredBy::Worker && !listen.ip().is_loopback() {
            return Err(WorkerError::Usage("--listen is not a loopback address"));
        }
        Ok(Self {
            manifest: manifest.into(),
            bundle: bundle.into(),
            collateral: collateral.into(),
            listen,
            peer_pins: peer_pins.map(PathBuf::from),
            measured_by,
        })
    }
}

const FLAGS: [&str; 6] =
    ["--manifest", "--bundle", "--collateral", "--listen", "--measured-by", "--peer-pins"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Result<Args, WorkerError> {
        Args::parse(line.split_whitespace().map(OsString::from))
    }

    const GOOD: &str = "--manifest m --bundle b --collateral c --listen 127.0.0.1:0";

    #[test]
    fn reads_four_arguments_in_any_order() {
        let a = parse(GOOD).unwrap();
        let b = parse("--listen 127.0.0.1:0 --collateral c --bundle b --manifest m").unwrap();
        assert_eq!(a, b);
        assert_eq!(a.bundle, PathBuf::from("b"));
    }

    #[test]
    fn reads_the_pins_of_clients_at_most_once() {
        assert_eq!(parse(GOOD).unwrap().peer_pins, None);
        let told = parse(&format!("{GOOD} --peer-pins p")).unwrap();
        assert_eq!(told.peer_pins, Some(PathBuf::from("p")));
        assert!(parse(&format!("{GOOD} --peer-pins p --peer-pins q")).is_err());
    }

    #[test]
    fn is_measured_by_init_only_if_told_so() {
        assert_eq!(parse(GOOD).unwrap().measured_by, MeasuredBy::Worker);
        let told = parse(&format!("{GOOD} --measured-by init")).unwrap();
        assert_eq!(told.measured_by, MeasuredBy::Init);
        for bad in
            ["--measured-by worker", "--measured-by", "--measured-by init --measured-by init"]
        {
            assert!(parse(&format!("{GOOD} {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn listens_beyond_loopback_only_under_init() {
        let guest = GOOD.replace("127.0.0.1:0", "10.0.2.15:8443");
        assert!(parse(&guest).is_err());
        assert!(parse(&format!("{guest} --measured-by init")).is_ok());
    }

    #[test]
    fn refuses_a_missing_argument() {
        assert!(parse("--manifest m --bundle b --collateral c").is_err());
    }

    #[test]
    fn refuses_an_argument_given_twice() {
        assert!(parse(&format!("{GOOD} --bundle other")).is_err());
    }

    #[test]
    fn refuses_an_unknown_argument() {
        assert!(parse(&format!("{GOOD} --debug 1")).is_err());
    }

    #[test]
    fn refuses_an_argument_without_value() {
        assert!(parse("--manifest m --bundle b --collateral c --listen").is_err());
    }

    #[test]
    fn refuses_to_listen_on_anything_but_loopback() {
        assert!(parse("--manifest m --bundle b --collateral c --listen 0.0.0.0:1").is_err());
    }
}
