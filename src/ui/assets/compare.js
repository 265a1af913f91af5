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
  let [all, chosen, listed] = [[], null, ''];
  const grid = h('div', { class: 'figures' });
  const draw = () => anew(grid, () => fill(grid, all.filter((figure) => chosen.has(figure.title)).map((figure) => curves(figure.title, figure.lines, { ...options, across: figure.across }))));
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
    chosen ??= new Set(all.slice(0, 6).map((figure) => figure.title));
    list();
    draw();
  };
  update(rows);
  return { element: all.length > 0 && [tools, legend, grid], update };
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

function differences(rows) {
  const everything = h('input', { type: 'checkbox', id: 'everything', onchange: () => draw() });
  const holder = h('div', {});
  const kinds = facts(rows);
  const draw = () => {
    const differs = ({ values }) => everything.checked || values.some((value) => value !== values[0]);
    fill(holder, Object.entries(kinds).map(([kind, list]) => {
      const shown = list.filter(differs);
      if (!shown.length) return list.length > 0 && h('p', { class: 'hint' }, `${kind}: all alike`);
      const short = (value) => (value === null ? '–' : kind === 'Inputs' || kind === 'Programs' ? digest(value.replace(/^program:/, '')) : value);
      return [h('h3', {}, kind), small(kind, ['', ...rows.map((row) => row.title)], shown.map(({ name, values }) => [name, ...values.map(short)]))];
    }));
  };
  draw();
  return [h('label', { class: 'check' }, everything, 'Also what is alike'), holder];
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

/** The view of `query.rows`. */
async function compareView(main, { query }, signal) {
  const ids = (query.rows ?? '').split(',').filter(Boolean);
  if (!ids.length) {
    fill(main, h('h1', {}, 'Compare'), h('p', {}, 'Mark rows in the ', h('a', { href: '#/table' }, 'table'), ', then compare them here.'));
    return;
  }
  const answers = await Promise.allSettled(ids.slice(0, MOST).map((id) => get(id)));
  if (signal.aborted) return;
  const rows = answers.filter((a) => a.status === 'fulfilled').map((a) => a.value);
  const lost = answers.map((a, i) => a.status === 'rejected' && h('p', { class: 'problem' }, `${ids[i]}: ${a.reason.message}`));
  const legend = h('ul', { class: 'legend', 'aria-label': 'Compared rows' }, rows.map((row, index) => h('li', {}, key(index), ' ', row.title,
    h('a', { class: 'quiet', 'aria-label': `Leave out ${row.title}`, href: `#/compare?rows=${ids.filter((id) => id !== row.id).map(encodeURIComponent).join(',')}` }, '×'))));
  const drawn = figures(rows, legend).element;
  fill(main, h('h1', {}, `Compare ${rows.map((row) => row.title).join(', ')}`), lost,
    ids.length > MOST && h('p', { class: 'problem' }, `Only the first ${MOST} of ${ids.length} rows are shown.`),
    drawn ? section('Curves', drawn) : legend,
    scores(rows), section('What differs', differences(rows)), grids(rows));
}
