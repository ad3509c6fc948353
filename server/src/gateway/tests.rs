//! A gateway on its own thread between real sockets: scripted clients and scripted shards around it.

mod clients;
mod life;
mod rig;
mod shards;
mod slots;

pub(super) use rig::{ANY, budget, health, settings, until};
