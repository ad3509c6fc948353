//! The stages of a gateway from serving to its end.

use wscluster_runtime::drain::DrainPhase;

/// Progress of a drain, or of the end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Serving.
    Open,
    /// Serving, but not ready: load balancers send new clients elsewhere.
    NotReady,
    /// New upgrades are refused, and tunnels are moved away. The drain can still be cancelled.
    Refusing,
    /// The listeners are closed; handshakes and tunnels may end. This is final.
    Draining,
    /// All tunnels are being closed.
    Closing,
}

impl Stage {
    /// The stage that follows when a drain reaches `phase`; `None` if nothing changes.
    pub(crate) fn after(self, phase: DrainPhase) -> Option<Self> {
        match (phase, self) {
            (DrainPhase::Open, Self::NotReady | Self::Refusing) => Some(Self::Open),
            (DrainPhase::Announced, Self::Open) => Some(Self::NotReady),
            (DrainPhase::Refusing, Self::NotReady) => Some(Self::Refusing),
            (DrainPhase::Ending, Self::Open | Self::NotReady | Self::Refusing) => Some(Self::Draining),
            _ => None,
        }
    }
}
