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
    frames: Vec<Frame>,
    frame_index: HashMap<(u32, StackId), StackId>,
    /// Places looked at since [`Machine::refuel`].
    spent: usize,
}

impl Machine {
    /// A machine before the first byte.
    pub(crate) fn new(program: Arc<Program>) -> Result<(Self, StateId), ConstraintError> {
        let start = program.rules.first().ok_or(ConstraintError::Unmeetable)?.start;
        let mut machine = Self {
            program,
            states: Vec::new(),
            index: HashMap::new(),
            frames: Vec::new(),
            frame_index: HashMap::new(),
            spent: 0,
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
        let items = self.state(state).map_or(&[][..], |state| &state.items);
        let takes = |(place, _): &&Item| matches!(self.op(*place), Some(Op::Byte(low, high)) if (low..=high).contains(&byte));
        let after = items.iter().filter(takes).map(|(at, stack)| (at.saturating_add(1), *stack));
        let after: Vec<Item> = after.collect();
        let next = if after.is_empty() { StateId::DEAD } else { self.close(after)? };
        if let Some(state) = self.states.get_mut(index(state.0)) {
            let table = state.next.get_or_insert_with(|| Box::new([StateId::UNKNOWN; 256]));
            if let Some(place) = table.get_mut(usize::from(byte)) {
                *place = next;
            }
        }
        Ok(next)
    }

    /// Allows the work of one more mask, and forgets what is known if that is much: it can be computed
    /// again. Then all numbers are new, and this is that of `state`.
    pub(crate) fn refuel(&mut self, state: StateId) -> Option<StateId> {
        self.spent = 0;
        if self.states.len() < KEPT_STATES && self.frames.len() < KEPT_STATES {
            return None;
        }
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

    fn clear(&mut self) {
        let dead = State { items: Vec::new(), accepts: false, next: None };
        self.states = vec![dead];
        self.frames = vec![Frame { back: 0, below: BOTTOM, depth: 0 }];
        self.index.clear();
        self.frame_index.clear();
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
            self.spent = self.spent.saturating_add(1);
            if seen.len() > MAX_PLACES || self.spent > MASK_WORK {
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
/// Most places that are looked at for one mask: a tenth of a second. Each makes one way back at most.
const MASK_WORK: usize = 1 << 20;
/// States and ways back that are kept from one token to the next; a state is up to a kilobyte.
const KEPT_STATES: usize = 4096;
