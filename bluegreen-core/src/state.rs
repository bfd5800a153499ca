//! placeholder
use serde::{Deserialize, Serialize};
/// r
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Record {
    /// x
    A,
}
/// e
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// r
    pub record: Record,
}
