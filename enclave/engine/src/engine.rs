//! The CPU engine: checks and tokenises requests on the caller's thread, computes on its own.

use std::io::{BufRead, Read};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc as jobs;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use chrysalis_vault::VerifiedFiles;
use chrysalis_wire::SecretBytes;
use chrysalis_wire::manifest::KvCacheType;
use minijinja::Value;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::checkpoint::Checkpoint;
use crate::constrain::{Matcher, Setting, Vocabulary};
use crate::decoder::Room;
use crate::defuse;
use crate::error::{EngineError, ModelError, TemplateError};
use crate::gguf::Gguf;
use crate::kernels::{PAGE_TOKENS, Pool};
use crate::memory;
use crate::model::Model;
use crate::request::{Control, Conversation, GenerateRequest, Generation, Input, Reasoning};
use crate::sampler::Sampler;
use crate::schedule::{Limits, MAX_DRAFT_TOKENS, MIN_STEP_TOKENS};
use crate::scheduler::{PREFILL_CHUNK_TOKENS, Scheduler, Slot};
use crate::sequence::Job;
use crate::stop::StopMatcher;
use crate::telling::Told;
use crate::template::{ChatTemplate, Sources, THINK, TOOLS_TEMPLATE};
use crate::tokenizer::Tokenizer;
use crate::tool_style::ToolStyle;
use crate::weights::Weights;
use crate::{Engine, ModelInfo};

/// How an engine serves.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Requests computed together; at least one.
    pub max_concurrent: usize,
    /// Requests that may wait behind them. One more is refused with [`EngineError::Busy`].
    pub max_waiting: usize,
    /// Most tokens of prompt and completion together; the model's own limit if that is less.
    pub context_tokens: u32,
    /// Tokens whose keys and values are held at most, over all requests; what `max_concurrent` need if
    /// none says less. With fewer, the youngest requests may have to wait for others midway. A context
    /// is cut to it.
    pub cache_tokens: Option<NonZeroUsize>,
    /// Says how many bytes of memory are available. It is asked once, when the weights are there: keys and
    /// values get no more than that, less a quarter or a gibibyte for everything else. With less than one whole
    /// context needs there is no engine ([`ModelError::CacheMemory`]): it would serve another context than
    /// was asked for. `None` bounds nothing. [`CandleEngine::held`] tells what came of it. Of a GPU what it has
    /// is known.
    pub memory: fn() -> Option<u64>,
    /// How their keys and values are kept. A GPU keeps `f16` only.
    pub kv_cache_type: KvCacheType,
    /// Whether tokens that may come next are guessed from what the request itself says, and computed with
    /// the last one while there are few requests. Answers are the same; those that repeat themselves come
    /// sooner, which an observer of the stream can see. Guessing stops where it does not pay.
    pub drafts: bool,
    /// The GPU that computes; the processor if `None`. The model is read into the memory of the processor
    /// first.
    #[cfg(feature = "cuda")]
    pub device: Option<chrysalis_cuda::Device>,
    /// Threads that compute; as many as this process may run on if `None`.
    pub threads: Option<NonZeroUsize>,
    /// Draws the seed of a request that brings none.
    pub entropy: fn() -> u64,
    /// The time that deadlines of requests are compared with.
    pub clock: fn() -> Instant,
    /// Called on the engine's thread when what computes is gone for good, after all requests there are were
    /// told so ([`EngineError::Lost`]) and what they had was wiped: their channels are closed, and what is in
    /// these can still be read. If it returns, every later request is refused as
    /// [`EngineError::Stopped`].
    pub lost: Lost,
}

/// What is called when what computes is gone for good; nothing by default.
#[derive(Clone, Default)]
pub struct Lost(Option<Arc<Listener>>);

type Listener = dyn Fn(&EngineError) + Send + Sync;

impl Lost {
    /// Calls `told`. It must not keep the engine: whose last owner it were would wait for itself.
    pub fn new(told: impl Fn(&EngineError) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    pub(crate) fn tell(&self, error: &EngineError) {
        if let Some(told) = &self.0 {
            told(error);
        }
    }
}

impl core::fmt::Debug for Lost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(if self.0.is_some() { "Lost(told)" } else { "Lost(-)" })
    }
}

impl EngineOptions {
    /// Four requests together, sixteen waiting, the model's own context and room for it, a thread for
    /// each processor; keys and values in `f16`, drafts where they pay.
    #[must_use]
    pub const fn new(entropy: fn() -> u64) -> Self {
        Self {
            max_concurrent: 4,
            max_waiting: 16,
            context_tokens: u32::MAX,
            cache_tokens: None,
            memory: memory::available,
            kv_cache_type: KvCacheType::F16,
            drafts: true,
            #[cfg(feature = "cuda")]
            device: None,
            threads: None,
            entropy,
            clock: Instant::now,
            lost: Lost(None),
        }
    }
}

/// A model read and computed by our own code, on the CPU or, in builds for it, on a GPU. Candle gives the types
/// of the formats and the values of small tensors, and the tests an oracle.
pub struct CandleEngine {
    info: ModelInfo,
    held: Held,
    text: TextSide,
    /// Made when a request first needs it.
    vocabulary: OnceLock<Arc<Vocabulary>>,
    slots: Arc<AtomicUsize>,
    limit: usize,
    entropy: fn() -> u64,
    /// `None` only while dropping.
    jobs: Option<jobs::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What the memory of the machine holds of the requests that run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whole contexts; with fewer than run together, the youngest may have to wait for others midway.
    pub contexts: usize,
    /// Whether it was known how much memory there is. If not, there may be less than was taken for there.
    pub known: bool,
}

/// Everything between text and token ids.
pub(crate) struct TextSide {
    pub(crate) tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    /// Whether the template knows tags of reasoning.
    reasons: bool,
    pub(crate) context: u32,
}

impl CandleEngine {
    /// As [`CandleEngine::read`], of a file in memory. The weights are copied.
    ///
    /// # Errors
    /// As [`CandleEngine::read`].
    pub fn load(mut gguf: &[u8], options: EngineOptions) -> Result<Self, EngineError> {
        let len = gguf.len() as u64;
        Self::read(&mut gguf, len, options)
    }

    /// Loads the model in a GGUF file of `len` bytes that `source` is at the start of, and starts the
    /// engine thread. The file is read once, front to back; its weights are repacked as they come, into
    /// memory that takes about as many bytes as the file. `source` gives verified bytes, or an error.
    ///
    /// # Errors
    /// [`EngineError::Model`] or [`EngineError::Template`] for a file this build does not run.
    pub fn read(
        source: &mut impl BufRead,
        len: u64,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        Self::start(load(source, len, options.threads)?, &options)
    }

    /// Loads the model in a bundle: its GGUF file, or else a checkpoint, whose `config.json`, shards of
    /// safetensors and tokenizer's files are at the top of it. What is left of `files` then is for their
    /// `finish`, which also says why an error came from reading them.
    ///
    /// # Errors
    /// As [`CandleEngine::read`].
    pub fn open<R: Read>(
        files: &mut VerifiedFiles<'_, R>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let pool = Pool::new(options.threads);
        let mut checkpoint = Checkpoint::default();
        while let Some(mut file) = files.next_file() {
            let (path, len) = (file.path().to_owned(), file.size());
            if path.ends_with(".gguf") {
                return Self::read(&mut file, len, options);
            }
            checkpoint.file(&path, len, &mut file, &pool)?;
        }
        let (gguf, weights) = checkpoint.finish()?;
        Self::start(assemble(gguf, pool, |_, _| Ok(weights))?, &options)
    }

    fn start(loaded: (Model, TextSide), options: &EngineOptions) -> Result<Self, EngineError> {
        let (model, mut text) = loaded;
        #[cfg(feature = "cuda")]
        let model = match &options.device {
            Some(device) => model.move_to(device)?,
            None => model,
        };
        let mut info = model.info().clone();
        info.context_tokens = info.context_tokens.min(options.context_tokens);
        let mut limits = limits(options, info.context_tokens, model.decoder().window());
        let tokens = limits.pages.saturating_mul(PAGE_TOKENS);
        info.context_tokens = info.context_tokens.min(u32::try_from(tokens).unwrap_or(u32::MAX));
        let whole = pages_of(info.context_tokens);
        let mut known = true;
        if let Some(page) = model.decoder().growing(options.kv_cache_type) {
            let available = (options.memory)();
            known = available.is_some();
            if let Some(available) = available {
                limits.pages = memory::affordable(available, page, limits.pages);
                if limits.pages < whole {
                    let needed = page.saturating_mul(u64::try_from(whole).unwrap_or(u64::MAX));
                    return Err(ModelError::CacheMemory { available, needed }.into());
                }
            }
        }
        let contexts = limits.pages.checked_div(whole).unwrap_or(0);
        text.context = info.context_tokens;
        let room = room(&limits, info.context_tokens);
        let store = model.decoder().store(options.kv_cache_type, &room)?;
        let (sender, receiver) = jobs::channel();
        let tokenizer = Arc::clone(&text.tokenizer);
        let (clock, lost) = (options.clock, options.lost.clone());
        let scheduler = Scheduler { model, store, tokenizer, jobs: receiver, limits, clock, lost };
        let thread = std::thread::Builder::new()
            .name("chrysalis-engine".to_owned())
            .spawn(move || scheduler.run())
            .map_err(|_| ModelError::Thread)?;
        Ok(Self {
            info,
            held: Held { contexts, known },
            text,
            vocabulary: OnceLock::new(),
            slots: Arc::new(AtomicUsize::new(0)),
            limit: limits.running.saturating_add(limits.waiting),
            entropy: options.entropy,
            jobs: Some(sender),
            thread: Some(thread),
        })
    }

    /// What the memory of the machine holds.
    #[must_use]
    pub const fn held(&self) -> Held {
        self.held
    }

    fn vocabulary(&self) -> Arc<Vocabulary> {
        let tokenizer = &self.text.tokenizer;
        let text_of = |id| tokenizer.bytes(id);
        let make = || Arc::new(Vocabulary::new(tokenizer.len(), text_of, tokenizer.ends()));
        Arc::clone(self.vocabulary.get_or_init(make))
    }
}

/// What the scheduler may do for requests of up to `context` tokens.
fn limits(options: &EngineOptions, context: u32, window: Option<usize>) -> Limits {
    let running = options.max_concurrent.max(1);
    #[cfg(feature = "cuda")]
    let chunk = if options.device.is_some() { GPU_CHUNK_TOKENS } else { PREFILL_CHUNK_TOKENS };
    #[cfg(not(feature = "cuda"))]
    let chunk = PREFILL_CHUNK_TOKENS;
    let whole = pages_of(context).saturating_mul(running);
    let held = options.cache_tokens.map_or(usize::MAX, |n| n.get().div_ceil(PAGE_TOKENS));
    Limits {
        running,
        waiting: options.max_waiting,
        // Of a step that many requests share, half is left for prompts.
        step_tokens: chunk.max(running.saturating_mul(2)).min(MAX_STEP_TOKENS.max(chunk)),
        pages: whole.min(held),
        draft_rows: if options.drafts { MAX_DRAFT_TOKENS.saturating_add(1) } else { 0 },
        window,
    }
}

/// Pages of a whole context.
fn pages_of(context: u32) -> usize {
    usize::try_from(context).unwrap_or(usize::MAX).div_ceil(PAGE_TOKENS)
}

/// What the largest step takes, of requests of up to `context` tokens.
fn room(limits: &Limits, context: u32) -> Room {
    let tokens = limits.step_tokens.max(MIN_STEP_TOKENS);
    Room {
        pages: limits.pages,
        tokens,
        wanted: limits.running.max(limits.draft_rows).min(tokens),
        sequences: limits.running.min(tokens),
        context: usize::try_from(context).unwrap_or(usize::MAX),
    }
}

/// Both halves of a model file.
pub(crate) fn load(
    source: &mut impl BufRead,
    len: u64,
    threads: Option<NonZeroUsize>,
) -> Result<(Model, TextSide), EngineError> {
    let gguf = Gguf::read(source, len)?;
    let weights = |gguf: &Gguf, pool: &Pool| Weights::read(source, gguf.len, gguf.tensors(), pool);
    assemble(gguf, Pool::new(threads), weights)
}

/// Both halves of the model that `gguf` describes.
pub(crate) fn assemble(
    mut gguf: Gguf,
    pool: Pool,
    weights: impl FnOnce(&Gguf, &Pool) -> Result<Weights, ModelError>,
) -> Result<(Model, TextSide), EngineError> {
    // The tables of the tokenizer are one thread's work, done while this one reads the weights.
    let text = gguf.take_text();
    let (text, model) = std::thread::scope(|scope| {
        let name = "chrysalis-tokenizer".to_owned();
        let text = std::thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, move || TextSide::read(&text))
            .map_err(|_| ModelError::Thread)?;
        let model = Model::load(&gguf, pool, |pool| weights(&gguf, pool));
        let text = text.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, EngineError>((text, model))
    })?;
    let (mut text, model) = (text?, model?);
    if usize::try_from(model.info().vocab).unwrap_or(usize::MAX) < text.tokenizer.len() {
        let what = "it has more tokens than the embedding has rows";
        return Err(ModelError::TokenizerInvalid { what }.into());
    }
    text.context = model.info().context_tokens;
    Ok((model, text))
}

impl Engine for CandleEngine {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tool_style(&self) -> ToolStyle {
        self.text.style()
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        request.check(self.info.vocab)?;
        let places = u32::try_from(self.limit).unwrap_or(u32::MAX);
        if request.choices > places {
            return Err(EngineError::Choices { got: request.choices, limit: places });
        }
        Slot::find(&self.slots, self.limit)?;
        // What takes a while and may be refused comes first: meanwhile others may have the places.
        let prompt = self.text.prompt(&request.input)?;
        let reasoning = self.text.reasoning(&request.input, &prompt);
        let spelled = self.text.spelled(&request.input);
        let setting = Setting { reasoning, spelled: spelled.clone() };
        let matcher = request.constraint.as_ref();
        let mut matcher =
            matcher.map(|c| Matcher::new(c, self.vocabulary(), setting)).transpose()?;
        matcher.iter_mut().for_each(|matcher| matcher.divide(request.choices));
        let slots: Vec<Slot> = (0..request.choices)
            .map(|_| Slot::take(&self.slots, self.limit))
            .collect::<Result<_, _>>()?;
        let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let left = self.info.context_tokens.saturating_sub(prompt_tokens);
        let max_tokens = request.max_tokens.min(left);
        let seed = request.sampling.seed.unwrap_or_else(self.entropy);
        let capacity = Job::event_capacity(max_tokens).saturating_mul(slots.len());
        let (events, receiver) = mpsc::channel(capacity);
        let control = Control::new(prompt_tokens);
        let mut jobs = Vec::with_capacity(slots.len());
        for (choice, slot) in (0..).zip(slots) {
            let seed = Sampler::seed_of(seed, choice);
            jobs.push(Job {
                prompt: Zeroizing::default(),
                choice,
                others: Vec::new(),
                scheduling: request.scheduling,
                sampler: Sampler::new(&request.sampling, request.logit_bias.clone(), seed),
                matcher: matcher.clone(),
                stops: StopMatcher::new(stops(&request.stop)?),
                spelled: spelled.clone(),
                logprobs: request.logprobs,
                max_tokens,
                events: events.clone(),
                control: control.clone(),
                slot: Some(slot),
            });
        }
        let mut jobs = jobs.into_iter();
        let mut first = jobs.next().ok_or(EngineError::Choices { got: 0, limit: places })?;
        (first.prompt, first.others) = (prompt, jobs.collect());
        let queue = self.jobs.as_ref().ok_or(EngineError::Stopped)?;
        queue.send(first).map_err(|_| EngineError::Stopped)?;
        Ok(Generation { prompt_tokens, reasoning, events: receiver, control })
    }
}

impl Drop for CandleEngine {
    /// Ends the thread. Requests in progress get [`EngineError::Stopped`] within one step.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl TextSide {
    /// What `gguf` says of text; the context is still to be set.
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, EngineError> {
        let tokenizer = Tokenizer::read(gguf)?;
        let tools = gguf.string_opt(&format!("tokenizer.chat_template.{TOOLS_TEMPLATE}"))?;
        let default = gguf.string_opt("tokenizer.chat_template")?;
        let template = default
            .map(|default| {
                let sources = Sources { default, tools };
                ChatTemplate::compile(sources, tokenizer.bos_text(), tokenizer.eos_text())
            })
            .transpose()?;
        let reasons = template.as_ref().is_some_and(ChatTemplate::reasons);
        Ok(Self { tokenizer: Arc::new(tokenizer), template, reasons, context: 0 })
    }

    /// Token ids of a checked input, at least one, leaving room for at least one more.
    pub(crate) fn prompt(&self, input: &Input) -> Result<Zeroizing<Vec<u32>>, EngineError> {
        let ids = match input {
            Input::Text(text) => {
                let text = utf8(text.expose(), 0)?;
                self.refuse_hopeless(text.len())?;
                self.tokenizer.encode_text(text)?
            }
            Input::Chat(conversation) => {
                let sizes = conversation.messages.iter().map(|message| message.content.len());
                self.refuse_hopeless(sizes.fold(0, usize::saturating_add))?;
                let rendered = self.render(conversation)?;
                self.refuse_hopeless(defuse::plain_len(&rendered))?;
                self.tokenizer.encode_rendered(&rendered)?
            }
        };
        if ids.is_empty() {
            return Err(EngineError::PromptEmpty);
        }
        let got = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        if got >= self.context {
            return Err(EngineError::PromptTooLong { got, limit: self.context });
        }
        Ok(ids)
    }

    /// Whether the answer to a prompt may begin with reasoning.
    fn reasoning(&self, input: &Input, prompt: &[u32]) -> Reasoning {
        if !self.reasons || matches!(input, Input::Text(_)) {
            return Reasoning::None;
        }
        // The tag is a token in some vocabularies and several in others.
        let last = prompt.len().saturating_sub(THINK.len().saturating_add(2));
        let last = prompt.get(last..).unwrap_or_default();
        let spelled = last.iter().flat_map(|id| self.tokenizer.spelling(*id).0).copied();
        let spelled = Zeroizing::new(spelled.collect::<Vec<u8>>());
        if spelled.trim_ascii_end().ends_with(THINK.as_bytes()) {
            Reasoning::Begun
        } else {
            Reasoning::Possible
        }
    }

    /// How the model is told about tools.
    fn style(&self) -> ToolStyle {
        self.template.as_ref().map_or(ToolStyle::Told, ChatTemplate::style)
    }

    /// The control tokens of calls, which an answer with tools tells as text.
    fn spelled(&self, input: &Input) -> Vec<(u32, &'static str)> {
        let tools = matches!(input, Input::Chat(conversation) if !conversation.tools.is_empty());
        let tokens = if tools { self.style().tokens() } else { &[] };
        tokens.iter().filter_map(|token| Some((self.tokenizer.control(token)?, *token))).collect()
    }

    /// The rendered conversation, its content defused.
    pub(crate) fn render(
        &self,
        conversation: &Conversation,
    ) -> Result<Zeroizing<String>, EngineError> {
        let template = self.template.as_ref().ok_or(TemplateError::Missing)?;
        template.check(conversation)?;
        let defuse = |text: &str| Value::from(self.tokenizer.defuse(text).as_str());
        let rendered = template.render_told(&Told::new(conversation, self.style(), &defuse)?)?;
        let prefix = self.style().call_prefix();
        if !conversation.must_call || prefix.is_empty() {
            return Ok(rendered);
        }
        let len = rendered.len().saturating_add(prefix.len());
        let mut with = Zeroizing::new(String::with_capacity(len));
        with.push_str(&rendered);
        with.push_str(prefix);
        Ok(with)
    }

    /// Refuses before tokenising what cannot fit even if every token were the longest.
    fn refuse_hopeless(&self, bytes: usize) -> Result<(), EngineError> {
        let least = bytes.checked_div(self.tokenizer.longest()).unwrap_or(0);
        let got = u32::try_from(least).unwrap_or(u32::MAX);
        if got >= self.context {
            return Err(EngineError::PromptTooLong { got, limit: self.context });
        }
        Ok(())
    }
}

/// Copies of the stop strings, which were checked.
fn stops(stops: &[SecretBytes]) -> Result<Vec<Zeroizing<String>>, EngineError> {
    let text = |(index, stop): (usize, &SecretBytes)| {
        core::str::from_utf8(stop.expose())
            .map(|text| Zeroizing::new(text.to_owned()))
            .map_err(|_| EngineError::StopNotUtf8 { index })
    };
    stops.iter().enumerate().map(text).collect()
}

fn utf8(bytes: &[u8], index: usize) -> Result<&str, EngineError> {
    core::str::from_utf8(bytes).map_err(|_| EngineError::NotUtf8 { index })
}

/// Most tokens of a step, however many requests there are: more are no faster, and each may need
/// logits of the whole vocabulary.
const MAX_STEP_TOKENS: usize = 256;
/// As [`PREFILL_CHUNK_TOKENS`], of a GPU: it computes as many in the time that fewer take to be told to it.
#[cfg(feature = "cuda")]
const GPU_CHUNK_TOKENS: usize = 512;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::testing::TinyModel;

    #[test]
    fn a_step_holds_no_more_tokens_than_its_limit_however_many_requests_there_are() {
        let of = |max_concurrent| {
            limits(&EngineOptions { max_concurrent, ..EngineOptions::new(|| 0) }, 100, None)
        };
        assert_eq!((of(0).running, of(1).step_tokens), (1, PREFILL_CHUNK_TOKENS));
        assert_eq!(of(MAX_STEP_TOKENS / 2).step_tokens, MAX_STEP_TOKENS);
        assert_eq!(of(MAX_STEP_TOKENS / 2 + 1).step_tokens, MAX_STEP_TOKENS);
        assert_eq!(of(3).pages, 3 * 4, "a hundred tokens are four pages");
    }

    #[test]
    fn a_context_is_whole_or_there_is_no_engine_and_how_many_there_is_memory_for_is_told() {
        static AVAILABLE: AtomicU64 = AtomicU64::new(0);
        let file = TinyModel::random(7).build();
        let (model, _) = load(&mut &file[..], file.len() as u64, None).unwrap();
        let page = model.decoder().growing(KvCacheType::F16).unwrap();
        let engine = |bytes| {
            AVAILABLE.store(bytes, Ordering::Relaxed);
            let memory = || Some(AVAILABLE.load(Ordering::Relaxed));
            CandleEngine::load(&file, EngineOptions { memory, ..EngineOptions::new(|| 0) })
        };
        // A quarter is for other things; a model of 512 tokens takes sixteen pages.
        let pages = |count: u64| (count * page).div_ceil(3) * 4;
        for (count, contexts) in [(16, 1), (24, 1), (32, 2), (63, 3), (64, 4), (1000, 4)] {
            let engine = engine(pages(count)).unwrap();
            assert_eq!(engine.info().context_tokens, 512, "{count}");
            assert_eq!(engine.held(), Held { contexts, known: true }, "{count}");
        }
        for available in [pages(15), pages(8), page, 0] {
            let refused = engine(available).err();
            let none = ModelError::CacheMemory { available, needed: 16 * page };
            assert_eq!(refused, Some(EngineError::Model(none)));
        }
        let unknown = EngineOptions { memory: || None, ..EngineOptions::new(|| 0) };
        let held = CandleEngine::load(&file, unknown).unwrap().held();
        assert_eq!(held, Held { contexts: 4, known: false });
    }
}
