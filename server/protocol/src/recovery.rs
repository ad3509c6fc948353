//! Why a shard cannot give a client what it missed.

/// Why a channel was not recovered. Serialized as `reason` of a `subscription_ack`, and a value of metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LostReason {
    /// The records are no longer kept.
    TooOld,
    /// The position belongs to another topic, or to a topic before it was recreated.
    Epoch,
    /// The shard does not know what the client has received from some partition of the channel.
    UnknownPosition,
    /// The client sent a value that is not a position.
    BadPosition,
    /// The connection is subscribed to the channel already, so a replay would repeat messages.
    AlreadySubscribed,
    /// The client asked for the latest message and the shard holds none.
    NoMessage,
    /// Too many requests wait, or the client has not read an earlier replay.
    Busy,
    /// The records were not read within the time limit.
    Timeout,
    /// More bytes were missed than one request may read.
    TooMuch,
    /// More records lie between the position and now than one request may read.
    TooFar,
    /// No broker answered.
    Unavailable,
    /// The client disconnected while its records were read. Only a metric label, because no client is left to answer.
    Gone,
    /// The old `reconnect` sent one offset for a channel that several partitions feed.
    SeveralPartitions,
    /// The old `reconnect` sent an offset of a topic that was recreated.
    Recreated,
}

impl LostReason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::TooOld,
        Self::Epoch,
        Self::UnknownPosition,
        Self::BadPosition,
        Self::AlreadySubscribed,
        Self::NoMessage,
        Self::Busy,
        Self::Timeout,
        Self::TooMuch,
        Self::TooFar,
        Self::Unavailable,
        Self::Gone,
        Self::SeveralPartitions,
        Self::Recreated,
    ];

    /// The word on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::Epoch => "epoch",
            Self::UnknownPosition => "unknown_position",
            Self::BadPosition => "bad_position",
            Self::AlreadySubscribed => "already_subscribed",
            Self::NoMessage => "no_message",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::TooMuch => "too_much",
            Self::TooFar => "too_far",
            Self::Unavailable => "unavailable",
            Self::Gone => "gone",
            Self::SeveralPartitions => "several_partitions",
            Self::Recreated => "recreated",
        }
    }
}
