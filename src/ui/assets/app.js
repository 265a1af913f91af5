'use strict';
// The page: which view an address shows, the head of it, and the views that are only tables.

const marked = new Set();
const VIEWS = [
  [/^$/, graphView, 'Graph'], [/^table$/, tablePage, 'Table'], [/^compare$/, compareView, 'Compare'], [/^runs$/, runsView, 'Runs'],
  [/^run\//, runView, 'Run'], [/^step\//, stepView, 'Step'], [/^stage\//, stageView, 'Stage'], [/^content\//, contentView, 'Content'],
];
let shown = null;

function address() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  return { path, query: Object.fromEntries(new URLSearchParams(query ?? '')) };
}

/** Keeps what a person chose in the address, so that it can be sent on, and is there again on the way back. */
function remember(path, view) {
  const chosen = Object.entries(view).filter(([, value]) => value !== undefined && value !== '');
  const query = new URLSearchParams(chosen).toString();
  history.replaceState(null, '', `#/${path}${query ? `?${query}` : ''}`);
}

async function route() {
  if (location.hash !== '' && !location.hash.startsWith('#/')) return;
  const at = address();
  const [, view, name] = VIEWS.find(([pattern]) => pattern.test(at.path)) ?? [null, missing, 'Nothing'];
  shown?.abort();
  shown = new AbortController();
  const { signal } = shown;
  const focused = document.activeElement?.id;
  const main = h('main', { id: 'main', tabindex: '-1' });
  document.getElementById('main').replaceWith(main);
  document.querySelectorAll('nav a').forEach((link) => {
    const is = link.getAttribute('href') === `#/${at.path}`;
    if (is) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
  });
  try {
    if (!known.study) { say(main, 'Reading…'); await refetch(); main.replaceChildren(); heading(); }
    await view(main, at, signal);
  } catch (error) {
    if (signal.aborted) return;
    fill(main, h('h1', {}, name), h('p', { class: 'problem', role: 'alert' }, `This cannot be shown: ${error.message}.`));
  }
  if (signal.aborted) return;
  const title = main.querySelector('h1')?.textContent ?? name;
  document.title = title === known.study?.study ? title : `${title} · ${known.study?.study ?? 'pipeline'}`;
  main.setAttribute('aria-label', visible(title));
  if (route.moved) {
    // What a person holds stays held where it is there again, as the choice of a variant.
    const again = focused && main.querySelector(`#${CSS.escape(focused)}`);
    (again || main).focus({ preventScroll: true });
    if (!again) scrollTo(0, 0);
  }
  route.moved = true;
  performance.mark('shown');
}

function missing(main) {
  fill(main, h('h1', {}, 'Nothing is here'), h('p', {}, h('a', { href: '#/' }, 'To the graph')));
}

function heading() {
  const { study } = known;
  say(document.getElementById('study'), study.study);
  const status = document.getElementById('connection');
  const live = study.live.map((run) => run.name ?? run.run);
  const words = { static: `export of ${moment(study.made)}`, connecting: 'connecting', lost: 'connection lost; trying again', ended: 'the server has ended',
    live: live.length ? `${counted(live.length, 'run')} under way` : 'no run under way' };
  say(status, words[known.connected]);
  status.className = known.connected === 'live' && live.length ? 'running' : known.connected;
}

/** Draws what is read, and again whenever it is told to be another: what is told while an answer is on its way is read once more. */
async function upToDate(of, read, draw, signal) {
  let [due, busy] = [true, false];
  const work = async () => {
    busy = true;
    try {
      while (due && !signal.aborted) {
        due = false;
        const data = await read();
        if (!signal.aborted) draw(data);
      }
    } finally {
      busy = false;
    }
  };
  listen((what) => {
    if (what !== of) return;
    due = true;
    // What could not be read now is read when the next change is told.
    if (!busy) work().catch(() => {});
  }, signal);
  await work();
}

/** The table of variants, or of past runs. */
async function tablePage(main, { path, query }, signal) {
  const runs = query.of === 'runs';
  const choices = h('p', { class: 'choices' });
  let [seeds, table] = [false, null];
  const choice = (name, value, text) => {
    const next = { ...query, [name]: value, columns: undefined };
    const used = new URLSearchParams(Object.entries(next).filter(([, v]) => v)).toString();
    return h('a', { href: `#/table${used ? `?${used}` : ''}`, 'data-keep': `${name} ${value}`, 'aria-current': (query[name] ?? '') === value ? 'true' : null }, text);
  };
  const choose = () => anew(choices, () => fill(choices, choice('of', '', 'variants'), choice('of', 'runs', 'past runs'),
    !runs && seeds && h('span', { class: 'choices' }, choice('seeds', '', 'seeds together'), choice('seeds', 'each', 'each seed'))));
  const draw = (data) => {
    const each = query.seeds === 'each' && data.rows_each;
    const rows = (each ? data.rows_each : data.rows).map((row) => {
      const title = runs ? `${String(row.cells[0])} ${row.variant}`.trim() : row.variant || known.study.study;
      return { ...row, name: title, link: runs ? `#/compare?rows=${encodeURIComponent(row.id)}` : `#/?variant=${encodeURIComponent(row.variant)}` };
    });
    seeds = Boolean(data.rows_each);
    choose();
    const is = { columns: data.columns, rows, caption: runs ? 'Past runs' : 'Variants' };
    if (table) { table.update(is); return; }
    table = tableView(is, query, marked, (view) => { remember(path, view); choose(); });
    fill(main, h('h1', {}, 'Table'), choices, table.element);
  };
  await upToDate(runs ? 'runs' : 'table', () => get(runs ? 'table-runs' : 'table'), draw, signal);
}

async function runsView(main, { path, query }, signal) {
  let table = null;
  const draw = ({ runs }) => {
    const columns = [['run', 'of'], ['began', 'of'], ['seconds', 'seconds'], ['result', 'state'], ['ran', 'metric'], ['cached', 'metric'], ['failed', 'metric'], ['commit', 'of'], ['host', 'of'], ['GPUs', 'of'], ['note', 'of']];
    const data = { caption: 'Runs', columns: columns.map(([name, kind]) => ({ name, kind, numeric: kind === 'seconds' || kind === 'metric', shown: true })),
      rows: runs.map((run) => ({ id: run.run, name: run.name ?? run.run, link: run.detail ? `#/${run.detail}` : null, cells: [
        run.name ?? run.run, moment(run.started), run.finished ? run.finished - run.started : null, run.result, run.counts.ran ?? null, run.counts.cached ?? null, run.counts.failed ?? null,
        run.commit ? run.commit.slice(0, 8) + (run.changed ? '+' : '') : null, run.host, run.gpus.length ? run.gpus.join(', ') : null, run.note] })) };
    if (table) { table.update(data); return; }
    table = tableView(data, query, null, (view) => remember(path, view));
    fill(main, h('h1', {}, 'Runs'), table.element);
  };
  await upToDate('runs', () => get('runs'), draw, signal);
}

async function runView(main, { path }, signal) {
  const run = await get(path);
  if (signal.aborted) return;
  const stages = run.stages.map((row) => [row.stage, state(row.fate), row.reason ?? '', row.seconds === undefined || row.seconds === null ? '–' : duration(row.seconds)]);
  const attempts = (run.attempts ?? []).map((a) => [a.task, String(a.attempt), moment(a.started), duration(a.seconds),
    a.failure ? tree(a.failure, null, false) : String(a.exit ?? '–'), a.peak_memory ? bytes(a.peak_memory) : '–', a.host ?? '–', (a.gpus ?? []).join(', ') || '–']);
  const asked = { began: moment(run.started), ended: moment(run.finished), note: run.note, commit: run.commit && `${run.commit}${run.changed ? ', files differed from it' : ''}`,
    host: run.machine?.host, processor: run.machine?.processor, GPUs: run.machine?.gpus?.map((gpu) => gpu.name ?? gpu).join(', '), driver: run.machine?.driver, kernel: run.machine?.kernel, runner: run.runner, asked: run.asked };
  fill(main, h('p', { class: 'crumbs' }, h('a', { href: '#/runs' }, 'Runs')), h('h1', {}, run.name ?? run.run), run.error && h('p', { class: 'problem' }, run.error),
    run.rows?.length > 0 && h('p', {}, h('a', { class: 'button', href: `#/compare?rows=${run.rows.slice(0, MOST).map(encodeURIComponent).join(',')}` }, 'Curves and scores')),
    section('Stages', small('Stages', ['stage', 'what became of it', 'why', 'took'], stages)),
    attempts.length > 0 && section('Attempts', small('Attempts', ['task', 'attempt', 'began', 'took', 'end', 'peak memory', 'host', 'GPUs'], attempts)),
    run.logs?.length > 0 && section('Logs', logs(run.logs, () => run.finished === null || run.finished === undefined, signal).element),
    section('Circumstances', named(Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined && value !== null && value !== '')))));
}

addEventListener('hashchange', route);
document.getElementById('skip').addEventListener('click', (event) => { event.preventDefault(); document.getElementById('main').focus(); });
listen((what) => { if (known.study && (what === 'connection' || what === 'live' || what === 'study')) heading(); }, new AbortController().signal);
connect();
route();
