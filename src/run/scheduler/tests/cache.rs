//! The shared cache: asked before a task runs, filled after it has.

use super::*;

fn shared(settings: Settings) -> Settings {
    Settings { cache: true, ..settings }
}

#[test]
fn a_transfer_arrives_while_the_slot_is_free() {
    let store: [&[_]; 2] = [&[(0, Missing)], &[(1, Missing)]];
    for (hit, then) in [(true, vec![ended(0, StepEnd::Fetched)]), (false, vec![start(0)])] {
        let mut desk = Desk::new(vec![plan(&[]), plan(&[])], shared(one_at_a_time()), &store);
        assert_eq!(desk.begin(), [fetch(0), fetch(1)]);
        assert_eq!(desk.fetched(0, hit), then);
    }
}

#[test]
fn a_transfer_that_misses_waits_for_its_slot() {
    let store: [&[_]; 2] = [&[(0, Missing)], &[(1, Missing)]];
    let mut desk = Desk::new(vec![plan(&[]), plan(&[])], shared(one_at_a_time()), &store);
    let _ = desk.begin();
    assert_eq!(desk.fetched(1, false), [start(1)]);
    assert_eq!(desk.fetched(0, false), []);
    assert_eq!(desk.made(1), [ran(1), start(0), send(1)]);
    assert_eq!(desk.sent(1), []);
    assert_eq!(desk.made(0), [ran(0), send(0)]);
    assert_eq!(desk.sent(0), [Effect::Finish]);
}

#[test]
fn so_many_travel_side_by_side() {
    let tasks: Vec<_> = (0..6).map(|key| (key, Missing)).collect();
    let mut desk = Desk::new(vec![plan(&[])], shared(settings()), &[&tasks]);
    assert_eq!(desk.begin(), [fetch(0), fetch(1), fetch(2), fetch(3)]);
    assert_eq!(desk.fetched(2, true), [fetch(4)]);
    assert_eq!(desk.fetched(0, false), [start(0), fetch(5)]);
    assert_eq!(desk.fetched(1, true), []);
    assert_eq!(desk.made(0), [send(0)]);
}

#[test]
fn what_is_forced_is_not_asked_for() {
    let mut plans = vec![plan(&[])];
    plans[0].forced = true;
    let mut desk = Desk::new(plans, shared(settings()), &[&[(0, Missing)]]);
    assert_eq!(desk.begin(), [start(0)]);
}

#[test]
fn what_another_runner_made_is_not_sent() {
    let mut desk = Desk::new(vec![plan(&[])], shared(settings()), &[&[(0, Missing)]]);
    let _ = (desk.begin(), desk.fetched(0, false));
    let then = desk.tell(Event::Ended { task: TaskId(0), end: Attempted::Elsewhere });
    assert_eq!(then, [ended(0, StepEnd::Cached), Effect::Finish]);
}

#[test]
fn readers_do_not_wait_for_what_is_sent() {
    let plans = vec![plan(&[]), plan(&[0])];
    let mut desk = Desk::new(plans, shared(settings()), &[&[(0, Missing)], &[(1, Missing)]]);
    let _ = (desk.begin(), desk.fetched(0, false));
    assert_eq!(desk.made(0), [ran(0), fetch(1), send(0)]);
    assert_eq!(desk.fetched(1, true), [ended(1, StepEnd::Fetched)]);
    assert_eq!(desk.sent(0), [Effect::Finish]);
}

#[test]
fn of_two_equal_actions_one_is_fetched() {
    let plans = vec![plan(&[]), plan(&[])];
    let mut desk = Desk::new(plans, shared(settings()), &[&[(7, Missing)], &[(7, Missing)]]);
    assert_eq!(desk.begin(), [fetch(0)]);
    let fetched = [ended(1, StepEnd::Fetched), ended(0, StepEnd::Fetched)];
    let [first, second] = fetched;
    assert_eq!(desk.fetched(0, true), [share(1, 0), first, second, Effect::Finish]);
}

#[test]
fn after_a_failure_results_are_still_sent_and_nothing_is_fetched() {
    let mut settings = shared(settings());
    settings.transfers = 1;
    let store: [&[_]; 3] = [&[(0, Missing)], &[(1, Missing)], &[(2, Missing)]];
    let mut desk = Desk::new(vec![plan(&[]), plan(&[]), plan(&[])], settings, &store);
    assert_eq!(desk.begin(), [fetch(0)]);
    assert_eq!(desk.fetched(0, false), [start(0), fetch(1)]);
    assert_eq!(desk.fetched(1, false), [start(1), fetch(2)]);
    assert_eq!(desk.made(0), [ran(0)], "its turn comes after what is on its way");
    assert_eq!(desk.fails(1, EXIT), [failed(1, EXIT), ended(1, StepEnd::Failed)]);
    assert_eq!(desk.fetched(2, false), [skipped(2, Why::Another), send(0)], "a miss does not run any more");
    assert_eq!(desk.sent(0), [Effect::Finish]);
}

#[test]
fn what_came_after_a_failure_is_taken() {
    let store: [&[_]; 2] = [&[(0, Missing)], &[(1, Missing)]];
    let mut desk = Desk::new(vec![plan(&[]), plan(&[])], shared(settings()), &store);
    let _ = (desk.begin(), desk.fetched(0, false), desk.fails(0, EXIT));
    assert_eq!(desk.fetched(1, true), [ended(1, StepEnd::Fetched), Effect::Finish]);
}

#[test]
fn a_stop_sends_nothing_more() {
    let mut settings = shared(settings());
    settings.transfers = 1;
    let store: [&[_]; 3] = [&[(0, Missing)], &[(1, Missing)], &[(2, Missing)]];
    let mut desk = Desk::new(vec![plan(&[]), plan(&[]), plan(&[])], settings, &store);
    let _ = (desk.begin(), desk.fetched(0, false), desk.made(0));
    assert_eq!(desk.tell(Event::Stop), [skipped(2, Why::Stopped)]);
    assert_eq!(desk.fetched(1, false), [skipped(1, Why::Stopped), Effect::Finish]);
}
