//! What starts when: slots, GPUs, inputs, early cutoff, consent, equal actions.

use super::*;

#[test]
fn tasks_start_in_order_as_far_as_there_is_room() {
    let asks = |cpus| {
        let mut plan = plan(&[]);
        plan.request.cpus = cpus;
        plan
    };
    // Of four cores; the last asks for more than there are, which is all of them.
    let plans = vec![asks(2), asks(3), asks(1), asks(9)];
    let store: [&[_]; 4] = [&[(0, Missing)], &[(1, Missing)], &[(2, Missing)], &[(3, Missing)]];
    let mut desk = Desk::new(plans, settings(), &store);
    assert_eq!(desk.begin(), [start(0), start(2)], "what fits goes before what does not fit yet");
    assert_eq!(desk.made(2), [ran(2)]);
    assert_eq!(desk.made(0), [ran(0), start(1)]);
    assert_eq!(desk.made(1), [ran(1), start(3)]);
    assert_eq!(desk.made(3), [ran(3), Effect::Finish]);
}

#[test]
fn whoever_came_first_goes_first() {
    let asks = |cpus| {
        let mut plan = plan(&[]);
        plan.request.cpus = cpus;
        plan
    };
    let plans = vec![asks(4), asks(3), asks(2), asks(3)];
    let store: [&[_]; 4] = [&[(0, Missing)], &[(1, Missing)], &[(2, Missing)], &[(3, Missing)]];
    let mut desk = Desk::new(plans, settings(), &store);
    assert_eq!(desk.begin(), [start(0)]);
    assert_eq!(desk.made(0), [ran(0), start(1)]);
    assert_eq!(desk.made(1), [ran(1), start(2)]);
}

#[test]
fn one_task_at_a_time() {
    let store: [&[_]; 2] = [&[(0, Missing), (1, Missing)], &[(2, Missing)]];
    let mut desk = Desk::new(vec![plan(&[]), plan(&[])], one_at_a_time(), &store);
    assert_eq!(desk.begin(), [start(0)]);
    assert_eq!(desk.made(0), [start(1)]);
    assert_eq!(desk.made(1), [ended(0, StepEnd::Ran { ran: 2, all: 2 }), start(2)]);
    assert_eq!(desk.made(2), [ran(1), Effect::Finish]);
}

#[test]
fn memory_is_counted() {
    let mut plans = vec![plan(&[]), plan(&[])];
    plans.iter_mut().for_each(|plan| plan.request.memory = 60);
    let mut desk = Desk::new(plans, settings(), &[&[(0, Missing)], &[(1, Missing)]]);
    assert_eq!(desk.begin(), [start(0)]);
    assert_eq!(desk.made(0), [ran(0), start(1)]);
}

#[test]
fn gpus_are_handed_out_from_one_end() {
    let on = |task, gpus: &[usize]| Effect::Start {
        task: TaskId(task),
        gpus: gpus.to_vec(),
        attempt: 1,
        after: None,
    };
    for (from_top, first, second) in [(false, 0, 1), (true, 1, 0)] {
        let mut plans = vec![plan(&[]), plan(&[]), plan(&[]), plan(&[])];
        for (plan, gpus) in plans.iter_mut().zip([1, 1, 1, 2]) {
            plan.request.gpus = gpus;
        }
        let mut settings = settings();
        settings.capacity.gpus_from_top = from_top;
        let store: [&[_]; 4] = [&[(0, Missing)], &[(1, Missing)], &[(2, Missing)], &[(3, Missing)]];
        let mut desk = Desk::new(plans, settings, &store);
        assert_eq!(desk.begin(), [on(0, &[first]), on(1, &[second])]);
        assert_eq!(desk.made(1), [ran(1), on(2, &[second])]);
        assert_eq!(desk.made(0), [ran(0)]);
        assert_eq!(desk.made(2), [ran(2), on(3, &[0, 1])]);
    }
}

#[test]
fn more_gpus_than_there_are_is_a_failure() {
    let mut plans = vec![plan(&[]), plan(&[0])];
    plans[0].request.gpus = 3;
    let mut desk = Desk::new(plans, settings(), &[&[(0, Missing)], &[(1, Missing)]]);
    let no_room = Failure::NoRoom { gpus: 3, there: 2 };
    assert_eq!(
        desk.begin(),
        [failed(0, no_room), skipped(1, Why::Another), ended(0, StepEnd::Failed), Effect::Finish]
    );
}

#[test]
fn a_step_is_looked_at_when_its_inputs_are_known() {
    let plans = vec![plan(&[]), plan(&[0, 0]), plan(&[0, 1])];
    let store: [&[_]; 3] = [&[(0, Missing)], &[(1, Missing)], &[(2, Missing)]];
    let mut desk = Desk::new(plans, settings(), &store);
    assert_eq!(desk.begin(), [start(0)]);
    assert_eq!(desk.looks, [(0, false)]);
    assert_eq!(desk.made(0), [ran(0), start(1)]);
    assert_eq!(desk.made(1), [ran(1), start(2)]);
    assert_eq!(desk.made(2), [ran(2), Effect::Finish]);
}

#[test]
fn an_early_cutoff_runs_nothing_more() {
    // The first made what it had made before, so the results of those behind it are there.
    let plans = vec![plan(&[]), plan(&[0]), plan(&[1])];
    let mut desk = Desk::new(plans, settings(), &[&[(0, Missing)], &[(1, Here)], &[(2, Here)]]);
    assert_eq!(desk.begin(), [start(0)]);
    let cached = |step| ended(step, StepEnd::Cached);
    assert_eq!(desk.made(0), [ran(0), cached(1), cached(2), Effect::Finish]);
}

#[test]
fn of_a_mapped_step_only_what_is_missing_runs() {
    let store: [&[_]; 1] = [&[(0, Here), (1, Missing), (2, Here)]];
    let mut desk = Desk::new(vec![plan(&[])], settings(), &store);
    assert_eq!(desk.begin(), [start(1)]);
    assert_eq!(desk.made(1), [ended(0, StepEnd::Ran { ran: 1, all: 3 }), Effect::Finish]);
}

#[test]
fn no_tasks_and_no_steps_end_as_well() {
    let mut desk = Desk::new(vec![plan(&[])], settings(), &[&[]]);
    assert_eq!(desk.begin(), [ended(0, StepEnd::Cached), Effect::Finish]);
    let mut unwanted = plan(&[]);
    unwanted.wanted = false;
    let mut desk = Desk::new(vec![unwanted], settings(), &[&[(0, Missing)]]);
    assert_eq!(desk.begin(), [Effect::Finish]);
}

#[test]
fn a_replaced_step_stands_for_itself() {
    let mut scheduler = Scheduler::new(vec![plan(&[]), plan(&[0])], settings());
    let _ = scheduler.on(Event::Begin);
    let replaced = scheduler.on(Event::Looked { step: StepId(0), found: Found::Replaced });
    let look = Effect::Look { step: StepId(1), whole: false };
    assert_eq!(replaced, [ended(0, StepEnd::Replaced), look]);
}

#[test]
fn what_out_no_longer_showed_is_told() {
    let mut scheduler = Scheduler::new(vec![plan(&[])], settings());
    let _ = scheduler.on(Event::Begin);
    let sought = Sought { key: key_of(0), here: true, ask: false };
    let found = Found::Tasks { tasks: vec![sought], dropped: Vec::new() };
    let gather = scheduler.on(Event::Looked { step: StepId(0), found });
    assert_eq!(gather, [Effect::Gather { step: StepId(0) }]);
    let end = scheduler.on(Event::Gathered { step: StepId(0), restored: true });
    assert_eq!(end, [ended(0, StepEnd::Restored), Effect::Finish]);
}

#[test]
fn of_two_equal_actions_one_runs() {
    let store: [&[_]; 2] = [&[(7, Missing), (7, Missing)], &[(7, Missing)]];
    let mut desk = Desk::new(vec![plan(&[]), plan(&[])], settings(), &store);
    assert_eq!(desk.begin(), [start(0)]);
    let end = ended(0, StepEnd::Ran { ran: 1, all: 2 });
    let cached = ended(1, StepEnd::Cached);
    assert_eq!(desk.made(0), [share(1, 0), end, share(2, 0), cached, Effect::Finish]);
}

#[test]
fn an_equal_action_goes_ahead_when_the_first_fails() {
    let settings = Settings { keep_going: true, ..settings() };
    let store: [&[_]; 3] = [&[(7, Missing)], &[(7, Missing)], &[(7, Missing)]];
    let mut desk = Desk::new(vec![plan(&[]), plan(&[]), plan(&[])], settings, &store);
    assert_eq!(desk.begin(), [start(0)]);
    assert_eq!(desk.fails(0, EXIT), [failed(0, EXIT), ended(0, StepEnd::Failed), start(1)]);
    let cached = ended(2, StepEnd::Cached);
    assert_eq!(desk.made(1), [share(2, 1), cached, ran(1), Effect::Finish]);
}

#[test]
fn a_forced_task_is_content_with_what_this_run_made() {
    let mut plans = vec![plan(&[]), plan(&[])];
    plans[1].forced = true;
    for (end, shared) in [(Attempted::Made, true), (Attempted::Elsewhere, false)] {
        let mut desk = Desk::new(plans.clone(), settings(), &[&[(7, Missing)], &[(7, Missing)]]);
        assert_eq!(desk.begin(), [start(0)]);
        let then = desk.tell(Event::Ended { task: TaskId(0), end });
        assert_eq!(then.contains(&share(1, 0)), shared, "{then:?}");
        assert_eq!(then.contains(&start(1)), !shared, "{then:?}");
    }
}

#[test]
fn consent_is_asked_while_the_rest_goes_on() {
    let ask = Effect::Ask { task: TaskId(0) };
    let refusal = Failure::Refused { seconds: 9000.0, stage: "train".into() };
    let store: [&[_]; 3] = [&[(0, Costly)], &[(1, Missing)], &[(2, Missing)]];
    let plans = || vec![plan(&[]), plan(&[]), plan(&[0])];
    let answer = |refusal| Event::Answered { task: TaskId(0), refusal };

    let mut desk = Desk::new(plans(), settings(), &store);
    assert_eq!(desk.begin(), [ask.clone(), start(1)]);
    assert_eq!(desk.tell(answer(None)), [start(0)]);
    assert_eq!(desk.made(0), [ran(0), start(2)]);

    let mut desk = Desk::new(plans(), settings(), &store);
    let _ = desk.begin();
    let refused = desk.tell(answer(Some(refusal.clone())));
    assert_eq!(refused, [failed(0, refusal), skipped(2, Why::Another), ended(0, StepEnd::Failed)]);
    assert_eq!(desk.made(1), [ran(1), Effect::Finish]);
}
