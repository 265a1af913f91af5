'use strict';
// A step of a stage: why it ran, its line, its log, what it read and what it made; and the steps of a stage in a table.

function named(values) {
  return h('dl', { class: 'named' }, Object.entries(values).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, cell(value) === '' ? '–' : cell(value))]));
}

function ranFacts(ran) {
  const shown = {};
  const add = (name, value) => { if (value !== undefined && value !== null && value !== '') shown[name] = value; };
  add('ended', moment(ran.finished));
  add('took', ran.seconds === undefined ? null : duration(ran.seconds));
  add('host', ran.host);
  add('processor', ran.cpus ? `${ran.processor}, ${counted(ran.cpus, 'CPU')}` : ran.processor);
  add('device', ran.device);
  add('GPUs', ran.gpus?.join(', '));
  add('driver', ran.driver);
  add('threads', ran.threads);
  add('peak memory', ran.peak_memory ? bytes(ran.peak_memory) : null);
  add('engine', ran.engine);
  add('libtorch', ran.libtorch);
  add('kernel', ran.kernel);
  add('commit', ran.commit ? `${ran.commit.slice(0, 12)}${ran.changed ? ', files differed from it' : ''}` : null);
  add('runner', ran.runner);
  return named(shown);
}

/** The logs of a step: one that is chosen is shown, and stays until another is; while nobody chose and its end is followed, the newest. */
function logs(list, running, signal) {
  const holder = h('div', {});
  const none = h('p', { class: 'hint' }, 'No log is kept.');
  const choose = h('select', { id: 'log', onchange: () => { chosen = true; show(choose.value); } });
  const tools = h('p', { class: 'tools' }, h('label', { for: 'log' }, 'Log'), choose);
  const options = new Map();
  let [inner, view, shown, chosen] = [null, null, null, false];
  const show = (name) => {
    inner?.abort();
    inner = new AbortController();
    signal.addEventListener('abort', () => inner.abort());
    shown = name;
    view = logView(name, running, inner.signal);
    fill(holder, view.element);
  };
  const update = (next) => {
    none.hidden = next.length > 0;
    tools.hidden = next.length < 2;
    settle(choose, next.map((log) => {
      const option = options.get(log.name) ?? h('option', { value: log.name });
      options.set(log.name, option);
      say(option, `${log.label}${log.kind === 'events' ? ': what it reported' : ''}, run ${log.run} (${bytes(log.bytes)})`);
      return option;
    }));
    const first = next.find((log) => log.kind === 'log' && log.bytes > 0) ?? next.find((log) => log.bytes > 0) ?? next[0];
    const free = !chosen && view?.following() && !holder.contains(document.activeElement);
    if (first && first.name !== shown && (free || !next.some((log) => log.name === shown))) show(first.name);
    choose.value = shown;
  };
  update(list);
  return { element: [none, tools, holder], update };
}

function outputs(list, signal, opened) {
  return list.map((output) => {
    const summary = [h('b', {}, output.name), ' ', digest(output.digest), h('span', { class: 'hint' }, ` ${bytes(output.bytes)}${output.files > 1 ? `, ${counted(output.files, 'file')}` : ''}`)];
    return output.content ? unfolding(output.name, summary, output.content, signal, opened) : h('p', {}, summary, h('span', { class: 'hint' }, ' not at hand'));
  });
}

function inputs(list, signal, opened) {
  const steps = known.study.steps;
  return list.map((input) => {
    const from = input.step !== null && steps[input.step] ? h('a', { href: `#/${steps[input.step].name}` }, input.from) : h('code', {}, input.from);
    const summary = [h('b', {}, input.name), ' from ', from, ' ', digest(input.digest), h('span', { class: 'hint' }, ` ${bytes(input.bytes)}`)];
    return input.content ? unfolding(input.name, summary, input.content, signal, opened) : h('p', {}, summary);
  });
}

async function stepView(main, { path }, signal) {
  let step = null;
  let [due, reading, timer] = [false, false, null];
  /** Reads it again, at most every two seconds, but at once when it stands otherwise. */
  const again = async (now) => {
    due = true;
    if (now) { clearTimeout(timer); timer = null; }
    if (reading || timer) return;
    reading = true;
    while (due && !signal.aborted) {
      due = false;
      // What could not be read now is read when the next change is told.
      const fresh = await get(path).catch(() => null);
      if (!fresh || signal.aborted) continue;
      step = fresh;
      drawStatus();
      parts.forEach(({ draw }) => draw());
    }
    reading = false;
    timer = setTimeout(() => { timer = null; if (due) again(); }, 2000);
  };
  signal.addEventListener('abort', () => clearTimeout(timer));
  let early = false;
  // Before it is read for the first time, so that nothing is missed.
  listen((what, change) => {
    if (!['states', 'curves', 'study', 'table'].includes(what)) return;
    if (!step) { early = true; return; }
    if (what === 'curves') { if (change.includes(step.index)) again(); return; }
    if (what !== 'states') { again(true); return; }
    if (!change.indices.includes(step.index)) return;
    const turned = change.before[change.indices.indexOf(step.index)]?.is !== current().is;
    drawStatus();
    heard(change);
    again(turned);
  }, signal);
  step = await get(path);
  if (signal.aborted) return;
  const status = h('div', { class: 'status' });
  const current = () => known.study.steps[step.index]?.state ?? step.state;
  const drawStatus = () => {
    const is = current();
    const done = share(is);
    anew(status, () => fill(status, h('p', {}, state(is.is), ' ', h('span', { class: 'hint' }, [is.is === 'running' ? speed(is).join(' · ') : duration(is.seconds), devices(is)].filter(Boolean).join(' · '))),
      is.is === 'running' && done !== null && bar(done, `${step.id} so far`),
      is.tasks && h('p', { class: 'hint' }, `${is.tasks[1]} of ${is.tasks[0]} done, ${is.tasks[2]} running, ${is.tasks[3]} failed`),
      is.is === 'failed' && [h('p', { class: 'problem' }, is.reason), is.last && h('pre', { class: 'log', tabindex: '0', 'data-keep': 'last lines', 'aria-label': 'Last lines of its log' }, is.last.join('\n'))]));
  };
  /** A part that changes in itself: `make` gives its elements and what updates them. */
  const lasting = (title, there, data, make) => {
    const holder = h('div', {});
    let made = null;
    const draw = () => {
      if (made) made.update(data());
      else if (there()) { made = make(data()); fill(holder, section(title, made.element)); }
    };
    return { holder, draw };
  };
  const opened = { outputs: new Set(), inputs: new Set() };
  const none = (text) => h('p', { class: 'hint' }, text);
  const parts = [
    part(() => step.why, () => section('Why', step.why.length ? h('ul', { class: 'why' }, step.why.map((why) => h('li', {}, why))) : none('Nothing to say: its result is there.'))),
    part(() => step.command, () => step.command && section('By hand', h('div', { class: 'command' }, h('pre', { class: 'text', tabindex: '0' }, h('code', {}, step.command)), copy(step.command, 'the command line')))),
    lasting('Log', () => true, () => step.logs, (list) => logs(list, () => current().is === 'running', signal)),
    lasting('Curves', () => step.series.length > 0, () => [{ title: step.id, series: step.series }], (rows) => figures(rows, null)),
    part(() => step.outputs, () => section('Outputs', step.outputs.length ? outputs(step.outputs, signal, opened.outputs) : none('None yet.'))),
    part(() => step.inputs, () => section('Inputs', step.inputs.length ? inputs(step.inputs, signal, opened.inputs) : none('None.'))),
    part(() => step.tasks, () => step.tasks.length > 0 && section('Tasks', small('Tasks', ['task', 'state', 'took'], step.tasks.map((task) => [task.label, state(task.is), duration(task.seconds)])),
      step.more_tasks > 0 && none(`and ${step.more_tasks} more`))),
    part(() => [step.params, step.tuning, step.env], () => section('Parameters', Object.keys(step.params).length ? named(step.params) : none('None.'),
      Object.keys(step.tuning).length > 0 && [h('h3', {}, 'Tuning'), named(step.tuning)], Object.keys(step.env).length > 0 && [h('h3', {}, 'Environment'), named(step.env)])),
    part(() => step.metrics, () => Object.keys(step.metrics).length > 0 && section('Metrics', named(Object.fromEntries(Object.entries(step.metrics).map(([name, value]) => [name, significant(value)]))))),
    part(() => [step.key, step.program, step.ran], () => section('Provenance', h('dl', { class: 'named' }, h('dt', {}, 'key'), h('dd', {}, digest(step.key) ?? '–'),
      h('dt', {}, 'program'), h('dd', {}, step.program ? [step.program.name, ' ', digest(step.program.digest?.replace(/^program:/, ''))] : '–')), step.ran && ranFacts(step.ran))),
  ];
  drawStatus();
  parts.forEach(({ draw }) => draw());
  fill(main,
    h('p', { class: 'crumbs' }, h('a', { href: '#/' }, known.study.study), ' / ', h('a', { href: `#/stage/${encodeURIComponent(step.stage)}` }, step.stage)),
    h('h1', {}, step.id), status, parts.map(({ holder }) => holder));

  if (early) again(true);
}

/** All steps of a stage. */
function stageView(main, { path, query }, signal) {
  const stage = decodeURIComponent(path.replace(/^stage\//, ''));
  let table = null;
  const draw = () => {
    const steps = known.study.steps.filter((step) => step.stage === stage);
    const data = { caption: `Steps of ${stage}`, columns: [
      { name: 'step', kind: 'of', shown: true }, { name: 'state', kind: 'state', shown: true },
      { name: 'seconds', kind: 'seconds', numeric: true, shown: true }, { name: 'reason', kind: 'of', shown: true }],
    rows: steps.map((step) => ({ id: step.name, name: step.id, link: `#/${step.name}`, cells: [step.id, step.state.is, step.state.seconds, step.state.reason || null] })) };
    if (table) { table.update(data); return; }
    table = tableView(data, query, null, (view) => remember(path, view));
    fill(main, h('p', { class: 'crumbs' }, h('a', { href: '#/' }, known.study.study)), h('h1', {}, stage), table.element);
  };
  draw();
  let due = null;
  listen((what) => {
    if (what !== 'study' && what !== 'states') return;
    due ??= setTimeout(() => { due = null; if (!signal.aborted) draw(); }, 1000);
  }, signal);
}
