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

/** Calls back when something has changed: `study` (all of it), `states` (with indices), `table`, `runs`, `live`, `connection`. */
function listen(listener, signal) {
  known.listeners.add(listener);
  signal.addEventListener('abort', () => known.listeners.delete(listener));
}

function tell(what, value) {
  known.listeners.forEach((listener) => listener(what, value));
}

async function refetch() {
  known.study = await get('study');
  tell('study');
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
  on('hello', ({ version }) => { if (known.study && known.study.version !== version) refetch().catch(() => {}); });
  on('states', ({ version, states }) => {
    if (!known.study) return;
    known.study.version = version;
    const before = states.map(([index]) => known.study.steps[index]?.state);
    states.forEach(([index, value]) => { if (known.study.steps[index]) known.study.steps[index].state = value; });
    tell('states', { indices: states.map(([index]) => index), before });
  });
  on('study', () => refetch().then(() => tell('table')).catch(() => {}));
  on('table', () => tell('table'));
  on('runs', () => tell('runs'));
  on('live', (live) => { if (known.study) known.study.live = live; tell('live'); });
  on('log', (grown) => known.logs.forEach((listener) => listener(grown)));
  on('problem', (problem) => { if (known.study) known.study.error = problem.error; tell('live'); });
  on('bye', () => { events.close(); connection('ended'); });
  return events;
}
