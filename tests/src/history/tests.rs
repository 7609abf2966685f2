//! The judges, judged: histories known to be good and bad, and random ones against a checker that tries everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::operation::{Answer, Call, History, Operation, Outcome, value};
use super::register::{State, step};
use super::*;

fn operation(client: u32, at: (u64, u64), call: Call, outcome: Outcome) -> Operation {
    Operation { client, key: Arc::from("k"), call, invoked: at.0, returned: at.1, outcome }
}

fn set(at: (u64, u64), new: &str, outcome: Outcome) -> Operation {
    operation(1, at, Call::Set(value(new)), outcome)
}

fn get(at: (u64, u64), seen: Option<&str>) -> Operation {
    operation(2, at, Call::Get, Outcome::Answered(Answer::Value(seen.map(value))))
}

fn incr(at: (u64, u64), answer: i64) -> Operation {
    operation(3, at, Call::Incr(1), Outcome::Answered(Answer::Integer(answer)))
}

fn cas(at: (u64, u64), expected: &str, new: &str, outcome: Outcome) -> Operation {
    operation(4, at, Call::CompareAndSet { expected: Some(value(expected)), new: value(new) }, outcome)
}

const DONE: Outcome = Outcome::Answered(Answer::Done);

fn judge(operations: &[Operation]) -> Verdict {
    check(&History { operations: operations.to_vec() })
}

#[track_caller]
fn assert_good(operations: &[Operation]) {
    let verdict = judge(operations);
    assert!(verdict.is_linearizable(), "{verdict}");
}

#[track_caller]
fn bad(operations: &[Operation]) -> Conflict {
    let verdict = judge(operations);
    let conflict = verdict.conflicts().next().cloned();
    conflict.unwrap_or_else(|| panic!("it was accepted: {operations:#?}"))
}

#[test]
fn what_one_register_can_show_is_accepted() {
    assert_good(&[]);
    assert_good(&[get((0, 1), None), set((2, 3), "a", DONE), get((4, 5), Some("a"))]);
    // While a write is open, readers may see it or not, but only in one order.
    assert_good(&[set((0, 9), "a", DONE), get((1, 2), None), get((3, 4), Some("a")), get((5, 6), Some("a"))]);
    // Operations that touch at a tick may stand either way.
    assert_good(&[set((0, 5), "a", DONE), get((5, 6), None)]);
    assert_good(&[set((0, 1), "a", DONE), cas((2, 3), "a", "b", DONE), get((4, 5), Some("b"))]);
    assert_good(&[incr((0, 9), 2), incr((0, 9), 1), incr((10, 11), 3), get((12, 13), Some("3"))]);
    // Several blind writes at once, none of which anybody sees but the last.
    let writes = ["a", "b", "c"].map(|new| set((0, 9), new, DONE));
    assert_good(&[&writes[..], &[get((10, 11), Some("b"))]].concat());
}

#[test]
fn a_stale_read_is_refused() {
    let history =
        [set((0, 1), "a", DONE), set((2, 3), "b", DONE), get((4, 5), Some("a")), get((6, 7), Some("b"))];
    let conflict = bad(&history);
    assert_eq!(conflict.kind, Kind::OldValue);
    assert_eq!(conflict.operation, history[2]);
    assert_eq!(conflict.states, [Some(value("b"))]);
}

#[test]
fn two_reads_of_an_open_write_must_not_go_back() {
    let conflict = bad(&[set((0, 9), "a", DONE), get((1, 2), Some("a")), get((3, 4), None)]);
    assert_eq!(conflict.kind, Kind::OldValue);
}

#[test]
fn a_lost_acknowledged_write_is_refused() {
    assert_eq!(bad(&[set((0, 1), "a", DONE), get((2, 3), None)]).kind, Kind::OldValue);
}

#[test]
fn a_lost_update_is_refused() {
    assert_eq!(bad(&[incr((0, 9), 1), incr((0, 9), 1)]).kind, Kind::LostUpdate);
    let both = [set((0, 1), "a", DONE), cas((2, 5), "a", "b", DONE), cas((3, 6), "a", "c", DONE)];
    assert_eq!(bad(&both).kind, Kind::LostUpdate);
}

#[test]
fn a_read_of_what_nobody_wrote_is_refused() {
    assert_eq!(bad(&[set((0, 1), "a", DONE), get((2, 3), Some("x"))]).kind, Kind::NeverWritten);
    let early = bad(&[get((0, 1), Some("a")), set((2, 3), "a", DONE)]);
    assert_eq!(early.kind, Kind::OldValue);
}

#[test]
fn a_failed_write_that_shows_is_refused() {
    let conflict = bad(&[set((0, 1), "a", Outcome::Failed), get((2, 3), Some("a"))]);
    assert_eq!(conflict.kind, Kind::FailedWriteSeen);
}

#[test]
fn an_unknown_write_may_take_effect_at_any_later_time_once_or_never() {
    let unknown = set((0, 1), "u", Outcome::Unknown);
    let known = [set((2, 3), "a", DONE), get((4, 5), Some("a"))];
    assert_good(&[std::slice::from_ref(&unknown), &known[..]].concat());
    assert_good(&[std::slice::from_ref(&unknown), &known[..], &[get((90, 91), Some("u"))]].concat());
    let twice = [get((90, 91), Some("u")), set((92, 93), "b", DONE), get((94, 95), Some("u"))];
    bad(&[std::slice::from_ref(&unknown), &known[..], &twice[..]].concat());
    // Not before it was sent.
    bad(&[get((0, 1), Some("u")), set((2, 3), "u", Outcome::Unknown)]);
    // An unknown increment is one, an unknown compare-and-set only happens where its condition holds.
    let lone = operation(1, (0, 1), Call::Incr(1), Outcome::Unknown);
    assert_good(&[lone.clone(), incr((2, 3), 1), incr((4, 5), 3)]);
    bad(&[lone, incr((2, 3), 1), incr((4, 5), 4)]);
    bad(&[set((0, 1), "a", DONE), cas((2, 3), "z", "b", Outcome::Unknown), get((4, 5), Some("b"))]);
}

#[test]
fn deleting_and_appending_are_seen_in_their_answers() {
    let del = |at, count| operation(5, at, Call::Del, Outcome::Answered(Answer::Integer(count)));
    let append = |at, tail: &str, length| {
        operation(6, at, Call::Append(value(tail)), Outcome::Answered(Answer::Integer(length)))
    };
    assert_good(&[
        append((0, 1), "ab", 2),
        append((2, 3), "c", 3),
        get((4, 5), Some("abc")),
        del((6, 7), 1),
        del((8, 9), 0),
    ]);
    bad(&[append((0, 1), "ab", 2), append((2, 3), "c", 1)]);
    bad(&[append((0, 1), "ab", 2), del((2, 3), 0)]);
    bad(&[append((0, 1), "ab", 2), del((2, 3), 1), del((4, 5), 1)]);
    // A resurrection: deleted, and there again.
    assert_eq!(bad(&[set((0, 1), "a", DONE), del((2, 3), 1), get((4, 5), Some("a"))]).kind, Kind::OldValue);
}

#[test]
fn a_conflict_is_cut_down_to_what_contradicts_itself_and_drawn() {
    let mut operations: Vec<Operation> = (0..50)
        .flat_map(|number| {
            let (at, text) = (number * 10, format!("v{number}"));
            [
                set((at, at + 2), &text, DONE),
                get((at + 4, at + 6), Some(&text)),
                get((at + 5, at + 7), Some(&text)),
            ]
        })
        .collect();
    operations.push(set((3, 4), "unknown", Outcome::Unknown));
    operations.push(set((480, 481), "failed", Outcome::Failed));
    operations.push(get((500, 509), Some("v7")));
    let conflict = bad(&operations);
    let calls: Vec<String> = conflict.part.iter().map(|one| one.call.to_string()).collect();
    // Somebody saw another value after "v7" had been written and before it was read again.
    assert!(conflict.part.len() <= 3, "{conflict}");
    assert!(calls.contains(&"GET".to_owned()), "{conflict}");
    let text = conflict.to_string();
    assert!(text.contains("GET -> \"v7\"") && text.contains("> |"), "{text}");
    assert!(text.contains("of the key's 153 operations"), "{text}");
}

#[test]
fn a_search_that_takes_too_long_says_so() {
    let unknown =
        |number: u32| operation(number, (0, 1), Call::Append(value(format!("{number}"))), Outcome::Unknown);
    let mut operations: Vec<Operation> = (0..14).map(unknown).collect();
    operations.extend([get((2, 3), Some("nothing of this kind")), set((4, 5), "a", DONE)]);
    let verdict = check_within(&History { operations }, 10_000);
    assert!(matches!(verdict.failures[..], [Failure::TooMuchWork { work: 10_000, .. }]), "{verdict}");
}

/// Tries every order of every choice of unknown operations.
fn brute_force(operations: &[Operation]) -> bool {
    fn go(left: &[&Operation], state: &State) -> bool {
        if left.iter().all(|one| one.outcome == Outcome::Unknown) {
            return true;
        }
        let ends = |one: &Operation| if one.answer().is_some() { one.returned } else { Tick::MAX };
        let first_end = left.iter().map(|one| ends(one)).min().unwrap();
        (0..left.len()).any(|index| {
            let one = left[index];
            let rest: Vec<&Operation> =
                left.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, one)| *one).collect();
            one.invoked <= first_end
                && step(state, &one.call, one.answer()).is_some_and(|state| go(&rest, &state))
        })
    }
    let left: Vec<&Operation> = operations.iter().filter(|one| one.outcome != Outcome::Failed).collect();
    go(&left, &None)
}

/// What clients of a real register with random delays do and see; values repeat if `is_small`.
fn random_history(dice: &mut fastrand::Rng, clients: u32, per_client: u32, is_small: bool) -> Vec<Operation> {
    let family = dice.u32(..3);
    let mut times: Vec<(u64, u64, u64, u32, Call, u32)> = Vec::new();
    for client in 0..clients {
        let mut now = dice.u64(..20);
        for number in 0..per_client {
            let (invoked, returned) = (now, now + dice.u64(1..40));
            now = returned + dice.u64(1..15);
            let name = if is_small { dice.u32(..3).to_string() } else { format!("{client}.{number}") };
            let call = match (family, dice.u32(..8)) {
                (_, 0..=2) => Call::Get,
                (_, 3) if is_small => Call::Del,
                (0, _) => Call::Incr(1),
                (1, _) => Call::Append(value(name)),
                // What is expected is found out when its moment comes.
                (_, 4..=5) => Call::CompareAndSet { expected: None, new: value(name) },
                _ => Call::Set(value(name)),
            };
            let fate = dice.u32(..if is_small { 10 } else { 60 });
            let moment = if fate == 0 { invoked + dice.u64(..200) } else { dice.u64(invoked..=returned) };
            times.push((moment, invoked, returned, client, call, fate));
        }
    }
    times.sort_by_key(|time| time.0);
    let mut state: State = None;
    let mut operations = Vec::new();
    for (_, invoked, returned, client, mut call, fate) in times {
        if let Call::CompareAndSet { expected, .. } = &mut call {
            *expected = state.clone();
        }
        let outcome = match fate {
            0 | 1 => Outcome::Unknown,
            2 => Outcome::Failed,
            _ => Outcome::Answered(match &call {
                Call::Get => Answer::Value(state.clone()),
                Call::Set(_) | Call::CompareAndSet { .. } => Answer::Done,
                Call::Del => Answer::Integer(i64::from(state.is_some())),
                Call::Incr(_) => {
                    Answer::Integer(state.as_ref().map_or(0, |text| text.parse::<i64>().unwrap()) + 1)
                }
                Call::Append(tail) => {
                    Answer::Integer((state.as_ref().map_or(0, |text| text.len()) + tail.len()) as i64)
                }
            }),
        };
        // Fate 0 had its effect, late; fate 1 never had one.
        if fate != 1 && fate != 2 {
            state = step(&state, &call, None).unwrap();
        }
        operations.push(operation(client, (invoked, returned), call, outcome));
    }
    dice.shuffle(&mut operations);
    operations
}

/// Changes one thing that was seen or said.
fn mutate(operations: &mut [Operation], dice: &mut fastrand::Rng) {
    let texts: Vec<Option<Value>> = operations
        .iter()
        .filter_map(|one| match one.answer() {
            Some(Answer::Value(seen)) => Some(seen.clone()),
            _ => None,
        })
        .chain([None])
        .collect();
    let at = dice.usize(..operations.len());
    let one = &mut operations[at];
    match &mut one.outcome {
        Outcome::Answered(Answer::Value(seen)) => *seen = texts[dice.usize(..texts.len())].clone(),
        Outcome::Answered(Answer::Integer(number)) => *number += dice.i64(-1..=1),
        Outcome::Answered(Answer::Done) => one.outcome = Outcome::Failed,
        Outcome::Failed if !one.call.is_read() => {
            one.outcome = Outcome::Unknown;
        }
        Outcome::Failed | Outcome::Unknown => one.invoked += dice.u64(..30),
    }
    one.returned = one.returned.max(one.invoked);
}

#[test]
fn random_small_histories_are_judged_as_trying_everything_judges_them() {
    let (mut good, mut refused) = (0, 0);
    for seed in 0..6_000 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let clients = dice.u32(2..5);
        let mut operations = random_history(&mut dice, clients, 2, seed % 2 == 0);
        assert!(judge(&operations).is_linearizable(), "seed {seed}: {operations:#?}");
        (0..dice.u32(1..4)).for_each(|_| mutate(&mut operations, &mut dice));
        let expected = brute_force(&operations);
        let verdict = judge(&operations);
        assert_eq!(verdict.is_linearizable(), expected, "seed {seed}: {operations:#?}\n{verdict}");
        if expected {
            good += 1
        } else {
            refused += 1
        }
        // What is shown of it is a contradiction by itself, if nothing was there before.
        for conflict in verdict.conflicts() {
            assert!(conflict.part.contains(&conflict.operation), "seed {seed}: {conflict}");
        }
    }
    assert!(good > 500 && refused > 1_500, "{good} good ones, {refused} refused");
}

#[test]
fn long_histories_of_sixteen_clients_are_accepted_and_changed_ones_mostly_refused_in_little_time() {
    let (mut refused, mut unjudged) = (0, 0);
    for seed in 0..12 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut operations = random_history(&mut dice, 16, 25, false);
        let verdict = judge(&operations);
        assert!(verdict.is_linearizable(), "seed {seed}: {verdict}");
        (0..4).for_each(|_| mutate(&mut operations, &mut dice));
        let verdict = judge(&operations);
        refused += verdict.conflicts().count();
        unjudged += verdict.failures.len() - verdict.conflicts().count();
    }
    assert!(refused >= 6 && unjudged <= 1, "{refused} of 12 were refused, {unjudged} not judged");
}

#[test]
fn keys_are_judged_by_themselves() {
    let mut other = get((2, 3), None);
    other.key = Arc::from("other");
    assert_good(&[set((0, 1), "a", DONE), other]);
}

#[test]
fn an_operation_that_is_not_ended_stays_unknown() {
    let (recorder, key) = (Recorder::new(), Arc::from("k"));
    assert!(recorder.is_empty());
    let open = recorder.begin(1, &key, Call::Set(value("a")), 5);
    let read = recorder.begin(2, &key, Call::Get, 6);
    recorder.answered(read, Answer::Value(None), 8);
    let history = recorder.history();
    assert_eq!(history.operations[0].outcome, Outcome::Unknown);
    assert_eq!(history.operations[1].returned, 8);
    assert!(check(&history).is_linearizable());
    recorder.end(open, Outcome::Failed, 9);
    assert_eq!(recorder.history().operations[0].outcome, Outcome::Failed);
    assert_eq!(recorder.len(), 2);
}

#[test]
fn a_ledger_tells_lost_stale_taken_back_and_invented_elements_apart() {
    let (ledger, key): (Ledger, Arc<str>) = (Ledger::new(), Arc::from("s"));
    let done = Outcome::Answered(Answer::Integer(1));
    for element in 0..4 {
        ledger.added(&key, element, 10 * element, 10 * element + 5, &done);
    }
    ledger.added(&key, 4, 40, 45, &Outcome::Failed);
    ledger.added(&key, 5, 50, 55, &Outcome::Unknown);
    let elements = |list: &[u64]| list.iter().copied().collect::<BTreeSet<u64>>();
    let last = |list: &[u64]| BTreeMap::from([(key.clone(), elements(list))]);
    ledger.read(&key, 12, 13, elements(&[0, 1]));
    assert!(ledger.judge(&last(&[0, 1, 2, 3, 5])).is_clean());
    assert!(ledger.judge(&last(&[0, 1, 2, 3])).is_clean());
    let findings = ledger.judge(&last(&[0, 2, 3, 4, 6]));
    assert_eq!(
        (findings.acknowledged, findings.lost.len(), findings.taken_back.len()),
        (4, 1, 1),
        "{findings}"
    );
    assert_eq!(findings.invented.len(), 2, "{findings}");
    ledger.read(&key, 36, 37, elements(&[0, 1, 2]));
    ledger.read(&key, 20, 21, elements(&[0, 1, 5]));
    let findings = ledger.judge(&last(&[0, 1, 2, 3, 5]));
    assert_eq!(findings.stale_reads, ["s: a read of 36..37 misses 3, acknowledged at 35"]);
    assert_eq!(findings.invented, ["s: 5: its addition had not begun"]);
    assert_eq!(ledger.names(), [key]);
}

fn periods(served: &[(u64, usize, Tick)]) -> Periods {
    Periods::of(served.iter().map(|&(epoch, node, at)| Served { shard: "s".into(), epoch, node, at }))
}

#[test]
fn masters_one_after_the_other_are_accepted() {
    assert_eq!(periods(&[]).conflicts(), Vec::<String>::new());
    let one_after_the_other =
        [(1, 0, 5), (1, 0, 9), (2, 3, 9), (2, 3, 20), (3, 0, 21), (7, 0, 30), (8, 3, 31)];
    let periods = periods(&one_after_the_other);
    assert_eq!((periods.count(), periods.conflicts()), (5, Vec::new()));
    // Another shard has epochs and masters of its own.
    let of = |shard: &str, epoch, node, at| Served { shard: shard.into(), epoch, node, at };
    let two_shards = [of("a", 1, 0, 1), of("b", 1, 1, 2), of("a", 1, 0, 9), of("b", 3, 2, 3)];
    assert!(Periods::of(two_shards).conflicts().is_empty());
}

#[test]
fn masters_at_the_same_time_are_noticed() {
    let noticed = |served: &[(u64, usize, Tick)]| {
        let found = periods(served).conflicts();
        assert!(!found.is_empty(), "{served:?} was accepted");
        found
    };
    // The old master served once more after the new one had begun.
    let found = noticed(&[(1, 0, 5), (2, 3, 7), (1, 0, 8)]);
    assert_eq!(found, ["shard s: n0 in epoch 1 from 5 to 8, and meanwhile n3 in epoch 2 from 7 to 7"]);
    // An epoch has one master.
    noticed(&[(1, 0, 5), (1, 3, 9)]);
    // An old epoch comes back after a newer one was served, though the two do not overlap.
    noticed(&[(2, 3, 5), (1, 0, 8)]);
    // Also when another epoch lies between.
    noticed(&[(1, 0, 5), (2, 3, 6), (3, 0, 9), (1, 0, 10)]);
    // A node's own old epoch, after it began a new one: what it acknowledges then is of a log that was fenced.
    noticed(&[(1, 0, 5), (2, 0, 6), (1, 0, 7)]);
}
