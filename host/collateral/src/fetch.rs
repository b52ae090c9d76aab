//! Asks the four endpoints, one after the other. What passes (a busy service, a broken connection)
//! is tried again after a wait that doubles; what does not is an error at once.

use std::time::Duration;

use chrysalis_evidence::TrustRoot;
use chrysalis_wire::UnixTime;

use crate::answer::Answer;
use crate::authentic::distribution_point;
use crate::bundle::Bundle;
use crate::error::{FetchError, Problem};
use crate::http::{TlsRoots, get};
use crate::limits::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, FIRST_WAIT, MAX_ATTEMPTS};
use crate::part::{Part, Wanted};
use crate::service::{PlainHttp, Service};

/// How long the service is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// See [`CONNECT_TIMEOUT`].
    pub connect: Duration,
    /// See [`ANSWER_TIMEOUT`].
    pub answer: Duration,
    /// See [`MAX_ATTEMPTS`]; at least one is made.
    pub attempts: u32,
    /// See [`FIRST_WAIT`].
    pub first_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            answer: ANSWER_TIMEOUT,
            attempts: MAX_ATTEMPTS,
            first_wait: FIRST_WAIT,
        }
    }
}

impl Patience {
    /// The wait after attempt `made`, counted from 1: doubled each time.
    fn wait(&self, made: u32) -> Duration {
        let doublings = made.saturating_sub(1).min(16);
        self.first_wait.saturating_mul(1 << doublings)
    }
}

/// Where collateral comes from.
#[derive(Clone, Debug)]
pub struct Source {
    service: Service,
    root_crl: Option<Service>,
    tls: Option<TlsRoots>,
}

impl Source {
    /// A service, and the authorities its certificate is judged by if it is named with https.
    ///
    /// Intel's own service does not hand out the root's revocation list; it is then asked for where
    /// the certificate of `root` says it is. A cache has it.
    #[must_use]
    pub fn new(service: Service, tls: Option<TlsRoots>, root: &TrustRoot) -> Self {
        let point = distribution_point(root.der());
        let root_crl = point.and_then(|url| Service::parse(&url, PlainHttp::Anywhere).ok());
        Self { service, root_crl, tls }
    }

    /// The same source with another place for the root's revocation list.
    #[must_use]
    pub fn with_root_crl(mut self, url: Service) -> Self {
        self.root_crl = Some(url);
        self
    }

    /// Where the root's revocation list is asked for if the service has none.
    #[must_use]
    pub const fn root_crl(&self) -> Option<&Service> {
        self.root_crl.as_ref()
    }

    /// Fetches collateral for `wanted`, signed under `root` and valid at `now`.
    ///
    /// # Errors
    /// [`FetchError`], naming the part and the number of attempts.
    pub async fn fetch(
        &self,
        wanted: &Wanted,
        root: &TrustRoot,
        patience: &Patience,
        now: UnixTime,
    ) -> Result<Bundle, FetchError> {
        let ask = async |part: Part| {
            let target = self.service.target(&part.path(wanted));
            self.ask(&self.service, &target, part, patience).await
        };
        let tcb = ask(Part::TcbInfo).await?;
        let qe = ask(Part::QeIdentity).await?;
        let pck = ask(Part::PckCrl).await?;
        let root_crl = match (ask(Part::RootCrl).await, &self.root_crl) {
            (
                Err(FetchError::Part { problem: Problem::Status { got: NOT_FOUND }, .. }),
                Some(url),
            ) => self.ask(url, &url.target(""), Part::RootCrl, patience).await?,
            (answer, _) => answer?,
        };
        Bundle::assemble(wanted, &[tcb, qe, pck, root_crl], root, now)
    }

    async fn ask(
        &self,
        service: &Service,
        target: &str,
        part: Part,
        patience: &Patience,
    ) -> Result<Answer, FetchError> {
        let mut attempts = 1;
        loop {
            let problem = match get(service, target, self.tls.as_ref(), part, patience).await {
                Ok(answer) => return Ok(answer),
                Err(problem) => problem,
            };
            if attempts >= patience.attempts || !problem.is_passing() {
                return Err(FetchError::Part { part, problem, attempts });
            }
            tokio::time::sleep(patience.wait(attempts)).await;
            attempts = attempts.saturating_add(1);
        }
    }
}

const NOT_FOUND: u16 = 404;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_do_not_overflow() {
        let patience = Patience { first_wait: Duration::from_millis(500), ..Patience::default() };
        let waits: Vec<_> = (1..=4).map(|n| patience.wait(n).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000]);
        assert_eq!(patience.wait(u32::MAX), patience.wait(17));
    }

    #[test]
    fn knows_from_intels_root_where_its_revocation_list_is() {
        let service = Service::parse("http://127.0.0.1", PlainHttp::LoopbackOnly).unwrap();
        let source = Source::new(service, None, &TrustRoot::Intel);
        assert!(source.root_crl().unwrap().to_string().ends_with("/IntelSGXRootCA.der"));
    }
}
