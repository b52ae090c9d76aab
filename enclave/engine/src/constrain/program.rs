//! A grammar over bytes: expressions, and the small program they become. Expressions are made from what a
//! request says, so their size is bounded here, and what can never be completed is left out: wherever
//! the program is, an end can be reached.

use crate::constrain::ConstraintError;

/// What text may look like.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// Nothing, which is there.
    Empty,
    /// What cannot be.
    Never,
    /// One byte of a range.
    Byte(u8, u8),
    /// These bytes.
    Text(Vec<u8>),
    /// One after the other.
    Seq(Vec<Self>),
    /// One of them.
    Any(Vec<Self>),
    /// At least so often, and at most.
    Repeat(Box<Self>, u32, Option<u32>),
    /// Another rule, by its index.
    Rule(usize),
}

impl Expr {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    pub(crate) fn optional(self) -> Self {
        Self::Repeat(Box::new(self), 0, Some(1))
    }

    /// How many parts it has, the bytes of its texts among them.
    pub(crate) fn parts(&self) -> usize {
        let inside = match self {
            Self::Empty | Self::Never | Self::Byte(..) | Self::Rule(_) => 0,
            Self::Text(text) => text.len(),
            Self::Seq(parts) | Self::Any(parts) => {
                parts.iter().map(Self::parts).fold(0, usize::saturating_add)
            }
            Self::Repeat(part, ..) => part.parts(),
        };
        inside.saturating_add(1)
    }

    /// How many rules deep it must at least go to end; `None` if it cannot. Nothing has to be remembered for
    /// what is `last` in a rule, so it goes no deeper.
    fn height(&self, last: bool, rules: &[Option<usize>]) -> Option<usize> {
        match self {
            Self::Empty | Self::Byte(..) | Self::Text(_) | Self::Repeat(_, 0, _) => Some(0),
            Self::Never => None,
            Self::Repeat(_, min, Some(max)) if max < min => None,
            Self::Seq(parts) => {
                let (end, parts) = match parts.split_last() {
                    Some((end, parts)) => (end.height(last, rules)?, parts),
                    None => (0, &[][..]),
                };
                let deeper = |most: usize, part: &Self| Some(part.height(false, rules)?.max(most));
                parts.iter().try_fold(end, deeper)
            }
            Self::Any(parts) => parts.iter().filter_map(|part| part.height(last, rules)).min(),
            Self::Repeat(part, ..) => part.height(false, rules),
            Self::Rule(rule) => {
                let height = (*rules.get(*rule)?)?;
                Some(if last { height } else { height.saturating_add(1) })
            }
        }
    }

    /// What is left without that which cannot be, and without parts that say nothing; `None` if it is
    /// nothing that can be. Then each part makes a step at least, and the program takes no longer to
    /// write than it is long.
    fn possible(self, rules: &[Option<usize>]) -> Option<Self> {
        Some(match self {
            Self::Never => return None,
            Self::Empty | Self::Byte(..) => self,
            Self::Text(text) if text.is_empty() => Self::Empty,
            Self::Text(_) => self,
            Self::Seq(parts) => {
                let parts: Option<Vec<Self>> =
                    parts.into_iter().map(|part| part.possible(rules)).collect();
                let mut parts = parts?;
                parts.retain(|part| !matches!(part, Self::Empty));
                match parts.len() {
                    0 => Self::Empty,
                    1 => parts.pop()?,
                    _ => Self::Seq(parts),
                }
            }
            Self::Any(parts) => {
                let mut parts: Vec<Self> =
                    parts.into_iter().filter_map(|part| part.possible(rules)).collect();
                match parts.len() {
                    0 | 1 => parts.pop()?,
                    _ => Self::Any(parts),
                }
            }
            Self::Repeat(part, min, max) => match (part.possible(rules), min, max) {
                (_, min, Some(max)) if max < min => return None,
                (None, 0, _) | (Some(Self::Empty), ..) | (_, 0, Some(0)) => Self::Empty,
                (None, ..) => return None,
                (Some(part), 1, Some(1)) => part,
                (Some(part), min, max) => Self::Repeat(Box::new(part), min, max),
            },
            Self::Rule(rule) => {
                (*rules.get(rule)?)?;
                self
            }
        })
    }
}

/// One step of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Takes a byte from the first to the second and goes on with the next step.
    Byte(u8, u8),
    /// Goes on with the next step, and with this one.
    Split(u32),
    /// Goes on with this step.
    Jump(u32),
    /// Goes on with a rule, then with the next step.
    Call(u32),
    /// Goes on with a rule instead of this one.
    Become(u32),
    /// Ends a rule.
    Return,
}

/// A rule of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Its first step.
    pub(crate) start: u32,
    /// How many rules deep it must at least go.
    pub(crate) height: usize,
}

/// A grammar that can be run. It begins with rule 0.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) rules: Vec<Rule>,
}

impl Program {
    /// The program of `rules`.
    ///
    /// # Errors
    /// [`ConstraintError::Unmeetable`] if no text is an instance of the first rule,
    /// [`ConstraintError::TooLarge`] over [`MAX_OPS`].
    pub(crate) fn new(rules: Vec<Expr>) -> Result<Self, ConstraintError> {
        let heights = heights(&rules);
        if heights.first().copied().flatten().is_none_or(|height| height >= MAX_DEPTH) {
            return Err(ConstraintError::Unmeetable);
        }
        let mut program = Self { ops: Vec::new(), rules: Vec::with_capacity(rules.len()) };
        for (rule, height) in rules.into_iter().zip(&heights) {
            let (start, height) = (program.here()?, height.unwrap_or(MAX_DEPTH));
            program.rules.push(Rule { start, height });
            program.emit(&rule.possible(&heights).unwrap_or(Expr::Never), true)?;
            program.push(Op::Return)?;
        }
        Ok(program)
    }

    fn here(&self) -> Result<u32, ConstraintError> {
        u32::try_from(self.ops.len()).map_err(|_| ConstraintError::TooLarge)
    }

    fn push(&mut self, op: Op) -> Result<usize, ConstraintError> {
        if self.ops.len() >= MAX_OPS {
            return Err(ConstraintError::TooLarge);
        }
        self.ops.push(op);
        Ok(self.ops.len().saturating_sub(1))
    }

    /// Points the jump or split at `at` to the end.
    fn land(&mut self, at: usize) -> Result<(), ConstraintError> {
        let here = self.here()?;
        match self.ops.get_mut(at) {
            Some(Op::Split(target) | Op::Jump(target)) => *target = here,
            _ => return Err(ConstraintError::TooLarge),
        }
        Ok(())
    }

    /// Writes an expression that is possible; `last` if nothing of its rule follows.
    fn emit(&mut self, expr: &Expr, last: bool) -> Result<(), ConstraintError> {
        match expr {
            Expr::Empty => {}
            // No byte is at least 1 and at most 0.
            Expr::Never => drop(self.push(Op::Byte(1, 0))?),
            Expr::Byte(low, high) => drop(self.push(Op::Byte(*low, *high))?),
            Expr::Text(text) => {
                for byte in text {
                    self.push(Op::Byte(*byte, *byte))?;
                }
            }
            Expr::Seq(parts) => {
                let Some((end, parts)) = parts.split_last() else { return Ok(()) };
                parts.iter().try_for_each(|part| self.emit(part, false))?;
                self.emit(end, last)?;
            }
            Expr::Any(parts) => {
                let Some((other, others)) = parts.split_last() else { return Ok(()) };
                let mut ends = Vec::with_capacity(others.len());
                for part in others {
                    let split = self.push(Op::Split(0))?;
                    self.emit(part, last)?;
                    ends.push(self.push(Op::Jump(0))?);
                    self.land(split)?;
                }
                self.emit(other, last)?;
                ends.into_iter().try_for_each(|end| self.land(end))?;
            }
            Expr::Repeat(part, min, max) => {
                // Of the last time nothing follows either: a list `item ("," list)?` gets no deeper.
                let ends = |time: u32| last && *max == Some(time.saturating_add(1));
                for time in 0..*min {
                    self.emit(part, ends(time))?;
                }
                match max {
                    None => {
                        let start = self.here()?;
                        let split = self.push(Op::Split(0))?;
                        self.emit(part, false)?;
                        self.push(Op::Jump(start))?;
                        self.land(split)?;
                    }
                    Some(max) => {
                        let mut splits = Vec::new();
                        for time in *min..*max {
                            splits.push(self.push(Op::Split(0))?);
                            self.emit(part, ends(time))?;
                        }
                        splits.into_iter().try_for_each(|split| self.land(split))?;
                    }
                }
            }
            Expr::Rule(rule) => {
                let rule = u32::try_from(*rule).map_err(|_| ConstraintError::TooLarge)?;
                self.push(if last { Op::Become(rule) } else { Op::Call(rule) })?;
            }
        }
        Ok(())
    }
}

/// How deep each rule must at least go. Rules mostly refer to those before them, or in a grammar that somebody
/// wrote, to those behind them; so a round each way settles most. What is not settled in as many rounds as
/// there may be levels stays what it is, which is deep enough.
fn heights(rules: &[Expr]) -> Vec<Option<usize>> {
    let mut heights = vec![None; rules.len()];
    for round in 0..MAX_DEPTH {
        let mut settled = true;
        let mut settle = |(at, rule): (usize, &Expr)| {
            let height = rule.height(true, &heights);
            if let Some(known) = heights.get_mut(at).filter(|known| **known != height) {
                (*known, settled) = (height, false);
            }
        };
        if round % 2 == 0 {
            rules.iter().enumerate().for_each(&mut settle);
        } else {
            rules.iter().enumerate().rev().for_each(&mut settle);
        }
        if settled {
            break;
        }
    }
    heights
}

/// Most steps of a program.
pub(crate) const MAX_OPS: usize = 1 << 16;
/// Deepest nesting of rules, and with it of values.
pub(crate) const MAX_DEPTH: usize = 64;
