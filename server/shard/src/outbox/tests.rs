//! Compares the outbox with a model: a plain queue of frames for each connection.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// A record for the connections whose bit is set.
    Record {
        channel: u32,
        to: u8,
        len: usize,
    },
    Reply {
        to: usize,
    },
    Flush {
        of: usize,
    },
    Cut {
        of: usize,
        share: usize,
    },
    DropOldest {
        of: usize,
        share: usize,
    },
    Conflate {
        of: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let of = 0_usize..8;
    prop_oneof![
        6 => (0_u32..4, any::<u8>(), 1_usize..20).prop_map(|(channel, to, len)| Step::Record { channel, to, len }),
        1 => of.clone().prop_map(|to| Step::Reply { to }),
        2 => of.clone().prop_map(|of| Step::Flush { of }),
        1 => (of.clone(), 0_usize..=100).prop_map(|(of, share)| Step::Cut { of, share }),
        1 => (of.clone(), 0_usize..=100).prop_map(|(of, share)| Step::DropOldest { of, share }),
        1 => of.prop_map(|of| Step::Conflate { of }),
    ]
}

type Queue = Vec<(Bytes, Option<ChannelId>)>;

fn total(queue: &Queue) -> usize {
    queue.iter().map(|(frame, _)| frame.len()).sum()
}

proptest! {
    #[test]
    fn behaves_like_a_queue_for_each_connection(steps in prop::collection::vec(step(), 0..200)) {
        let mut outbox = Outbox::default();
        let mut dues = [Due::NONE; 8];
        let mut model: [Queue; 8] = Default::default();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Record { channel, to, len } => {
                    let (frame, channel) = (Bytes::from(vec![number as u8; len]), ChannelId(channel));
                    outbox.begin(frame.clone(), Some(channel));
                    for of in (0..8).filter(|of| to & (1 << of) != 0) {
                        dues[of] = outbox.mark(dues[of]);
                        model[of].push((frame.clone(), Some(channel)));
                    }
                    outbox.end();
                }
                Step::Reply { to } => {
                    let frame = Bytes::from(vec![number as u8; 3]);
                    dues[to] = outbox.push(dues[to], frame.clone(), None);
                    model[to].push((frame, None));
                }
                Step::Flush { of } => {
                    let all: Vec<u8> = model[of].iter().flat_map(|(frame, _)| frame.to_vec()).collect();
                    if let Some(shared) = outbox.shared(dues[of]) {
                        prop_assert_eq!(&shared[..], &all[..]);
                    }
                    prop_assert_eq!(outbox.frames(dues[of]).concat(), all);
                    outbox.release(std::mem::replace(&mut dues[of], Due::NONE));
                    model[of].clear();
                }
                Step::Cut { of, share } => {
                    let mut written = total(&model[of]) * share / 100;
                    let (remainder, rest) = outbox.cut(dues[of], written);
                    dues[of] = rest;
                    while model[of].first().is_some_and(|(frame, _)| frame.len() <= written) {
                        written -= model[of].remove(0).0.len();
                    }
                    let expected = if written > 0 { model[of].remove(0).0.slice(written..) } else { Bytes::new() };
                    prop_assert_eq!(remainder, expected);
                }
                Step::DropOldest { of, share } => {
                    let keep = total(&model[of]) * share / 100;
                    let (rest, dropped) = outbox.drop_oldest(dues[of], keep);
                    dues[of] = rest;
                    let before = model[of].len();
                    while total(&model[of]) > keep {
                        let Some(at) = model[of].iter().position(|(_, channel)| channel.is_some()) else { break };
                        model[of].remove(at);
                    }
                    prop_assert_eq!(dropped as usize, before - model[of].len());
                }
                Step::Conflate { of } => {
                    dues[of] = outbox.conflate(dues[of]).0;
                    let queue = std::mem::take(&mut model[of]);
                    let newer = |at: usize, channel| queue[at + 1..].iter().any(|(_, other)| *other == channel);
                    model[of] = queue
                        .iter()
                        .enumerate()
                        .filter(|(at, (_, channel))| channel.is_none() || !newer(*at, *channel))
                        .map(|(_, entry)| entry.clone())
                        .collect();
                }
            }
            for of in 0..8 {
                prop_assert_eq!(outbox.bytes(dues[of]), total(&model[of]));
                prop_assert_eq!(outbox.len(dues[of]) as usize, model[of].len());
                let frames: Vec<Bytes> = model[of].iter().map(|(frame, _)| frame.clone()).collect();
                prop_assert_eq!(outbox.frames(dues[of]), frames);
            }
        }
        for due in dues {
            outbox.release(due);
        }
        prop_assert_eq!(outbox.nodes(), 0, "a node leaked");
    }
}

#[test]
fn connections_with_the_same_frames_share_one_buffer() {
    let mut outbox = Outbox::default();
    let mut dues = vec![Due::NONE; 1_000];
    for frame in ["one", "two", "three"] {
        outbox.begin(Bytes::from_static(frame.as_bytes()), Some(ChannelId(1)));
        for due in &mut dues {
            *due = outbox.mark(*due);
        }
        outbox.end();
    }
    assert_eq!(outbox.nodes(), 3);
    let first = outbox.shared(dues[0]).unwrap();
    assert_eq!(&first[..], b"onetwothree");
    assert_eq!(outbox.shared(dues[999]).unwrap().as_ptr(), first.as_ptr());
}

#[test]
fn counts_the_remaining_bytes_of_a_replay() {
    let mut outbox = Outbox::default();
    let frame = |len| Bytes::from(vec![0; len]);
    let live = outbox.push(Due::NONE, frame(1), Some(ChannelId(1)));
    let first = outbox.push_asked(live, frame(10), Some(ChannelId(1)));
    let second = outbox.push_asked(first, frame(100), Some(ChannelId(2)));
    let due = outbox.push(second, frame(1_000), Some(ChannelId(1)));
    assert_eq!(outbox.asked_bytes(due), 110);
    let (remainder, due) = outbox.cut(due, 3);
    assert_eq!((remainder.len(), outbox.asked_bytes(due)), (8, 100));
    let (due, dropped) = outbox.conflate(due);
    assert_eq!((dropped, outbox.asked_bytes(due)), (0, 100));
    let (due, dropped) = outbox.drop_oldest(due, 1_000);
    assert_eq!((dropped, outbox.asked_bytes(due)), (1, 0));
    outbox.release(due);
    assert_eq!(outbox.nodes(), 0);
}

#[test]
fn releases_a_long_list_without_recursion() {
    let mut outbox = Outbox::default();
    let mut due = Due::NONE;
    for _ in 0..1_000_000 {
        due = outbox.push(due, Bytes::from_static(b"x"), None);
    }
    outbox.release(due);
    assert_eq!(outbox.nodes(), 0);
    // Their memory is freed.
    outbox.begin(Bytes::new(), None);
    outbox.end();
    assert_eq!(outbox.capacity(), 0);
}
