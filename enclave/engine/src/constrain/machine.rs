//! Runs a grammar over bytes. A state is the set of places the program may be at, each with the rules it
//! will return to; states are numbered as they are met, and where a byte leads from one is computed
//! once. The grammar comes from a request: places, states and the work of one mask are bounded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::constrain::ConstraintError;
use crate::constrain::program::{MAX_DEPTH, Op, Program};

/// A state, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StateId(u32);

impl StateId {
    /// From here nothing goes on.
    pub(crate) const DEAD: Self = Self(0);
    const UNKNOWN: Self = Self(u32::MAX);
}

/// A place of the program, and what it returns to.
type Item = (u32, StackId);
type StackId = u32;

/// The stack of the first rule.
const BOTTOM: StackId = 0;

#[derive(Clone)]
struct State {
    /// Places that take a byte, in order.
    items: Vec<Item>,
    /// Whether the text may end here.
    accepts: bool,
    /// Where each byte leads, once it was asked.
    next: Option<Box<[StateId; 256]>>,
}

#[derive(Clone, Copy)]
struct Frame {
    back: u32,
    below: StackId,
    depth: usize,
}

/// A running grammar.
#[derive(Clone)]
pub(crate) struct Machine {
    program: Arc<Program>,
    states: Vec<State>,
    index: HashMap<(Vec<Item>, bool), StateId>,
    /// The states behind places that were closed before: bytes of one range lead to the same.
    closed: HashMap<Vec<Item>, StateId>,
    frames: Vec<Frame>,
    frame_index: HashMap<(u32, StackId), StackId>,
    /// Places of all states.
    held: usize,
    /// Work that may be done before the next [`Machine::refuel`].
    fuel: usize,
    /// Work that was done since [`Machine::take_burned`].
    burned: usize,
}

impl Machine {
    /// A machine before the first byte.
    pub(crate) fn new(program: Arc<Program>) -> Result<(Self, StateId), ConstraintError> {
        let start = program.rules.first().ok_or(ConstraintError::Unmeetable)?.start;
        let mut machine = Self {
            program,
            states: Vec::new(),
            index: HashMap::new(),
            closed: HashMap::new(),
            frames: Vec::new(),
            frame_index: HashMap::new(),
            held: 0,
            fuel: MASK_WORK,
            burned: 0,
        };
        machine.clear();
        let state = machine.close(vec![(start, BOTTOM)])?;
        Ok((machine, state))
    }

    /// Whether the text may end at `state`.
    pub(crate) fn accepts(&self, state: StateId) -> bool {
        self.state(state).is_some_and(|state| state.accepts)
    }

    /// Whether the text must end at `state`.
    pub(crate) fn is_over(&self, state: StateId) -> bool {
        self.state(state).is_none_or(|state| state.items.is_empty())
    }

    /// Where `byte` leads.
    pub(crate) fn step(&mut self, state: StateId, byte: u8) -> Result<StateId, ConstraintError> {
        let known = self.state(state).and_then(|state| state.next.as_ref());
        let known = known.and_then(|next| next.get(usize::from(byte))).copied();
        if let Some(next) = known.filter(|next| *next != StateId::UNKNOWN) {
            return Ok(next);
        }
        let places = self.state(state).map_or(0, |state| state.items.len());
        self.burn((places / PLACES_PER_WORK).saturating_add(1))?;
        let items = self.state(state).map_or(&[][..], |state| &state.items);
        let takes = |(place, _): &&Item| matches!(self.op(*place), Some(Op::Byte(low, high)) if (low..=high).contains(&byte));
        let after = items.iter().filter(takes).map(|(at, stack)| (at.saturating_add(1), *stack));
        let after: Vec<Item> = after.collect();
        let next = match self.closed.get(&after) {
            _ if after.is_empty() => StateId::DEAD,
            Some(known) => *known,
            None => {
                let next = self.close(after.clone())?;
                self.held = self.held.saturating_add(after.len());
                self.closed.insert(after, next);
                next
            }
        };
        if let Some(state) = self.states.get_mut(index(state.0)) {
            let table = state.next.get_or_insert_with(|| Box::new([StateId::UNKNOWN; 256]));
            if let Some(place) = table.get_mut(usize::from(byte)) {
                *place = next;
            }
        }
        Ok(next)
    }

    /// Allows the work of one more token. What was not needed is left for later ones, up to that of one mask
    /// that takes much.
    pub(crate) fn refuel(&mut self) {
        self.fuel = self.fuel.saturating_add(TOKEN_WORK).min(MASK_WORK);
    }

    /// Allows all the work of one mask, for an answer that begins; what was left before.
    pub(crate) const fn fill(&mut self) -> usize {
        std::mem::replace(&mut self.fuel, MASK_WORK)
    }

    /// Allows no more than `work`.
    pub(crate) fn limit(&mut self, work: usize) {
        self.fuel = self.fuel.min(work);
    }

    /// The work that was done since the last call, in units of what a token allows. Parts of one are kept.
    pub(crate) const fn take_burned(&mut self) -> usize {
        let burned = self.burned / TOKEN_WORK;
        self.burned %= TOKEN_WORK;
        burned
    }

    fn burn(&mut self, work: usize) -> Result<(), ConstraintError> {
        self.burned = self.burned.saturating_add(work);
        self.fuel = self.fuel.checked_sub(work).ok_or(ConstraintError::TooComplex)?;
        Ok(())
    }

    /// Whether more is known than is kept from one token to the next.
    pub(crate) fn is_large(&self) -> bool {
        self.states.len() > KEPT_STATES
            || self.frames.len() > KEPT_STATES
            || self.held > KEPT_PLACES
    }

    /// Forgets what is known: it can be computed again. Then all numbers are new, and this is that of
    /// `state`.
    pub(crate) fn forget(&mut self, state: StateId) -> Option<StateId> {
        let current = self.state(state).cloned()?;
        let frames = std::mem::take(&mut self.frames);
        self.clear();
        let mut items = Vec::with_capacity(current.items.len());
        for (place, stack) in current.items {
            let mut path = Vec::new();
            let mut at = stack;
            while let Some(frame) = frames.get(index(at)).filter(|_| at != BOTTOM) {
                path.push(frame.back);
                at = frame.below;
            }
            let stack = path.iter().rev().fold(BOTTOM, |below, back| self.frame(*back, below));
            items.push((place, stack));
        }
        Some(self.number(items, current.accepts))
    }

    /// Whether it knows one state, and the one from which nothing goes on.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn is_forgetful(&self) -> bool {
        self.states.len() <= 2
    }

    /// Of the places of `state` how many rules the nearest to an end is inside.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn depth(&self, state: StateId) -> usize {
        let depth = |stack: StackId| self.frames.get(index(stack)).map_or(0, |frame| frame.depth);
        let items = self.state(state).map_or(&[][..], |state| &state.items);
        items.iter().map(|(_, stack)| depth(*stack)).min().unwrap_or(0)
    }

    fn clear(&mut self) {
        let dead = State { items: Vec::new(), accepts: false, next: None };
        self.states = vec![dead];
        self.frames = vec![Frame { back: 0, below: BOTTOM, depth: 0 }];
        // Their memory too: what is cleared keeps its size.
        self.index = HashMap::new();
        self.closed = HashMap::new();
        self.frame_index = HashMap::new();
        self.held = 0;
    }

    fn state(&self, state: StateId) -> Option<&State> {
        self.states.get(index(state.0))
    }

    fn op(&self, place: u32) -> Option<Op> {
        self.program.ops.get(index(place)).copied()
    }

    /// The state of every place that takes a byte and can be reached from `open` without one.
    fn close(&mut self, mut open: Vec<Item>) -> Result<StateId, ConstraintError> {
        let (mut seen, mut items, mut accepts) = (HashSet::new(), Vec::new(), false);
        while let Some((place, stack)) = open.pop() {
            if !seen.insert((place, stack)) {
                continue;
            }
            self.burn(1)?;
            if seen.len() > MAX_PLACES {
                return Err(ConstraintError::TooComplex);
            }
            let next = place.saturating_add(1);
            match self.op(place) {
                Some(Op::Byte(..)) => items.push((place, stack)),
                Some(Op::Split(other)) => open.extend([(next, stack), (other, stack)]),
                Some(Op::Jump(target)) => open.push((target, stack)),
                Some(Op::Call(rule)) => {
                    let stack = self.frame(next, stack);
                    open.extend(self.begin(rule, stack));
                }
                // A rule that ends with another needs no way back.
                Some(Op::Become(rule)) => open.extend(self.begin(rule, stack)),
                Some(Op::Return) if stack == BOTTOM => accepts = true,
                Some(Op::Return) => {
                    if let Some(frame) = self.frames.get(index(stack)) {
                        open.push((frame.back, frame.below));
                    }
                }
                None => {}
            }
        }
        if items.is_empty() && !accepts {
            return Ok(StateId::DEAD);
        }
        items.sort_unstable();
        self.burn(STATE_WORK)?;
        Ok(self.number(items, accepts))
    }

    /// The first place of a rule; none if it would go too deep to come back.
    fn begin(&self, rule: u32, stack: StackId) -> Option<Item> {
        let rule = self.program.rules.get(index(rule))?;
        let depth = self.frames.get(index(stack)).map_or(0, |frame| frame.depth);
        (depth.saturating_add(rule.height) < MAX_DEPTH).then_some((rule.start, stack))
    }

    fn number(&mut self, items: Vec<Item>, accepts: bool) -> StateId {
        let new = StateId(u32::try_from(self.states.len()).unwrap_or(0));
        let known = *self.index.entry((items.clone(), accepts)).or_insert(new);
        if known == new {
            self.held = self.held.saturating_add(items.len());
            self.states.push(State { items, accepts, next: None });
        }
        known
    }

    fn frame(&mut self, back: u32, below: StackId) -> StackId {
        let new = StackId::try_from(self.frames.len()).unwrap_or(BOTTOM);
        let known = *self.frame_index.entry((back, below)).or_insert(new);
        if known == new {
            let depth = self.frames.get(index(below)).map_or(0, |frame| frame.depth);
            self.frames.push(Frame { back, below, depth: depth.saturating_add(1) });
        }
        known
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Most places of one state.
pub(crate) const MAX_PLACES: usize = 8192;
/// Most work for one mask, in places looked at: a tenth of a second, and with it the first token. A place
/// makes one way back at most.
pub(crate) const MASK_WORK: usize = 1 << 20;
/// Work that each token allows: a few milliseconds, so that no answer slows those computed with it for long.
pub(crate) const TOKEN_WORK: usize = 1 << 15;
/// Work for a state, which is a kilobyte once it is left.
const STATE_WORK: usize = 16;
/// Places that are passed over in the time that it takes to look at one.
const PLACES_PER_WORK: usize = 64;
/// States and ways back that are kept from one token to the next.
pub(crate) const KEPT_STATES: usize = 4096;
/// Places of all states that are kept: 2 MiB.
const KEPT_PLACES: usize = 1 << 17;
