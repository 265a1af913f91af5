//! Steps that are made again because what was dropped of them is read.

use super::*;

fn remake(step: usize) -> Effect {
    Effect::Remake { step: StepId(step) }
}

#[test]
fn a_producer_whose_outputs_were_dropped_is_made_again() {
    let plans = vec![plan(&[]), plan(&[0])];
    let mut desk = Desk::new(plans, settings(), &[&[(0, Here)], &[(1, Missing)]]);
    desk.dropped[1] = vec![0];
    // Looked at for its whole contents, the first is not there.
    let cached = ended(0, StepEnd::Cached);
    let mut first = desk.scheduler.on(Event::Begin);
    let found = desk.found(0);
    first.extend(desk.scheduler.on(Event::Looked { step: StepId(0), found }));
    desk.store[0] = vec![(0, Missing)];
    assert_eq!(first.pop(), Some(Effect::Gather { step: StepId(0) }));
    let then = desk.tell(Event::Gathered { step: StepId(0), restored: false });
    assert_eq!(then, [cached, remake(0), start(2)]);
    assert_eq!(desk.looks, [(1, false), (0, true)]);
    desk.dropped[1].clear();
    assert_eq!(desk.made(2), [ran(0), start(3)]);
    assert_eq!(desk.made(3), [ran(1), Effect::Finish]);
}

#[test]
fn producers_are_made_again_all_the_way_up() {
    // 0 → 1 → 2, the contents of 0 and 1 dropped.
    let plans = vec![plan(&[]), plan(&[0]), plan(&[1])];
    let mut desk = Desk::new(plans, settings(), &[&[(0, Here)], &[(1, Here)], &[(2, Missing)]]);
    desk.dropped[2] = vec![1];
    let mut seen = Vec::new();
    let mut open = std::collections::VecDeque::from(desk.scheduler.on(Event::Begin));
    while let Some(effect) = open.pop_front() {
        match effect {
            Effect::Look { step, whole } => {
                if whole {
                    desk.store[step.0][0].1 = Missing;
                    desk.dropped[1] = vec![0];
                }
                let found = desk.found(step.0);
                open.extend(desk.scheduler.on(Event::Looked { step, found }));
            }
            Effect::Gather { step } => {
                open.extend(desk.scheduler.on(Event::Gathered { step, restored: false }));
            }
            other => seen.push(other),
        }
    }
    let cached = |step| ended(step, StepEnd::Cached);
    let first = seen.pop();
    assert_eq!(seen, [cached(0), cached(1), remake(1), remake(0)]);
    let Some(Effect::Start { task, .. }) = first else { panic!("{first:?}") };
    desk.dropped = vec![Vec::new(); 3];
    let then = desk.made(task.0);
    let [Effect::Ended { step: StepId(0), .. }, Effect::Start { task, .. }] = &then[..] else {
        panic!("{then:?}")
    };
    let then = desk.made(task.0);
    let [Effect::Ended { step: StepId(1), .. }, Effect::Start { task, .. }] = &then[..] else {
        panic!("{then:?}")
    };
    assert_eq!(desk.made(task.0), [ran(2), Effect::Finish]);
}

/// Both readers of a cached step are missing; the first says that its contents were dropped.
fn two_readers(keep_going: bool) -> Scheduler {
    let settings = Settings { keep_going, ..settings() };
    let mut scheduler = Scheduler::new(vec![plan(&[]), plan(&[0]), plan(&[0])], settings);
    let _ = scheduler.on(Event::Begin);
    let _ = scheduler.on(Event::Looked { step: StepId(0), found: tasks(0, true, &[]) });
    let looks = scheduler.on(Event::Gathered { step: StepId(0), restored: false });
    let look = |step| Effect::Look { step: StepId(step), whole: false };
    assert_eq!(looks, [ended(0, StepEnd::Cached), look(1), look(2)]);
    let again = scheduler.on(Event::Looked { step: StepId(1), found: tasks(1, false, &[0]) });
    assert_eq!(again, [remake(0), Effect::Look { step: StepId(0), whole: true }]);
    scheduler
}

fn tasks(key: u8, here: bool, dropped: &[usize]) -> Found {
    let sought = Sought { key: key_of(key), here, ask: false };
    Found::Tasks { tasks: vec![sought], dropped: dropped.iter().map(|d| StepId(*d)).collect() }
}

#[test]
fn an_answer_from_before_is_asked_for_again() {
    let mut scheduler = two_readers(false);
    let stale = scheduler.on(Event::Looked { step: StepId(2), found: tasks(2, false, &[]) });
    assert_eq!(stale, []);
    let started = scheduler.on(Event::Looked { step: StepId(0), found: tasks(0, false, &[]) });
    let [Effect::Start { task, .. }] = started[..] else { panic!("{started:?}") };
    let _ = scheduler.on(Event::Ended { task, end: Attempted::Made });
    let then = scheduler.on(Event::Gathered { step: StepId(0), restored: false });
    let look = |step| Effect::Look { step: StepId(step), whole: false };
    assert_eq!(then, [ran(0), look(1), look(2)]);
}

#[test]
fn an_answer_from_before_counts_no_more_when_all_is_there_again() {
    let mut scheduler = two_readers(false);
    let _ = scheduler.on(Event::Looked { step: StepId(0), found: tasks(0, true, &[]) });
    let then = scheduler.on(Event::Gathered { step: StepId(0), restored: false });
    let look = |step| Effect::Look { step: StepId(step), whole: false };
    assert_eq!(then, [ended(0, StepEnd::Cached), look(1)]);
    let stale = scheduler.on(Event::Looked { step: StepId(2), found: tasks(2, false, &[]) });
    assert_eq!(stale, [look(2)]);
}

#[test]
fn both_readers_are_lost_when_it_cannot_be_made_again() {
    let mut scheduler = two_readers(true);
    let started = scheduler.on(Event::Looked { step: StepId(0), found: tasks(0, false, &[]) });
    let [Effect::Start { task, .. }] = started[..] else { panic!("{started:?}") };
    let then = scheduler.on(Event::Ended { task, end: Attempted::Failed(EXIT) });
    let end = ended(0, StepEnd::Failed);
    assert_eq!(then, [failed(task.0, EXIT), end, skipped(1, Why::Before)]);
    let late = scheduler.on(Event::Looked { step: StepId(2), found: tasks(2, true, &[]) });
    assert_eq!(late, [skipped(2, Why::Before), Effect::Finish]);
}

#[test]
fn a_step_waits_for_one_far_above_that_is_made_again() {
    // 0 → 1 and 0 → 2 → 3; 3 tells of all that is above it, and 0 is being made again for 1.
    let plans = vec![plan(&[]), plan(&[0]), plan(&[0]), plan(&[2])];
    let mut scheduler = Scheduler::new(plans, settings());
    let look = |step, whole| Effect::Look { step: StepId(step), whole };
    let _ = scheduler.on(Event::Begin);
    let _ = scheduler.on(Event::Looked { step: StepId(0), found: tasks(0, true, &[]) });
    let _ = scheduler.on(Event::Gathered { step: StepId(0), restored: false });
    let _ = scheduler.on(Event::Looked { step: StepId(2), found: tasks(2, true, &[]) });
    let again = scheduler.on(Event::Looked { step: StepId(1), found: tasks(1, false, &[0]) });
    assert_eq!(again, [remake(0), look(0, true)]);
    let then = scheduler.on(Event::Gathered { step: StepId(2), restored: false });
    assert_eq!(then, [ended(2, StepEnd::Cached), look(3, false)]);
    assert_eq!(scheduler.on(Event::Looked { step: StepId(3), found: Found::NotYet }), []);
    let _ = scheduler.on(Event::Looked { step: StepId(0), found: tasks(0, true, &[]) });
    let then = scheduler.on(Event::Gathered { step: StepId(0), restored: false });
    assert_eq!(then, [ended(0, StepEnd::Cached), look(1, false), look(3, false)]);
}

#[test]
fn a_step_that_waits_for_two_that_are_made_again_is_given_up_once() {
    // 1 needs what was dropped of 0, and 4 what was dropped of 2; 5 reads 2, and tells of 0, which is above 3.
    let plans = vec![plan(&[]), plan(&[0]), plan(&[]), plan(&[0]), plan(&[2]), plan(&[2, 3])];
    let mut scheduler = Scheduler::new(plans, Settings { keep_going: true, ..settings() });
    let _ = scheduler.on(Event::Begin);
    for step in [0, 2, 3] {
        let _ = scheduler.on(Event::Looked { step: StepId(step), found: tasks(step as u8, true, &[]) });
        let _ = scheduler.on(Event::Gathered { step: StepId(step), restored: false });
    }
    let _ = scheduler.on(Event::Looked { step: StepId(1), found: tasks(1, false, &[0]) });
    let _ = scheduler.on(Event::Looked { step: StepId(5), found: Found::NotYet });
    let _ = scheduler.on(Event::Looked { step: StepId(4), found: tasks(4, false, &[2]) });
    let started = scheduler.on(Event::Looked { step: StepId(2), found: tasks(2, false, &[]) });
    let [Effect::Start { task, .. }] = started[..] else { panic!("{started:?}") };
    let then = scheduler.on(Event::Ended { task, end: Attempted::Failed(EXIT) });
    let lost = [skipped(5, Why::Before), skipped(4, Why::Before)];
    let [last, next] = lost;
    assert_eq!(then, [failed(task.0, EXIT), ended(2, StepEnd::Failed), last, next]);
}
