//! Properties that hold for any cluster, however odd.

use proptest::prelude::*;

use super::*;

fn state() -> impl Strategy<Value = State> {
    use State::{Draining, Failing, Full, Leaving, Ready, Silent, Starting};
    prop_oneof![4 => Just(Ready), 1 => Just(Full), 3 => Just(Draining), 1 => Just(Starting), 1 => Just(Silent),
        1 => Just(Failing), 1 => Just(Leaving)]
}

fn shard() -> impl Strategy<Value = Shard> {
    let connections = prop_oneof![Just(0_u32), 0..=100_u32];
    let since = prop::option::of(0..120_000_u64);
    let (known_to_gateways, pod_ready) = (prop::bool::weighted(0.9), prop::bool::weighted(0.3));
    ("[ab]", state(), connections, prop_oneof![Just(100_u32), 1..200_u32], known_to_gateways, pod_ready, since)
        .prop_map(|(revision, state, connections, capacity, known_to_gateways, pod_ready, age)| Shard {
            ordinal: 0,
            revision,
            state,
            connections: match state {
                State::Starting | State::Failing => 0,
                State::Full => capacity,
                _ => connections.min(capacity),
            },
            capacity,
            known_to_gateways,
            pod_ready,
            since: age.map(|age| Timestamp(NOW.0.saturating_sub(Duration::from_millis(age)))),
        })
}

fn any_observed() -> impl Strategy<Value = Observed> {
    (prop::collection::vec(prop::option::weighted(0.9, shard()), 0..9), 0..9_u32, 0..30_u32).prop_map(
        |(shards, replicas, reconnecting)| {
            let numbered = |(ordinal, shard): (u32, Option<Shard>)| shard.map(|shard| Shard { ordinal, ..shard });
            Observed { replicas, reconnecting, shards: (0..).zip(shards).filter_map(numbered).collect() }
        },
    )
}

fn any_desired() -> impl Strategy<Value = Desired> {
    (1..9_u32, "[ab]", any::<bool>(), 1..4_u32, any::<bool>(), prop::option::of(0..9_u32)).prop_map(
        |(shards, revision, rarely, max_in_motion, surge, approved)| Desired {
            paused: rarely && approved == Some(0),
            supervised: rarely && approved > Some(4),
            max_in_motion,
            surge,
            approved,
            ..desired(shards, &revision)
        },
    )
}

fn is_overdue(desired: &Desired, shard: &Shard) -> bool {
    shard.since.is_some_and(|since| NOW.since(since) >= desired.deadline)
}

/// Whether removing it now disconnects no client, or its deadline has passed.
fn may_go(desired: &Desired, shard: &Shard) -> bool {
    match shard.state {
        State::Starting | State::Failing | State::Leaving => true,
        State::Draining => shard.connections == 0 || is_overdue(desired, shard),
        State::Silent => !shard.pod_ready && is_overdue(desired, shard),
        State::Ready | State::Full => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_client_is_cut_off(desired in any_desired(), observed in any_observed()) {
        let plan = plan(&desired, &observed, NOW);
        for shard in &observed.shards {
            // Pods beyond the current replicas are up to the `StatefulSet`.
            let was_asked_for = shard.ordinal < observed.replicas || observed.replicas == 0;
            if was_asked_for && shard.ordinal >= plan.replicas {
                prop_assert!(may_go(&desired, shard), "removes {shard:?}");
            }
            let is_stale = shard.revision != desired.revision;
            if was_asked_for && is_stale && shard.ordinal >= plan.partition {
                prop_assert!(may_go(&desired, shard), "lets go of {shard:?}");
            }
            let step = plan.steps.iter().find(|step| step.ordinal == shard.ordinal).unwrap();
            if matches!(step.action, Action::Remove | Action::Restart) {
                prop_assert!(may_go(&desired, shard), "{step:?} of {shard:?}");
            }
        }
    }

    #[test]
    fn silent_shards_go_no_faster_than_others(desired in any_desired(), observed in any_observed()) {
        let plan = plan(&desired, &observed, NOW);
        let was_asked_for = |shard: &Shard| shard.ordinal < observed.replicas || observed.replicas == 0;
        let is_replaced = |shard: &Shard| shard.revision != desired.revision && shard.ordinal >= plan.partition;
        let goes = |shard: &&Shard| {
            shard.state == State::Silent
                && was_asked_for(shard)
                && (shard.ordinal >= plan.replicas || is_replaced(shard))
        };
        let going: Vec<_> = observed.shards.iter().filter(goes).collect();
        let leaving = |shard: &&Shard| shard.state == State::Leaving && !is_overdue(&desired, shard);
        let leaving = observed.shards.iter().filter(leaving).count();
        prop_assert!(going.is_empty() || going.len() + leaving <= desired.max_in_motion as usize, "{plan:#?}");
        for shard in going.iter().filter(|shard| shard.ordinal < desired.shards) {
            prop_assert!(!desired.supervised || desired.approved == Some(shard.ordinal), "{plan:#?}");
        }
    }

    #[test]
    fn every_moved_client_finds_a_slot(desired in any_desired(), observed in any_observed()) {
        let plan = plan(&desired, &observed, NOW);
        let action = |shard: &Shard| plan.steps.iter().find(|step| step.ordinal == shard.ordinal).unwrap().action;
        let starts = |shard: &&Shard| matches!(action(shard), Action::Drain { .. });
        let goes_on = |shard: &&Shard| shard.state == State::Draining && action(shard) == Action::Wait;
        let moving: u32 =
            observed.shards.iter().filter(|s| starts(s) || goes_on(s)).map(|shard| shard.connections).sum();
        let free: u32 = observed.shards.iter().filter(|shard| !starts(shard)).map(Shard::offered).sum();
        if observed.shards.iter().any(|shard| starts(&shard) && shard.connections > 0) {
            prop_assert!(moving + observed.reconnecting <= free, "{moving} move, {free} free: {plan:#?}");
        }
        let in_motion = observed.shards.iter().filter(|shard| starts(shard) || goes_on(shard)).count();
        let asked_for = observed.shards.iter().all(|shard| shard.ordinal < observed.replicas);
        prop_assert!(in_motion <= desired.max_in_motion as usize || !asked_for, "{in_motion} in motion: {plan:#?}");
    }

    #[test]
    fn each_shard_has_one_step(desired in any_desired(), observed in any_observed()) {
        let plan = plan(&desired, &observed, NOW);
        prop_assert!(plan.steps.is_sorted_by(|a, b| a.ordinal < b.ordinal));
        for shard in &observed.shards {
            prop_assert!(plan.steps.iter().any(|step| step.ordinal == shard.ordinal));
        }
        for step in &plan.steps {
            let shard = observed.at(step.ordinal);
            let fits = match step.action {
                Action::Wait => true,
                Action::Drain { .. } => shard.is_some_and(|s| matches!(s.state, State::Ready | State::Full)),
                Action::Undrain => shard.is_some_and(|s| s.state == State::Draining),
                Action::Remove => step.ordinal >= plan.replicas,
                Action::Restart => shard.is_some_and(|s| {
                    s.revision != desired.revision && (s.ordinal >= plan.partition || s.state == State::Failing)
                }),
            };
            prop_assert!(fits, "{step:?} of {shard:?}");
            prop_assert!(!step.reason.to_string().is_empty());
        }
    }

    #[test]
    fn paused_changes_nothing(desired in any_desired(), observed in any_observed()) {
        let desired = Desired { paused: true, ..desired };
        let plan = plan(&desired, &observed, NOW);
        prop_assert!(observed.replicas == 0 || plan.replicas == observed.replicas);
        prop_assert!(plan.steps.iter().all(|step| matches!(step.action, Action::Wait | Action::Undrain)));
        let stale = observed.shards.iter().filter(|shard| shard.revision != desired.revision);
        prop_assert!(stale.map(|shard| shard.ordinal + 1).max().unwrap_or(0) <= plan.partition);
    }

    #[test]
    fn at_most_one_shard_more_than_wanted(desired in any_desired(), observed in any_observed()) {
        let desired = Desired { paused: false, ..desired };
        let plan = plan(&desired, &observed, NOW);
        let most = observed.shards.last().map_or(0, |shard| shard.ordinal + 1).max(observed.replicas);
        prop_assert!(plan.replicas <= most.max(desired.shards + u32::from(desired.surge)), "{}", plan.replicas);
        let first = if observed.replicas == 0 { plan.replicas } else { observed.replicas };
        for ordinal in first..plan.replicas {
            let predecessor = observed.at(ordinal);
            prop_assert!(predecessor.is_none_or(|shard| shard.state != State::Leaving), "{predecessor:?}");
        }
    }

    #[test]
    fn converges_when_nothing_blocks(desired in any_desired(), start in any_observed()) {
        // A world in which each step works at once, and clients find any free slot.
        let desired = Desired { paused: false, supervised: false, surge: true, ..desired };
        let mut observed = Observed { reconnecting: 0, ..start };
        // Pods beyond the current replicas are surplus, too.
        let replicas = observed.replicas.max(observed.shards.last().map_or(0, |shard| shard.ordinal + 1));
        for shard in &mut observed.shards {
            (shard.capacity, shard.connections, shard.since) = (100, shard.connections.min(50), Some(NOW));
            // With surplus shards, a broken shard below them may wait for slots that only it could provide.
            let is_stuck = shard.state == State::Failing && replicas > desired.shards;
            shard.state = if shard.state == State::Full || is_stuck { State::Ready } else { shard.state };
        }
        let clients = observed.connections();
        prop_assume!(clients <= 70 * desired.shards);
        let mut now = NOW;
        for _ in 0..200 {
            now = now + Duration::from_secs(30);
            let plan = plan(&desired, &observed, now);
            observed = ideal(&desired, &observed, &plan, clients);
        }
        let end = plan(&desired, &observed, now);
        prop_assert_eq!(summary(&end), format!("{}/0", desired.shards), "{:#?}\n{:#?}", end, observed);
        let is_good = |shard: &Shard| shard.state == State::Ready && shard.revision == desired.revision;
        prop_assert!(observed.shards.len() == desired.shards as usize && observed.shards.iter().all(is_good));
    }
}

/// The next observation if everything works: released pods are replaced, missing pods are created.
fn ideal(desired: &Desired, observed: &Observed, plan: &Plan, clients: u32) -> Observed {
    let mut shards = Vec::new();
    for ordinal in 0..plan.replicas.max(observed.shards.last().map_or(0, |shard| shard.ordinal + 1)) {
        let new = |revision: &str| Shard {
            ordinal,
            revision: revision.to_owned(),
            state: State::Ready,
            connections: 0,
            capacity: 100,
            known_to_gateways: true,
            pod_ready: true,
            since: Some(NOW),
        };
        let Some(shard) = observed.at(ordinal) else {
            let old = if desired.revision == "a" { "b" } else { "a" };
            shards.extend(
                (ordinal < plan.replicas).then(|| new(if ordinal < plan.partition { old } else { &desired.revision })),
            );
            continue;
        };
        let action = plan.steps.iter().find(|step| step.ordinal == ordinal).map(|step| step.action);
        let state = match (action, shard.state) {
            (_, State::Leaving) | (Some(Action::Restart), _) => continue,
            _ if ordinal >= plan.replicas => continue,
            (Some(Action::Drain { .. }), _) => State::Draining,
            (Some(Action::Undrain), _) | (_, State::Starting | State::Silent) => State::Ready,
            // A failing shard of the wanted revision recovers: the plan cannot repair it.
            (_, State::Failing) if shard.revision == desired.revision => State::Ready,
            (_, state) => state,
        };
        let connections = if state == State::Draining { 0 } else { shard.connections };
        shards.push(Shard { state, connections, known_to_gateways: true, ..shard.clone() });
    }
    let mut homeless = clients - shards.iter().map(|shard| shard.connections).sum::<u32>();
    for shard in shards.iter_mut().filter(|shard| shard.state == State::Ready) {
        let more = homeless.min(shard.capacity - shard.connections);
        shard.connections += more;
        homeless -= more;
    }
    Observed { replicas: plan.replicas, reconnecting: 0, shards }
}
