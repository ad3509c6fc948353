//! RFC 6455, the parts we own: frames ([`frame`], [`decode`], [`boundary`]), close codes ([`close`]) and the upgrade ([`upgrade`]).

pub mod boundary;
pub mod close;
pub mod decode;
pub mod frame;
pub mod upgrade;
