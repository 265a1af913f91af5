//! What actions gave: kept here, shared with others, packed into archives, swept out when nobody needs it.

pub mod archive;
mod error;
pub mod events;
pub mod facts;
pub mod failure;
pub mod metrics;
pub mod places;
pub mod remote;
pub mod results;
pub mod runs;
pub mod sweep;

pub use error::Error;
