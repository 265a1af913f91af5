//! What actions gave: kept here, shared with others, packed into archives.

pub mod results;
