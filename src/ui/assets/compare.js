'use strict';
// Marked rows beside each other: curves over one another, what differs, scores, and sample grids.

const MOST = 24; // rows that can be told apart by colour and dashes

/** Lines of several rows, by what they measure: `[{title, across, lines}]`. */
function byQuantity(rows) {
  const figures = new Map();
  rows.forEach((row, index) => row.series.forEach((series) => {
    const id = `${series.name}\n${series.x_name}`;
    if (!figures.has(id)) figures.set(id, { title: series.name, across: series.x_name, lines: [] });
    const { lines } = figures.get(id);
    const again = lines.some((line) => line.index === index);
    lines.push({ name: again ? `${row.title} (${series.stage})` : row.title, index, x: series.x, y: series.y });
  }));
  return [...figures.values()];
}

/** Figures with what chooses the axis, the smoothing and the quantities: their elements, and what draws other rows with what was chosen. */
function figures(rows, legend) {
  const options = { log: false, smoothing: 0, at: new Map() };
  let [all, listed] = [[], ''];
  const [chosen, known] = [new Set(), new Set()];
  const made = new Map();
  const grid = h('div', { class: 'figures' });
  const draw = () => {
    const drawn = all.filter((figure) => chosen.has(figure.title)).map(({ title, across, lines }) => {
      const name = `${title}\n${across}`;
      if (!made.has(name)) made.set(name, curves(title, across, options));
      return { ...made.get(name), lines };
    });
    settle(grid, drawn.map(({ element }) => element));
    drawn.forEach(({ update, lines }) => update(lines));
  };
  const words = () => (options.smoothing ? options.smoothing.toFixed(2) : 'none');
  const weight = h('output', {}, words());
  const quantities = h('fieldset', { 'data-keep': 'quantities' });
  const tools = h('div', { class: 'tools' },
    h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'logarithmic', checked: options.log, onchange: (event) => { options.log = event.target.checked; draw(); } }), 'Logarithmic'),
    h('label', { class: 'check' }, 'Smoothing', h('input', { name: 'smoothing', type: 'range', min: '0', max: '0.98', step: '0.02', value: options.smoothing, oninput: (event) => {
      options.smoothing = Number(event.target.value);
      say(weight, words());
      draw();
    } })), weight,
    h('details', { class: 'menu' }, h('summary', {}, 'Quantities'), quantities));
  const list = () => {
    const now = all.map(({ title, across }) => `${title}\n${across}`).join('\n');
    if (now === listed) return;
    listed = now;
    anew(quantities, () => fill(quantities, h('legend', { class: 'hidden' }, 'Quantities that are drawn'),
      all.map(({ title, across }) => h('label', {}, h('input', { type: 'checkbox', 'data-keep': title, checked: chosen.has(title), onchange: (event) => {
        if (event.target.checked) chosen.add(title); else chosen.delete(title);
        draw();
      } }), title, h('span', { class: 'hint' }, ` over ${across}`)))));
  };
  let old = null;
  const update = (next) => {
    const now = JSON.stringify(next.map(({ title, series }) => [title, series]));
    if (now === old) return;
    old = now;
    all = byQuantity(next);
    // Of those that come while a run goes on, the first are drawn as well.
    all.forEach(({ title }) => { if (!known.has(title) && known.size < 6) chosen.add(title); known.add(title); });
    list();
    draw();
  };
  update(rows);
  return { element: [tools, legend, grid], update };
}

/** Rows of what the compared have: `{name, values: []}`. */
function facts(rows) {
  const table = new Map();
  const add = (name, index, value) => {
    if (!table.has(name)) table.set(name, { name, values: rows.map(() => null) });
    table.get(name).values[index] = value;
  };
  const kinds = { Parameters: new Map(), Inputs: new Map(), Programs: new Map(), Machines: new Map() };
  const collect = (kind, work) => {
    table.clear();
    rows.forEach((row, index) => row.stages.forEach((stage) => work(stage, index)));
    kinds[kind] = [...table.values()];
  };
  collect('Parameters', (stage, index) => Object.entries(stage.params ?? {}).forEach(([name, value]) => add(`${stage.stage}.${name}`, index, value)));
  collect('Inputs', (stage, index) => Object.entries(stage.inputs ?? {}).forEach(([name, value]) => add(`${stage.stage}.${name}`, index, value)));
  collect('Programs', (stage, index) => stage.program_digest && add(stage.stage, index, stage.program_digest));
  collect('Machines', (stage, index) => {
    const ran = stage.ran ?? {};
    ['host', 'processor', 'device', 'driver', 'commit'].forEach((name) => ran[name] && add(`${stage.stage}: ${name}`, index, ran[name]));
    if (ran.gpus?.length) add(`${stage.stage}: gpus`, index, ran.gpus.join(', '));
  });
  return kinds;
}

/** What differs, or with a choice all of it: its elements, and what shows other rows. */
function differences(rows) {
  const everything = h('input', { type: 'checkbox', id: 'everything', onchange: () => shown.draw() });
  const differs = ({ values }) => everything.checked || values.some((value) => value !== values[0]);
  const short = (kind, value) => (value === null ? '–' : kind === 'Inputs' || kind === 'Programs' ? digest(value.replace(/^program:/, '')) : value);
  const shown = part(() => [rows.map(({ title }) => title), facts(rows), everything.checked], () => Object.entries(facts(rows)).map(([kind, list]) => {
    const some = list.filter(differs);
    if (!some.length) return list.length > 0 && h('p', { class: 'hint' }, `${kind}: all alike`);
    return [h('h3', {}, kind), small(kind, ['', ...rows.map((row) => row.title)], some.map(({ name, values }) => [name, ...values.map((value) => short(kind, value))]))];
  }));
  shown.draw();
  return { element: [h('label', { class: 'check' }, everything, 'Also what is alike'), shown.holder], update: (next) => { rows = next; shown.draw(); } };
}

function scores(rows) {
  const names = [...new Set(rows.flatMap((row) => row.stages.flatMap((stage) => Object.keys(stage.metrics ?? {}))))];
  if (!names.length) return null;
  const value = (row, name) => row.stages.map((stage) => stage.metrics?.[name]).find((v) => v !== undefined) ?? '–';
  return section('Scores', small('Scores', ['', ...rows.map((row) => row.title)], names.map((name) => [name, ...rows.map((row) => value(row, name))])));
}

/** Sheets of pictures beside each other; one that all rows have alike, as of what they are held to, stands once, at the end. */
function grids(rows) {
  const named = (p) => `${p.stage}.${p.output} ${p.label}`;
  const labels = [...new Set(rows.flatMap((row) => row.pictures.map(named)))];
  if (!labels.length) return null;
  const sheets = labels.map((label) => {
    const own = rows.map((row) => row.pictures.find((p) => named(p) === label));
    return { label, own, alike: rows.length > 1 && own.every((p) => p?.grid === own[0]?.grid) };
  });
  const figure = (title, picture) => h('figure', {}, h('figcaption', {}, title), picture
    ? h('img', { src: picture.grid, alt: `The first pictures of ${counted(picture.count, 'picture')} of ${title}`, loading: 'lazy' })
    : h('p', { class: 'hint' }, 'none'));
  return section('Pictures', sheets.sort((a, b) => a.alike - b.alike).map(({ label, own, alike }) => [h('h3', {}, label),
    h('div', { class: 'grids' }, alike ? figure('all rows alike', own[0]) : own.map((picture, i) => figure(rows[i].title, picture)))]));
}

/** The view of `query.rows`. What changes in a run that goes on is drawn where it stands. */
async function compareView(main, { query }, signal) {
  const ids = (query.rows ?? '').split(',').filter(Boolean);
  if (!ids.length) {
    fill(main, h('h1', {}, 'Compare'), h('p', {}, 'Mark rows in the ', h('a', { href: '#/table' }, 'table'), ', then compare them here.'));
    return;
  }
  const wanted = ids.slice(0, MOST);
  const [found, faults] = [new Map(), new Map()];
  const rows = () => wanted.filter((id) => found.has(id)).map((id) => found.get(id));
  const read = async (some) => {
    const answers = await Promise.allSettled(some.map((id) => get(id)));
    answers.forEach(({ status, value, reason }, i) => {
      if (status === 'fulfilled') { found.set(some[i], value); faults.delete(some[i]); return; }
      // What cannot be read now is shown as it was.
      if (!found.has(some[i])) faults.set(some[i], reason.message);
    });
  };
  let [due, busy, draw, timer] = [new Set(), false, null, null];
  /** Reads again what is due, at most once a second. */
  const again = async () => {
    if (busy || timer || !draw || !due.size) return;
    busy = true;
    const some = [...due];
    due = new Set();
    await read(some);
    busy = false;
    if (signal.aborted) return;
    draw();
    timer = setTimeout(() => { timer = null; again(); }, 1000);
  };
  const wants = (some) => { some.forEach((id) => due.add(id)); again(); };
  const about = (indices) => wanted.filter((id) => found.get(id)?.stages.some(({ step }) => indices.includes(step)));
  signal.addEventListener('abort', () => clearTimeout(timer));
  listen((what, change) => {
    if (what === 'curves') wants(draw ? about(change) : wanted);
    else if (what === 'states') wants(draw ? about(change.indices.filter((index, i) => change.before[i]?.is !== known.study.steps[index]?.state.is)) : wanted);
    else if (what === 'table' || what === 'study' || what === 'runs') wants(wanted);
  }, signal);
  await read(wanted);
  if (signal.aborted) return;

  const title = h('h1', {});
  const legend = h('ul', { class: 'legend', 'aria-label': 'Compared rows' });
  const more = ids.length > MOST && h('p', { class: 'problem' }, `Only the first ${MOST} of ${ids.length} rows are shown.`);
  const drawn = figures([], legend);
  const curved = section('Curves', drawn.element);
  const grid = legend.nextSibling;
  const scored = part(() => rows().map(({ title, stages }) => [title, stages.map(({ metrics }) => metrics)]), () => scores(rows()));
  const differ = differences(rows());
  const seen = part(() => rows().map(({ title, pictures }) => [title, pictures]), () => grids(rows()));
  const differing = section('What differs', differ.element);
  const [items, problems] = [new Map(), new Map()];
  draw = () => {
    say(title, `Compare ${rows().map((row) => row.title).join(', ')}`);
    settle(legend, rows().map((row, index) => {
      const id = `${index} ${row.id}`;
      if (!items.has(id)) {
        const runs = h('span', { class: 'hint' });
        items.set(id, { runs, element: h('li', {}, key(index), ' ', row.title, runs,
          h('a', { class: 'quiet', 'aria-label': `Leave out ${row.title}`, href: `#/compare?rows=${ids.filter((id) => id !== row.id).map(encodeURIComponent).join(',')}` }, '×')) });
      }
      const running = row.stages.filter(({ is }) => is === 'running' || is === 'queued').map(({ stage, is }) => `${stage} ${is}`);
      say(items.get(id).runs, running.length ? ` ${running.join(', ')}` : '');
      return items.get(id).element;
    }));
    const some = rows().some(({ series }) => series.length);
    faults.forEach((why, id) => {
      if (!problems.has(id)) problems.set(id, h('p', { class: 'problem' }));
      say(problems.get(id), `${id}: ${why}`);
    });
    anew(main, () => {
      if (some && legend.parentNode !== curved) curved.insertBefore(legend, grid);
      settle(main, [title, ...[...faults.keys()].map((id) => problems.get(id)), more, some ? curved : legend, scored.holder, differing, seen.holder].filter(Boolean));
    });
    drawn.update(rows());
    scored.draw();
    differ.update(rows());
    seen.draw();
  };
  draw();
  again();
}
