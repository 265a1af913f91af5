//! Failures, retries and the wish to stop.

use super::*;

const KILLED: Failure = Failure::Signal { signal: 9 };

/// Two mapped tasks, one step behind them, one beside.
fn four(settings: Settings) -> Desk {
    let plans = vec![plan(&[]), plan(&[0]), plan(&[1]), plan(&[])];
    let store: [&[_]; 4] = [&[(0, Missing), (1, Missing)], &[(2, Missing)], &[(3, Missing)], &[(4, Missing)]];
    Desk::new(plans, settings, &store)
}

#[test]
fn a_failure_lets_what_runs_go_on_and_starts_nothing() {
    let mut settings = settings();
    settings.capacity.jobs = 2;
    let mut desk = four(settings);
    assert_eq!(desk.begin(), [start(0), start(1)]);
    let skips = [skipped(3, Why::Another), skipped(1, Why::Another), skipped(2, Why::Another)];
    let [beside, next, last] = skips;
    assert_eq!(desk.fails(0, EXIT), [failed(0, EXIT), beside, next, last]);
    assert_eq!(desk.made(1), [ended(0, StepEnd::Failed), Effect::Finish]);
}

#[test]
fn what_waits_in_the_failed_step_does_not_start() {
    let mut desk = four(one_at_a_time());
    assert_eq!(desk.begin(), [start(0)]);
    let then = desk.fails(0, EXIT);
    assert!(then.contains(&ended(0, StepEnd::Failed)) && then.ends_with(&[Effect::Finish]), "{then:?}");
    assert!(!then.iter().any(|effect| matches!(effect, Effect::Start { .. })), "{then:?}");
}

#[test]
fn keep_going_runs_what_does_not_need_the_failure() {
    let mut desk = four(Settings { keep_going: true, ..one_at_a_time() });
    assert_eq!(desk.begin(), [start(0)]);
    assert_eq!(desk.fails(0, EXIT), [failed(0, EXIT), start(1)], "the others of its step go on");
    let before = [skipped(1, Why::Before), skipped(2, Why::Before)];
    let [next, last] = before;
    assert_eq!(desk.made(1), [ended(0, StepEnd::Failed), next, last, start(2)]);
    assert_eq!(desk.made(2), [ran(3), Effect::Finish]);
}

#[test]
fn what_may_pass_is_tried_again_with_what_it_holds() {
    let mut plans = vec![plan(&[]), plan(&[])];
    plans[0].retries = 2;
    plans[0].request.gpus = 1;
    plans[1].request.gpus = 2;
    let mut desk = Desk::new(plans, settings(), &[&[(0, Missing)], &[(1, Missing)]]);
    let attempt = |attempt, after| Effect::Start { task: TaskId(0), gpus: vec![0], attempt, after };
    assert_eq!(desk.begin(), [attempt(1, None)]);
    assert_eq!(desk.fails(0, KILLED), [attempt(2, Some(KILLED))]);
    assert_eq!(desk.fails(0, Failure::TryAgain), [attempt(3, Some(Failure::TryAgain))]);
    let then = desk.fails(0, KILLED);
    assert_eq!(then[0], failed(0, KILLED));
    assert!(desk.scheduler.slots.all_free());
}

#[test]
fn a_retry_that_succeeds_is_a_success() {
    let mut plans = vec![plan(&[])];
    plans[0].retries = 1;
    let mut desk = Desk::new(plans, settings(), &[&[(0, Missing)]]);
    let _ = desk.begin();
    let _ = desk.fails(0, Failure::Timeout { seconds: Some(3.0) });
    assert_eq!(desk.made(0), [ran(0), Effect::Finish]);
}

#[test]
fn what_is_wrong_for_good_is_not_tried_again() {
    let mut plans = vec![plan(&[])];
    plans[0].retries = 5;
    let mut desk = Desk::new(plans, settings(), &[&[(0, Missing)]]);
    let _ = desk.begin();
    assert_eq!(desk.fails(0, EXIT), [failed(0, EXIT), ended(0, StepEnd::Failed), Effect::Finish]);
}

#[test]
fn a_stop_waits_for_what_runs() {
    let mut settings = settings();
    settings.capacity.jobs = 2;
    settings.keep_going = true;
    let mut desk = four(settings);
    assert_eq!(desk.begin(), [start(0), start(1)]);
    let stopped = [skipped(3, Why::Stopped), skipped(1, Why::Stopped), skipped(2, Why::Stopped)];
    assert_eq!(desk.tell(Event::Stop), stopped);
    assert_eq!(desk.tell(Event::Stop), [], "twice is once");
    assert_eq!(desk.made(0), [], "what was made before counts");
    let then = desk.fails(1, Failure::Stopped);
    assert_eq!(then, [skipped(0, Why::Stopped), Effect::Finish]);
    assert!(desk.scheduler.slots.all_free());
}

#[test]
fn a_stop_ends_the_retries() {
    let mut plans = vec![plan(&[])];
    plans[0].retries = 5;
    let mut desk = Desk::new(plans, settings(), &[&[(0, Missing)]]);
    let _ = desk.begin();
    assert_eq!(desk.tell(Event::Stop), []);
    assert_eq!(desk.fails(0, Failure::TryAgain), [skipped(0, Why::Stopped), Effect::Finish]);
}

#[test]
fn a_failure_counts_also_while_stopping() {
    let mut desk = Desk::new(vec![plan(&[])], settings(), &[&[(0, Missing)]]);
    let _ = desk.begin();
    let _ = desk.tell(Event::Stop);
    assert_eq!(desk.fails(0, EXIT), [failed(0, EXIT), ended(0, StepEnd::Failed), Effect::Finish]);
}

#[test]
fn a_stop_before_anything_was_found_ends_with_the_answer() {
    let mut scheduler = Scheduler::new(vec![plan(&[])], settings());
    assert_eq!(scheduler.on(Event::Begin), [Effect::Look { step: StepId(0), whole: false }]);
    assert_eq!(scheduler.on(Event::Stop), []);
    let found =
        Found::Tasks { tasks: vec![Sought { key: key_of(0), here: false, ask: false }], dropped: Vec::new() };
    let then = scheduler.on(Event::Looked { step: StepId(0), found });
    assert_eq!(then, [skipped(0, Why::Stopped), Effect::Finish]);
}

#[test]
fn consent_that_comes_after_a_failure_starts_nothing() {
    let mut desk = Desk::new(vec![plan(&[]), plan(&[])], settings(), &[&[(0, Costly)], &[(1, Missing)]]);
    let _ = desk.begin();
    assert_eq!(desk.fails(1, EXIT), [failed(1, EXIT), ended(1, StepEnd::Failed)]);
    let yes = Event::Answered { task: TaskId(0), refusal: None };
    assert_eq!(desk.tell(yes), [skipped(0, Why::Another), Effect::Finish]);
}

#[test]
fn a_long_chain_and_a_wide_step_cost_no_more_than_their_length() {
    // Each of these would take minutes, or all of the stack, if an event looked at everything.
    const LENGTH: usize = 100_000;
    let chain = |first| {
        let mut plans: Vec<StepPlan> = (1..LENGTH).map(|i| plan(&[i - 1])).collect();
        plans.insert(0, plan(&[]));
        let mut store: Vec<&[(u8, There)]> = vec![&[(1, Here)]; LENGTH];
        store[0] = first;
        Desk::new(plans, Settings { keep_going: true, ..settings() }, &store)
    };
    assert_eq!(chain(&[(0, Here)]).begin().len(), LENGTH + 1);
    let mut broken = chain(&[(0, Missing)]);
    let _ = broken.begin();
    let then = broken.fails(0, EXIT);
    assert_eq!(then[LENGTH], skipped(LENGTH - 1, Why::Before));

    let mut wide = Desk::new(vec![plan(&[])], settings(), &[&[]]);
    let open = wide.scheduler.on(Event::Begin);
    assert_eq!(open.len(), 1);
    let key = |n: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        Key::new(blake3::Hash::from_bytes(hash))
    };
    let tasks = (0..LENGTH).map(|n| Sought { key: key(n / 2), here: false, ask: false }).collect();
    let found = Found::Tasks { tasks, dropped: Vec::new() };
    let mut running = wide.scheduler.on(Event::Looked { step: StepId(0), found });
    let mut made = 0;
    while let Some(effect) = running.pop() {
        match effect {
            Effect::Start { task, .. } => {
                made += 1;
                running.extend(wide.made(task.0));
            }
            Effect::Share { .. } => made += 1,
            _ => {}
        }
    }
    assert_eq!(made, LENGTH);
}

/// What is no longer what an action says.
fn parts() -> Vec<Change> {
    vec![Change { kind: PartKind::Program, name: "prog".into(), file: None, put_back: false }]
}

fn stale(task: usize) -> Event {
    Event::Ended { task: TaskId(task), end: Attempted::Stale(parts()) }
}

fn anew(task: usize) -> Effect {
    Effect::Anew { task: TaskId(task), parts: parts() }
}

#[test]
fn a_step_that_changed_is_looked_at_anew_when_what_runs_has_ended() {
    let mut settings = settings();
    settings.capacity.jobs = 2;
    let store: [&[_]; 2] = [&[(0, Missing), (1, Missing), (2, Missing)], &[(9, Missing)]];
    let mut desk = Desk::new(vec![plan(&[]), plan(&[])], settings, &store);
    assert_eq!(desk.begin(), [start(0), start(1)]);
    // Nothing more of the step starts; what is not of it goes on.
    assert_eq!(desk.tell(stale(1)), [anew(1), start(3)]);
    desk.store[0] = vec![(0, Here), (4, Missing), (5, Missing)];
    assert_eq!(desk.made(0), [start(5)]);
    assert_eq!(desk.made(3), [ran(1), start(6)]);
    assert_eq!(desk.made(5), []);
    assert_eq!(desk.made(6), [ended(0, StepEnd::Ran { ran: 3, all: 3 }), Effect::Finish]);
}

#[test]
fn a_step_that_changes_again_and_again_has_failed() {
    let mut desk = Desk::new(vec![plan(&[])], settings(), &[&[(0, Missing)]]);
    let _ = desk.begin();
    for task in 0..5 {
        assert_eq!(desk.tell(stale(task)), [anew(task), start(task + 1)]);
    }
    let unsteady = Failure::Unsteady { parts: parts() };
    assert_eq!(desk.tell(stale(5)), [failed(5, unsteady), ended(0, StepEnd::Failed), Effect::Finish]);
}

#[test]
fn a_step_that_changed_while_the_run_ends_is_skipped() {
    let mut desk = Desk::new(vec![plan(&[])], settings(), &[&[(0, Missing)]]);
    let _ = (desk.begin(), desk.tell(Event::Stop));
    assert_eq!(desk.tell(stale(0)), [skipped(0, Why::Stopped), Effect::Finish]);
}

#[test]
fn what_was_asked_for_or_fetched_meanwhile_is_dropped_with_its_step() {
    let settings = Settings { cache: true, transfers: 1, ..settings() };
    let mut desk = Desk::new(vec![plan(&[])], settings, &[&[(0, Missing), (1, Missing), (2, Costly)]]);
    let _ = (desk.begin(), desk.fetched(0, false));
    assert_eq!(desk.tell(stale(0)), [anew(0)]);
    desk.store[0] = vec![(5, Here)];
    assert_eq!(desk.fetched(1, false), [ended(0, StepEnd::Cached), Effect::Finish]);
}

#[test]
fn a_step_that_can_no_longer_be_looked_up_has_failed() {
    for keep_going in [true, false] {
        let settings = Settings { keep_going, ..settings() };
        let mut scheduler = Scheduler::new(vec![plan(&[]), plan(&[0]), plan(&[])], settings);
        let _ = scheduler.on(Event::Begin);
        let then = scheduler.on(Event::Looked { step: StepId(0), found: Found::Failed });
        let (end, why) = (ended(0, StepEnd::Failed), if keep_going { Why::Before } else { Why::Another });
        assert!(then.contains(&end) && then.contains(&skipped(1, why)), "{then:?}");
        let found = Found::Tasks { tasks: Vec::new(), dropped: Vec::new() };
        let then = scheduler.on(Event::Looked { step: StepId(2), found });
        assert_eq!(then.contains(&skipped(2, Why::Another)), !keep_going, "{then:?}");
    }
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut desk = Desk::new(vec![plan(&[])], settings(), &[&[(0, Missing)]]);
    assert_eq!(desk.begin(), [start(0)]);
    assert_eq!(desk.fetched(0, true), []);
    assert_eq!(desk.sent(0), []);
    assert_eq!(desk.tell(Event::Answered { task: TaskId(0), refusal: None }), []);
    assert_eq!(desk.tell(Event::Gathered { step: StepId(0), restored: true }), []);
    assert_eq!(desk.made(0), [ran(0), Effect::Finish]);
    assert_eq!(desk.made(0), []);
}
