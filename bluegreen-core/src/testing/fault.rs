//! What may go wrong with a call, as a value.

/// What happens to a call on the outside world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "tests run all of them")]
pub enum Fault {
    /// It answers with an error.
    Fail,
    /// The process that made it ends: nothing it would have done afterwards happens.
    Crash,
    /// It never answers.
    Hang,
}

/// Whether the call's effect happens first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "tests run both")]
pub enum When {
    /// The effect does not happen.
    Before,
    /// The effect happens, and the answer is lost.
    After,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fail, Self::Crash, Self::Hang];
}

impl When {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];
}

/// Which call a fault is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// The call of that number, counted from 0 since the World began.
    Call(usize),
    /// The next call of that operation.
    Operation(String),
    /// Every call of that operation.
    Always(String),
}

#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) at: At,
    pub(super) fault: Fault,
    pub(super) when: When,
}
