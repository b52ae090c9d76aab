//! Embeddings: texts in, one vector of length 1 for each out. Requests are untrusted and bounded: texts
//! of a request, tokens of a text, tokens of a request, requests in progress. One thread computes, in
//! steps that requests share (`turns.rs`); no vector depends on the company of its text, bit for bit.
//!
//! The models are BERT's kind, as Sentence Transformers publishes them, in single or half precision.

mod bert;
mod config;
mod files;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc as jobs;
use std::thread::JoinHandle;

use chrysalis_vault::VerifiedFiles;
use chrysalis_wire::SecretBytes;
use chrysalis_wordpiece::{TextError, Tokenizer};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use self::bert::{Bert, Values};
use self::files::{Files, Loaded};
use self::turns::Turns;
use crate::error::{EngineError, ModelError};
use crate::kernels::Pool;
use crate::scheduler::Slot;

/// How embeddings are served.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// Requests in progress. One more is refused with [`EngineError::Busy`].
    pub max_requests: usize,
    /// Most tokens of all texts of a request together.
    pub request_tokens: u32,
    /// Threads that compute; as many as this process may run on if `None`.
    pub threads: Option<NonZeroUsize>,
}

/// A text to embed.
#[derive(Debug)]
pub enum EmbedInput {
    /// UTF-8. The names of control tokens in it are plain text.
    Text(SecretBytes),
    /// The ids of a text's tokens, without those that stand around it.
    Tokens(Zeroizing<Vec<u32>>),
}

/// The vector of a text, of length 1. Wiped on drop; does not print.
pub struct Vector(Values);

impl Vector {
    /// Its numbers, for as long as the borrow lasts.
    #[must_use]
    pub fn expose(&self) -> &[f32] {
        &self.0
    }
}

impl core::fmt::Debug for Vector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "<redacted vector of {}>", self.0.len())
    }
}

/// A request in progress. Dropping it stops the work within one step.
#[derive(Debug)]
pub struct Embedding {
    /// Tokens of all texts, those around each included.
    pub prompt_tokens: u32,
    /// The vectors, in the order of the texts. Closed without them, the engine is gone.
    pub vectors: oneshot::Receiver<Result<Vec<Vector>, EngineError>>,
    /// Tokens of the texts whose vectors are there by now. It is counted on until the work has stopped.
    pub computed: Arc<AtomicU32>,
}

/// What is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbedderInfo {
    /// Numbers of a vector.
    pub dimensions: usize,
    /// Most tokens of a text, those around it included.
    pub text_tokens: usize,
    /// Most tokens of a request.
    pub request_tokens: u32,
    /// Number of token ids.
    pub vocabulary: u32,
}

/// An embedding model that serves.
pub struct Embedder {
    info: EmbedderInfo,
    tokenizer: Tokenizer,
    slots: Arc<AtomicUsize>,
    limit: usize,
    /// `None` only while dropping.
    jobs: Option<jobs::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// The tokens of a text.
type Ids = Zeroizing<Vec<u32>>;

/// A request on its way to the thread.
struct Job {
    texts: VecDeque<Ids>,
    computed: Arc<AtomicU32>,
    answer: oneshot::Sender<Result<Vec<Vector>, EngineError>>,
    slot: Slot,
}

/// A request of which something is computed.
struct Open {
    vectors: Vec<Vector>,
    texts: usize,
    computed: Arc<AtomicU32>,
    answer: oneshot::Sender<Result<Vec<Vector>, EngineError>>,
    _slot: Slot,
}

impl Embedder {
    /// Loads the model in a bundle, whose files are those of a Sentence Transformers model, and starts
    /// its thread. What is left of `files` then is for their `finish`, which also says why an error came
    /// from reading them.
    ///
    /// # Errors
    /// [`EngineError::Model`] for files that are missing or that this build does not run.
    pub fn open<R: Read>(
        files: &mut VerifiedFiles<'_, R>,
        options: EmbedOptions,
    ) -> Result<Self, EngineError> {
        let pool = Pool::new(options.threads);
        let mut read = Files::default();
        while let Some(mut file) = files.next_file() {
            let (path, len) = (file.path().to_owned(), file.size());
            read.file(&path, len, &mut file, &pool)?;
        }
        Self::start(read.finish()?, pool, options)
    }

    /// As [`Embedder::open`], of files in memory by path, in the order of their paths.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn read<'a>(
        files: impl Iterator<Item = (&'a str, std::io::Cursor<&'a [u8]>)>,
        options: EmbedOptions,
    ) -> Result<Self, EngineError> {
        let pool = Pool::new(options.threads);
        let mut read = Files::default();
        for (path, mut file) in files {
            let len = file.get_ref().len() as u64;
            read.file(path, len, &mut file, &pool)?;
        }
        Self::start(read.finish()?, pool, options)
    }

    fn start(loaded: Loaded, pool: Pool, options: EmbedOptions) -> Result<Self, EngineError> {
        let Loaded { model, tokenizer, text_tokens } = loaded;
        let info = EmbedderInfo {
            dimensions: model.dimensions(),
            text_tokens,
            request_tokens: options.request_tokens,
            vocabulary: tokenizer.vocabulary(),
        };
        let (sender, receiver) = jobs::channel();
        let thread = std::thread::Builder::new()
            .name("chrysalis-embed".to_owned())
            .spawn(move || serve(&model, &pool, &receiver))
            .map_err(|_| ModelError::Thread)?;
        Ok(Self {
            info,
            tokenizer,
            slots: Arc::new(AtomicUsize::new(0)),
            limit: options.max_requests.max(1),
            jobs: Some(sender),
            thread: Some(thread),
        })
    }

    /// What is loaded.
    #[must_use]
    pub const fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    /// Checks and tokenises `inputs` and queues them. Returns at once; the work happens on the
    /// embedder's own thread.
    ///
    /// # Errors
    /// [`EngineError::Busy`], [`EngineError::InputsEmpty`], [`EngineError::TooManyInputs`],
    /// [`EngineError::InputEmpty`], [`EngineError::Input`], [`EngineError::NotUtf8`],
    /// [`EngineError::InputsTooLong`]. Later failures arrive in place of the vectors.
    pub fn embed(&self, inputs: Vec<EmbedInput>) -> Result<Embedding, EngineError> {
        let got = inputs.len();
        if got == 0 {
            return Err(EngineError::InputsEmpty);
        }
        if got > MAX_INPUTS {
            return Err(EngineError::TooManyInputs { got });
        }
        let slot = Slot::take(&self.slots, self.limit)?;
        let mut texts = VecDeque::with_capacity(got);
        let mut prompt_tokens = 0u32;
        for (index, input) in inputs.into_iter().enumerate() {
            let ids = self.ids(index, &input)?;
            let tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            prompt_tokens = prompt_tokens.saturating_add(tokens);
            if prompt_tokens > self.info.request_tokens {
                let limit = self.info.request_tokens;
                return Err(EngineError::InputsTooLong { got: prompt_tokens, limit });
            }
            texts.push_back(ids);
        }
        let (answer, vectors) = oneshot::channel();
        let queue = self.jobs.as_ref().ok_or(EngineError::Stopped)?;
        let computed = Arc::<AtomicU32>::default();
        let job = Job { texts, computed: Arc::clone(&computed), answer, slot };
        queue.send(job).map_err(|_| EngineError::Stopped)?;
        Ok(Embedding { prompt_tokens, vectors, computed })
    }

    fn ids(&self, index: usize, input: &EmbedInput) -> Result<Ids, EngineError> {
        let limit = self.info.text_tokens;
        let refused = |error: TextError| EngineError::Input { index, error };
        match input {
            EmbedInput::Text(text) if text.is_empty() => Err(EngineError::InputEmpty { index }),
            EmbedInput::Text(text) => {
                let text = core::str::from_utf8(text.expose())
                    .map_err(|_| EngineError::NotUtf8 { index })?;
                self.tokenizer.encode(text, limit).map_err(refused)
            }
            EmbedInput::Tokens(ids) if ids.is_empty() => Err(EngineError::InputEmpty { index }),
            EmbedInput::Tokens(ids) => self.tokenizer.surround(ids, limit).map_err(refused),
        }
    }
}

impl Drop for Embedder {
    /// Ends the thread. Requests in progress are dropped within one step.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Computes what comes until nobody can send any more.
fn serve(model: &Bert, pool: &Pool, jobs: &jobs::Receiver<Job>) {
    let (mut turns, mut open, mut next) = (Turns::new(), HashMap::new(), 0u64);
    loop {
        // Without work wait for it; with work take what has come meanwhile.
        let come = if turns.is_empty() { jobs.recv().map_err(Into::into) } else { jobs.try_recv() };
        let mut job = match come {
            Ok(job) => Some(job),
            Err(jobs::TryRecvError::Empty) => None,
            Err(jobs::TryRecvError::Disconnected) => return,
        };
        while let Some(Job { texts, computed, answer, slot }) = job {
            let request = Open {
                vectors: Vec::with_capacity(texts.len()),
                texts: texts.len(),
                computed,
                answer,
                _slot: slot,
            };
            open.insert(next, request);
            turns.add(next, texts);
            next = next.wrapping_add(1);
            job = jobs.try_recv().ok();
        }
        open.retain(|_, request| !request.answer.is_closed());
        turns.keep(|key| open.contains_key(&key));
        compute(model, pool, turns.step(STEP_TOKENS, |ids: &Ids| ids.len()), &mut open);
    }
}

/// Computes one step and answers the requests that are complete with it.
fn compute(model: &Bert, pool: &Pool, step: Vec<(u64, Ids)>, open: &mut HashMap<u64, Open>) {
    if step.is_empty() {
        return;
    }
    let texts: Vec<&[u32]> = step.iter().map(|(_, ids)| ids.as_slice()).collect();
    for ((key, ids), vector) in step.iter().zip(model.embed(pool, &texts)) {
        let Some(request) = open.get_mut(key) else { continue };
        let failed = match vector {
            Ok(vector) => {
                let tokens = u32::try_from(ids.len()).unwrap_or_default();
                request.computed.fetch_add(tokens, Ordering::Relaxed);
                request.vectors.push(Vector(vector));
                None
            }
            // The others of the step have nothing to do with it.
            Err(error) => Some(error),
        };
        if (failed.is_some() || request.vectors.len() == request.texts)
            && let Some(Open { vectors, answer, .. }) = open.remove(key)
        {
            // Nobody waits if the requester went away.
            drop(answer.send(failed.map_or(Ok(vectors), Err)));
        }
    }
}

/// Most texts of one request, as in the OpenAI API.
pub const MAX_INPUTS: usize = 2048;
/// Tokens that are computed together, if no text has more: enough that the weights are read once for
/// many short texts, and short enough that a new request waits little.
const STEP_TOKENS: usize = 256;
