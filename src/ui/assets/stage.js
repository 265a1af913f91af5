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

/** The logs of a step: one that is chosen is shown. */
function logs(list, running, signal) {
  if (!list.length) return h('p', { class: 'hint' }, 'No log is kept.');
  const holder = h('div', {});
  let inner;
  const show = (log) => {
    inner?.abort();
    inner = new AbortController();
    signal.addEventListener('abort', () => inner.abort());
    fill(holder, logView(log.name, running, inner.signal));
  };
  const first = list.find((log) => log.kind === 'log' && log.bytes > 0) ?? list.find((log) => log.bytes > 0) ?? list[0];
  const choose = h('select', { id: 'log', onchange: () => show(list[Number(choose.value)]) },
    list.map((log, i) => h('option', { value: i }, `${log.label}${log.kind === 'events' ? ': what it reported' : ''}, run ${log.run} (${bytes(log.bytes)})`)));
  choose.value = String(list.indexOf(first));
  show(first);
  return [list.length > 1 && h('p', { class: 'tools' }, h('label', { for: 'log' }, 'Log'), choose), holder];
}

function outputs(list, signal) {
  return list.map((output) => {
    const summary = [h('b', {}, output.name), ' ', digest(output.digest), h('span', { class: 'hint' }, ` ${bytes(output.bytes)}${output.files > 1 ? `, ${counted(output.files, 'file')}` : ''}`)];
    return output.content ? unfolding(summary, output.content, signal, false) : h('p', {}, summary, h('span', { class: 'hint' }, ' not at hand'));
  });
}

function inputs(list, signal) {
  const steps = known.study.steps;
  return list.map((input) => {
    const from = input.step !== null && steps[input.step] ? h('a', { href: `#/${steps[input.step].name}` }, input.from) : h('code', {}, input.from);
    const summary = [h('b', {}, input.name), ' from ', from, ' ', digest(input.digest), h('span', { class: 'hint' }, ` ${bytes(input.bytes)}`)];
    return input.content ? unfolding(summary, input.content, signal, false) : h('p', {}, summary);
  });
}

async function stepView(main, { path }, signal) {
  let step = await get(path);
  if (signal.aborted) return;
  const status = h('div', { class: 'status' });
  const chosen = {};
  const current = () => known.study.steps[step.index]?.state ?? step.state;
  const drawStatus = () => {
    const is = current();
    const done = share(is);
    fill(status, h('p', {}, state(is.is), ' ', h('span', { class: 'hint' }, [is.is === 'running' ? speed(is).join(' · ') : duration(is.seconds), devices(is)].filter(Boolean).join(' · '))),
      is.is === 'running' && done !== null && bar(done, `${step.id} so far`),
      is.tasks && h('p', { class: 'hint' }, `${is.tasks[1]} of ${is.tasks[0]} done, ${is.tasks[2]} running, ${is.tasks[3]} failed`),
      is.is === 'failed' && [h('p', { class: 'problem' }, is.reason), is.last && h('pre', { class: 'log', tabindex: '0', 'aria-label': 'Last lines of its log' }, is.last.join('\n'))]);
  };
  /** A part of the page that is made anew only when what it shows has changed: what is open or read in it stays. */
  const part = (data, make) => {
    const holder = h('div', {});
    let old = null;
    const draw = () => {
      const now = JSON.stringify(data());
      if (now === old || holder.contains(document.activeElement)) return;
      fill(holder, make());
      old = now;
    };
    // What somebody holds is made anew when it is let go.
    holder.addEventListener('focusout', () => setTimeout(draw));
    return { holder, draw };
  };
  const none = (text) => h('p', { class: 'hint' }, text);
  const parts = [
    part(() => step.why, () => section('Why', step.why.length ? h('ul', { class: 'why' }, step.why.map((why) => h('li', {}, why))) : none('Nothing to say: its result is there.'))),
    part(() => step.command, () => step.command && section('By hand', h('div', { class: 'command' }, h('pre', { class: 'text', tabindex: '0' }, h('code', {}, step.command)), copy(step.command, 'the command line')))),
    part(() => step.logs.map((log) => log.name), () => section('Log', logs(step.logs, () => current().is === 'running', signal))),
    part(() => step.series, () => step.series.length > 0 && section('Curves', figures([{ title: step.id, series: step.series }], null, chosen))),
    part(() => step.outputs, () => section('Outputs', step.outputs.length ? outputs(step.outputs, signal) : none('None yet.'))),
    part(() => step.inputs, () => section('Inputs', step.inputs.length ? inputs(step.inputs, signal) : none('None.'))),
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

  let again = 0;
  listen(async (what, change) => {
    if (what !== 'states' || !change.indices.includes(step.index)) return;
    const turned = change.before[change.indices.indexOf(step.index)]?.is !== current().is;
    drawStatus();
    heard(change);
    if (!turned && Date.now() - again < 2000) return;
    again = Date.now();
    const fresh = await get(path).catch(() => null);
    if (!fresh || signal.aborted) return;
    step = fresh;
    parts.forEach(({ draw }) => draw());
  }, signal);
}

/** All steps of a stage. */
function stageView(main, { path, query }, signal) {
  const stage = decodeURIComponent(path.replace(/^stage\//, ''));
  const draw = () => {
    const steps = known.study.steps.filter((step) => step.stage === stage);
    const data = { caption: `Steps of ${stage}`, columns: [
      { name: 'step', kind: 'of', shown: true }, { name: 'state', kind: 'state', shown: true },
      { name: 'seconds', kind: 'seconds', numeric: true, shown: true }, { name: 'reason', kind: 'of', shown: true }],
    rows: steps.map((step) => ({ id: step.name, name: step.id, link: `#/${step.name}`, cells: [step.id, step.state.is, step.state.seconds, step.state.reason || null] })) };
    fill(main, h('p', { class: 'crumbs' }, h('a', { href: '#/' }, known.study.study)), h('h1', {}, stage), tableView(data, query, null, (view) => remember(path, view)));
  };
  draw();
  let due = null;
  listen((what) => {
    if (what !== 'study' && what !== 'states') return;
    due ??= setTimeout(() => { due = null; if (!signal.aborted) anew(main, async () => draw()); }, 1000);
  }, signal);
}
