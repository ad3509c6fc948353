//! A gateway on its own thread between real sockets: scripted clients and scripted shards around it.

mod clients;
mod draining;
mod life;
mod rig;
mod shards;
mod slots;
mod smuggling;

pub(super) use rig::{ANY, FakeShard, Rig, Script, budget, health, settings, until};
