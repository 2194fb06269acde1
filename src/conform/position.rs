//! Who dials: the suite or the node under test.

/// Who dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// The suite dials the node under test.
    Dial,
    /// The suite is the seed that the node under test dials.
    Listen,
}

impl Position {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Position::Dial => "dial",
            Position::Listen => "listen",
        }
    }
}
