'use strict';
// Where values come from: the server that runs, or the files of an export opened from disk; and what it tells while it runs.

const STATIC = document.documentElement.hasAttribute('data-static');
const waiting = new Map();

/** Called by the files of an export. */
window.pipelineData = (name, value) => {
  waiting.get(name)?.resolve(value);
};

/** The value of a name, as the server or the export has it. */
async function get(name, query = '') {
  if (STATIC) return fromFile(name);
  let answer;
  try {
    answer = await fetch(`api/${name}${query}`, { headers: { accept: 'application/json' } });
  } catch {
    throw new Error('the server does not answer; is `pipeline ui` still running?');
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error ?? `the server answered ${answer.status}`);
  return value;
}

function fromFile(name) {
  if (!waiting.has(name)) {
    const entry = {};
    entry.promise = new Promise((resolve, reject) => { Object.assign(entry, { resolve, reject }); });
    waiting.set(name, entry);
    const script = h('script', { src: `data/${name}.js`, onerror: () => entry.reject(new Error('this is not in the export')) });
    document.head.append(script);
  }
  return waiting.get(name).promise;
}

/** What the page knows of the study, kept up to date by the server's events. */
const known = { study: null, listeners: new Set(), logs: new Set(), connected: STATIC ? 'static' : 'connecting' };

/** Calls back when something has changed: `study` (all of it), `states` (with indices), `curves` (indices), `table`, `runs`, `live`, `connection`. */
function listen(listener, signal) {
  known.listeners.add(listener);
  signal.addEventListener('abort', () => known.listeners.delete(listener));
}

function tell(what, value) {
  known.listeners.forEach((listener) => listener(what, value));
}

// What is told while the study is read may be newer than the answer: it is kept until that is there.
let [reading, newest, told] = [null, 0, []];

/** Reads the study. */
function refetch() {
  reading ??= (async () => {
    told = [];
    let study;
    do study = await get('study'); while (study.version < newest); // it became another one on the way
    told.forEach((work) => work(study));
    known.study = study;
  })().finally(() => { reading = null; });
  return reading.then(() => tell('study'));
}

/** Changes what is known of the study, and what is on its way. */
function change(work) {
  if (known.study) work(known.study);
  if (reading) told.push(work);
}

/** Listens to the server while the page is looked at: a browser has six connections to a server, for all of its tabs together. */
function connect() {
  if (STATIC) return;
  let [events, later] = [null, null];
  const open = () => {
    clearTimeout(later);
    events ??= hear();
  };
  const shut = () => {
    clearTimeout(later);
    events?.close();
    events = null;
  };
  addEventListener('pagehide', shut);
  addEventListener('pageshow', open);
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) later = setTimeout(shut, 10000); else open();
  });
  open();
}

function hear() {
  const events = new EventSource('events');
  const on = (name, work) => events.addEventListener(name, (event) => work(JSON.parse(event.data)));
  const connection = (is) => { known.connected = is; tell('connection'); };
  events.onopen = () => connection('live');
  events.onerror = () => connection('lost');
  // All that may have been missed.
  const whole = () => refetch().then(() => { tell('table'); tell('runs'); }).catch(() => {});
  on('hello', ({ version }) => {
    newest = version; // an answer that is on its way may be older than what is told from now on
    if (known.study && known.study.version !== version) whole();
  });
  on('states', ({ version, states }) => {
    const before = states.map(([index]) => known.study?.steps[index]?.state);
    change((study) => {
      if (version <= study.version) return;
      study.version = version;
      states.forEach(([index, value]) => { if (study.steps[index]) study.steps[index].state = value; });
    });
    if (known.study) tell('states', { indices: states.map(([index]) => index), before });
  });
  on('study', ({ version }) => {
    newest = version;
    whole();
  });
  on('curves', (indices) => tell('curves', indices));
  on('table', () => tell('table'));
  on('runs', () => tell('runs'));
  on('live', (live) => { change((study) => { study.live = live; }); tell('live'); });
  on('log', (grown) => known.logs.forEach((listener) => listener(grown)));
  on('problem', (problem) => { change((study) => { study.error = problem.error; }); tell('live'); });
  on('bye', () => { events.close(); connection('ended'); });
  return events;
}
