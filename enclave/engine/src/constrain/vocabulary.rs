//! The tokens of a model as a tree of bytes, to find all that a grammar allows in one walk. Made once
//! from the verified model file.

use crate::constrain::ConstraintError;
use crate::constrain::machine::{Machine, StateId};

/// The tokens that are text, in the order of their bytes.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    nodes: Vec<Node>,
    /// Tokens that end an answer. They are no text, whatever they spell.
    ends: Vec<u32>,
    /// Number of token ids.
    len: usize,
    /// Bytes of the longest token.
    longest: usize,
}

/// Small: there are several for each token.
#[derive(Debug)]
struct Node {
    byte: u8,
    /// Bytes before it.
    depth: u16,
    /// The token that ends here, or [`NO_TOKEN`].
    token: u32,
    /// The node behind all that begin with this one.
    behind: u32,
}

const NO_TOKEN: u32 = u32::MAX;

/// A set of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mask {
    bits: Vec<u64>,
}

impl Vocabulary {
    /// Of `len` token ids, those that are text, and those that end an answer.
    pub(crate) fn new<'a>(len: usize, text_of: impl Fn(u32) -> &'a [u8], ends: Vec<u32>) -> Self {
        let ids = 0..u32::try_from(len).unwrap_or(u32::MAX);
        let mut tokens: Vec<(&[u8], u32)> = ids.map(|id| (text_of(id), id)).collect();
        // No token is as long as a depth can say; one that were would not be drawn.
        let fits = 1..usize::from(u16::MAX);
        tokens.retain(|(bytes, id)| fits.contains(&bytes.len()) && !ends.contains(id));
        tokens.sort_unstable();
        let mut nodes: Vec<Node> = Vec::new();
        // The nodes of the token before.
        let mut path: Vec<usize> = Vec::new();
        let mut before: &[u8] = &[];
        for (bytes, id) in tokens {
            let same = before.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            // Of two tokens with the same bytes each has a last node of its own.
            let same = same.min(bytes.len().saturating_sub(1));
            let behind = number(nodes.len());
            for at in path.drain(same..) {
                if let Some(node) = nodes.get_mut(at) {
                    node.behind = behind;
                }
            }
            for (depth, byte) in (0u16..).zip(bytes).skip(same) {
                path.push(nodes.len());
                nodes.push(Node { byte: *byte, depth, token: NO_TOKEN, behind: u32::MAX });
            }
            if let Some(node) = nodes.last_mut() {
                node.token = id;
            }
            before = bytes;
        }
        let behind = number(nodes.len());
        nodes.iter_mut().for_each(|node| node.behind = node.behind.min(behind));
        let longest = nodes.iter().map(|node| usize::from(node.depth)).max().unwrap_or(0);
        Self { nodes, ends, len, longest: longest.saturating_add(1) }
    }

    /// The tokens whose bytes `machine` takes at `state`, and if the text may end there, those that end it.
    pub(crate) fn allowed(
        &self,
        machine: &mut Machine,
        state: StateId,
    ) -> Result<Mask, ConstraintError> {
        let mut mask = Mask { bits: vec![0; self.len.div_ceil(64)] };
        // States before each byte of the path to the node.
        let mut states = vec![state; self.longest.saturating_add(1)];
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            let depth = usize::from(node.depth);
            let before = states.get(depth).copied().unwrap_or(StateId::DEAD);
            let after = machine.step(before, node.byte)?;
            if after == StateId::DEAD {
                at = usize::try_from(node.behind).unwrap_or(usize::MAX);
                continue;
            }
            if let Some(state) = states.get_mut(depth.saturating_add(1)) {
                *state = after;
            }
            if node.token != NO_TOKEN {
                mask.insert(node.token);
            }
            at = at.saturating_add(1);
        }
        if machine.accepts(state) {
            self.ends.iter().for_each(|end| mask.insert(*end));
        }
        Ok(mask)
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Mask {
    pub(crate) fn insert(&mut self, token: u32) {
        let at = usize::try_from(token).unwrap_or(usize::MAX);
        if let Some(bits) = self.bits.get_mut(at / 64) {
            *bits |= 1 << (at % 64);
        }
    }

    /// Whether there is no token.
    pub(crate) fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    /// Makes the logits of all other tokens impossible.
    pub(crate) fn apply(&self, logits: &mut [f32]) {
        for (at, logit) in logits.iter_mut().enumerate() {
            let allowed = self.bits.get(at / 64).is_some_and(|bits| bits & (1 << (at % 64)) != 0);
            if !allowed {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
