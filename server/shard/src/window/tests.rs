//! The window by example ([`behaviour`]) and against a plain list ([`model`]).

mod behaviour;
mod model;
