//! Seals one request to a worker whose evidence was accepted. The plaintext is the caller's; this
//! module keeps only commitments to it.

use std::sync::Arc;

use chrysalis_api::{ApiError, EmbeddingRequest, Endpoint, InferenceRequest, Limits, served_at};
use chrysalis_channel::{
    Header, OsRandom, PathId, ResponseOpener, seal_request, sealed_request_bytes,
};
use chrysalis_receipt::request_commit;
use chrysalis_wire::manifest::ModelTask;
use chrysalis_wire::{Digest, InnerRequest, KeyRole, RequestId, UnixMillis, WorkerManifest};
use sha2::{Digest as _, Sha256};

use crate::error::ClientError;
use crate::evidence::Appraised;
use crate::random::fresh;

/// A request ready to be sent.
pub(crate) struct SealedCall {
    /// The bytes to post.
    pub(crate) sealed: Vec<u8>,
    /// The most completion tokens it pays for.
    pub(crate) max_tokens: u32,
    /// What the answer is checked against.
    pub(crate) pending: Pending,
}

/// What an answer is checked against.
pub(crate) struct Pending {
    pub(crate) appraised: Arc<Appraised>,
    pub(crate) request_id: RequestId,
    pub(crate) salt: [u8; 32],
    pub(crate) request_commit: Digest,
    pub(crate) sampling_hash: Digest,
    pub(crate) streamed: bool,
    pub(crate) sent: UnixMillis,
    pub(crate) opener: ResponseOpener,
}

impl SealedCall {
    /// Seals `json` to the newest attested key, naming the evidence that was accepted. The
    /// request is parsed as the worker will parse it: what it would refuse is not sealed.
    ///
    /// # Errors
    /// [`ClientError::Api`] for a request this API does not take,
    /// [`ClientError::NoSealKey`], [`ClientError::RequestTooLarge`], [`ClientError::Channel`].
    pub(crate) fn seal(
        appraised: &Arc<Appraised>,
        path: PathId,
        json: &[u8],
        now: UnixMillis,
    ) -> Result<Self, ClientError> {
        let verified = &appraised.verified;
        let parsed = parse(path, json, verified.manifest())?;
        let limit_tokens = verified.manifest().limits.completion_tokens;
        let key = verified
            .keyset()
            .seal_key(KeyRole::Worker, now.seconds())
            .ok_or(ClientError::NoSealKey { role: "request" })?;
        let salt: [u8; 32] = fresh()?;
        let inner = InnerRequest { salt, evidence: vec![verified.evidence_digest()], json };
        let body = inner.encode();
        let got = sealed_request_bytes(key.suite, 1, body.len());
        let limit = verified.manifest().limits.request_bytes;
        if got > limit as usize {
            return Err(ClientError::RequestTooLarge { limit, got });
        }
        let header = Header {
            suite: key.suite,
            role: key.role,
            network: verified.keyset().network,
            request_id: RequestId(fresh()?),
            time: now,
            path,
            model_root: verified.model_root(),
            policy_digest: verified.manifest_digest(),
            max_tokens: parsed.most_tokens(limit_tokens),
        };
        let (sealed, opener) = seal_request(&header, &[key], body.expose(), &mut OsRandom)
            .map_err(ClientError::Channel)?;
        let pending = Pending {
            appraised: Arc::clone(appraised),
            request_id: header.request_id,
            salt,
            request_commit: request_commit(&salt, json),
            sampling_hash: parsed.sampling_hash(),
            streamed: parsed.is_streamed(),
            sent: now,
            opener,
        };
        Ok(Self { sealed, max_tokens: header.max_tokens, pending })
    }
}

/// Hash of the sampling parameters in `json`; `None` if this worker takes no such request.
pub(crate) fn sampling_hash(
    path: PathId,
    json: &[u8],
    manifest: &WorkerManifest,
) -> Option<Digest> {
    let parsed = parse(path, json, manifest).ok()?;
    Some(parsed.sampling_hash())
}

/// A request of one of the two kinds there are.
enum Parsed {
    Text(Box<InferenceRequest>),
    Embedding(EmbeddingRequest),
}

impl Parsed {
    fn model(&self) -> &str {
        match self {
            Self::Text(request) => &request.model,
            Self::Embedding(request) => &request.model,
        }
    }

    /// Most completion tokens it may take, where one may take `limit`.
    fn most_tokens(&self, limit: u32) -> u32 {
        match self {
            Self::Text(request) => request.most_tokens(limit),
            Self::Embedding(_) => 0,
        }
    }

    const fn is_streamed(&self) -> bool {
        match self {
            Self::Text(request) => request.stream,
            Self::Embedding(_) => false,
        }
    }

    fn sampling_hash(&self) -> Digest {
        match self {
            Self::Text(request) => sha256(request.canonical_sampling_bytes().expose()),
            Self::Embedding(request) => sha256(&request.canonical_bytes()),
        }
    }
}

/// Reads a request within the limits of the measured manifest.
///
/// # Errors
/// [`ClientError::Api`], also for another model than the one served, and for one that is not served at
/// this endpoint.
fn parse(path: PathId, json: &[u8], manifest: &WorkerManifest) -> Result<Parsed, ClientError> {
    let limits = Limits::from_manifest(&manifest.limits);
    let text = |endpoint| {
        let parsed = InferenceRequest::parse(endpoint, json, &limits)?;
        Ok(Parsed::Text(Box::new(parsed)))
    };
    let (task, parsed) = match path {
        PathId::ChatCompletions => (ModelTask::Text, text(Endpoint::Chat)),
        PathId::Completions => (ModelTask::Text, text(Endpoint::Completions)),
        PathId::Responses => (ModelTask::Text, text(Endpoint::Responses)),
        PathId::Embeddings => {
            let parsed = EmbeddingRequest::parse(json, &limits).map(Parsed::Embedding);
            (ModelTask::Embedding, parsed)
        }
    };
    let parsed = parsed.map_err(ClientError::Api)?;
    let served = &manifest.model;
    if parsed.model() != served.name {
        return Err(ClientError::Api(ApiError::model_not_found(&served.name)));
    }
    if task != served.task {
        let endpoints = served_at(served.task);
        return Err(ClientError::Api(ApiError::wrong_endpoint(&served.name, endpoints)));
    }
    Ok(parsed)
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
