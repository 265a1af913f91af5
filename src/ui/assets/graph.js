'use strict';
// The study as a graph: of one variant its steps, of all its stages with how many are in which state.

const NODE = { narrow: 150, width: 200, height: 92, between: 36, beside: 16, lane: 14 };
const ORDER = ['failed', 'running', 'queued', 'waiting', 'to-run', 'skipped', 'unknown', 'done'];
const DONE = new Set(['cached', 'ran', 'fetched', 'restored', 'replaced']);
const group = (is) => (DONE.has(is) ? 'done' : is);

/** Layers of a graph by the longest way from its beginnings, with places for edges that pass a layer. */
function layered(needs) {
  const depth = new Map();
  const of = (i) => {
    if (!depth.has(i)) {
      depth.set(i, 0); // a circle, which a study cannot have, would end here
      depth.set(i, needs[i].length ? 1 + Math.max(...needs[i].map(of)) : 0);
    }
    return depth.get(i);
  };
  needs.forEach((_, i) => of(i));
  const layers = [];
  const at = (layer) => (layers[layer] ??= []);
  const items = needs.map((_, i) => ({ node: i, before: [] }));
  needs.forEach((_, i) => at(depth.get(i)).push(items[i]));
  const edges = [];
  needs.forEach((from, i) => from.forEach((j) => {
    const way = [items[j]];
    for (let layer = depth.get(j) + 1; layer < depth.get(i); layer++) {
      const lane = { node: null, before: [way[way.length - 1]] };
      at(layer).push(lane);
      way.push(lane);
    }
    items[i].before.push(way[way.length - 1]);
    way.push(items[i]);
    edges.push(way);
  }));
  const after = new Map();
  layers.flat().forEach((item) => item.before.forEach((b) => after.set(b, [...(after.get(b) ?? []), item])));
  const place = () => layers.forEach((layer) => layer.forEach((item, i) => { item.rank = (i + 0.5) / layer.length; }));
  place();
  const mean = (list, rank) => (list?.length ? list.reduce((sum, item) => sum + item.rank, 0) / list.length : rank);
  for (let sweep = 0; sweep < 6; sweep++) {
    const order = sweep % 2 ? layers.slice().reverse() : layers;
    order.forEach((layer) => {
      const key = new Map(layer.map((item) => [item, mean(sweep % 2 ? after.get(item) : item.before, item.rank)]));
      layer.sort((a, b) => key.get(a) - key.get(b));
      layer.forEach((item, i) => { item.rank = (i + 0.5) / layer.length; });
    });
  }
  return { layers, edges };
}

/** Which edges a longer way says already: they are drawn fainter. */
function implied(needs) {
  const behind = needs.map(() => null);
  const all = (i) => (behind[i] ??= new Set(needs[i].flatMap((j) => [j, ...all(j)])));
  return (from, to) => needs[to].some((via) => via !== from && all(via).has(from));
}

/** Moves the items of each layer towards what they are joined with, in their order and without overlaps. */
function straightened(layers, joined, room) {
  const middle = (item) => item.b + item.size / 2;
  for (let sweep = 0; sweep < 8; sweep++) {
    (sweep % 2 ? layers.slice().reverse() : layers).forEach((layer) => {
      const wish = layer.map((item) => {
        const near = joined.get(item) ?? [];
        return near.length ? near.reduce((sum, other) => sum + middle(other), 0) / near.length - item.size / 2 : item.b;
      });
      const down = [];
      layer.forEach((item, i) => { down[i] = i ? Math.max(wish[i], down[i - 1] + layer[i - 1].size + NODE.beside) : wish[i]; });
      const up = [];
      for (let i = layer.length - 1; i >= 0; i--) up[i] = i < layer.length - 1 ? Math.min(wish[i], up[i + 1] - layer[i].size - NODE.beside) : wish[i];
      layer.forEach((item, i) => { item.b = (down[i] + up[i]) / 2; });
      // Into the room that there is.
      const over = layer[layer.length - 1].b + layer[layer.length - 1].size - room;
      if (over > 0) layer.forEach((item) => { item.b -= over; });
      if (layer[0].b < 0) { const under = layer[0].b; layer.forEach((item) => { item.b -= under; }); }
    });
  }
}

/** Places of nodes and ways of edges, from left to right where that fits, else downwards. */
function laidOut(needs, room) {
  const { layers, edges } = layered(needs);
  const free = (room - (layers.length - 1) * NODE.between) / layers.length;
  const right = free >= NODE.narrow;
  const lanes = Math.max(...layers.map((layer) => layer.filter((item) => item.node === null).length));
  const most = Math.max(...layers.map((layer) => layer.filter((item) => item.node !== null).length));
  const width = Math.max(90, right ? Math.min(NODE.width, free) : Math.min(NODE.width * 1.2, (room - (most - 1) * NODE.beside - Math.min(lanes, 3) * (NODE.lane + NODE.beside)) / most));
  const [along, across] = right ? [width, NODE.height] : [NODE.height, width];
  const gap = right ? NODE.between : 28;
  const span = (layer) => layer.reduce((sum, item) => sum + (item.node === null ? NODE.lane : across) + NODE.beside, -NODE.beside);
  const widest = Math.max(...layers.map(span));
  layers.forEach((layer, depth) => {
    let position = (widest - span(layer)) / 2;
    layer.forEach((item) => {
      const size = item.node === null ? NODE.lane : across;
      Object.assign(item, { a: depth * (along + gap), b: position, size });
      position += size + NODE.beside;
    });
  });
  const joined = new Map();
  const join = (one, other) => joined.set(one, [...(joined.get(one) ?? []), other]);
  edges.forEach((way) => way.slice(1).forEach((item, i) => { join(item, way[i]); join(way[i], item); }));
  straightened(layers, joined, widest);
  const point = (a, b) => (right ? `${a.toFixed(1)} ${b.toFixed(1)}` : `${b.toFixed(1)} ${a.toFixed(1)}`);
  const faint = implied(needs);
  const paths = edges.map((way) => {
    let d = '';
    way.slice(1).forEach((item, i) => {
      const from = way[i];
      const [a, b] = [from.a + along, from.b + from.size / 2];
      const [c, e] = [item.a, item.b + item.size / 2];
      d += `${d === '' ? 'M' : 'L'}${point(a, b)}`; // straight through a lane
      d += `C${point((a + c) / 2, b)} ${point((a + c) / 2, e)} ${point(c, e)}`;
    });
    const [from, to] = [way[0].node, way[way.length - 1].node];
    return { d, from, to, faint: faint(from, to) };
  });
  const nodes = [];
  layers.flat().forEach((item) => { if (item.node !== null) nodes[item.node] = right ? [item.a, item.b] : [item.b, item.a]; });
  const long = layers.length * along + (layers.length - 1) * gap;
  return { nodes, paths, width, size: right ? [long, widest] : [widest, long] };
}

/** What a node or a line says of a step that runs. */
function speed(is) {
  const p = is.progress;
  const words = [];
  if (p && p.total) words.push(`${p.done.toLocaleString('en')} of ${p.total.toLocaleString('en')} ${p.unit}`);
  if (p?.rate) words.push(`${Number(p.rate.toPrecision(3))}/s`);
  if (p?.left !== null && p?.left !== undefined) words.push(`${remaining(p.left)} left`);
  return words;
}
/** A guess is not told to the second. */
const remaining = (seconds) => (seconds < 60 ? `${Math.ceil(seconds)} s` : duration(Math.ceil(seconds / 60) * 60).replace(' 0 s', ''));
const devices = (is) => is.devices.map((d) => (/^\d+$/.test(d) ? `GPU ${d}` : d)).join(', ');

function share(is) {
  if (is.progress?.total) return is.progress.done / is.progress.total;
  if (is.tasks?.[0]) return is.tasks[1] / is.tasks[0];
  return null;
}

/** The line below a state: the reason, how long it took, or how far it is. */
function detail(is) {
  if (is.is === 'running') return speed(is)[0] ?? is.last?.at(-1) ?? '';
  if (is.is === 'failed') return is.reason;
  if (is.tasks) return `${is.tasks[1]} of ${is.tasks[0]} done`;
  if (DONE.has(is.is)) return is.seconds === null ? '' : duration(is.seconds);
  return is.reason;
}

function stepNode(step) {
  const is = step.state;
  const part = share(is);
  return [
    h('span', { class: 'name' }, step.stage, step.mapped && h('span', { class: 'hint' }, ` × ${is.tasks?.[0] ?? step.mapped}`)),
    h('span', { class: 'line' }, state(is.is), is.is === 'running' && is.devices.length > 0 && h('span', { class: 'hint' }, ` ${devices(is)}`)),
    h('span', { class: 'more' }, detail(is)),
    is.is === 'running' && h('span', { class: 'more' }, speed(is).slice(1).join(' · ')),
    is.is === 'running' && part !== null && bar(part, `${step.id} so far`),
  ];
}

function tally(steps) {
  const counts = new Map();
  steps.forEach((step) => counts.set(group(step.state.is), (counts.get(group(step.state.is)) ?? 0) + 1));
  return ORDER.filter((is) => counts.has(is)).map((is) => [is, counts.get(is)]);
}

function stageNode(stage, steps) {
  const counts = tally(steps);
  return [
    h('span', { class: 'name' }, stage, h('span', { class: 'hint' }, ` ${steps.length.toLocaleString('en')}`)),
    h('span', { class: 'counts' }, counts.slice(0, 4).map(([is, n]) => state(is, `${n.toLocaleString('en')} ${is.replace('-', ' ')}`))),
    h('span', { class: 'shares', 'aria-hidden': 'true' }, counts.map(([is, n]) => h('span', { class: is, style: { 'flex-grow': n } }))),
  ];
}

/** The view. `query.variant` is the variant that is shown; without it all are. */
function graphView(main, { query }, signal) {
  const holder = h('div', { class: 'graph' });
  const totals = h('p', { class: 'totals' });
  const now = h('div', {});
  const failed = h('div', {});
  const problem = h('p', { class: 'problem', role: 'alert' });
  let nodes = []; // {steps, link, draw}
  let [drawnFor, drawnWidth] = [null, 0];

  const study = () => known.study;
  const all = () => study().variants.length > 1 && query.variant === undefined;
  const variant = () => query.variant ?? study().variants[0] ?? '';
  const title = (v) => (v === '' ? 'the study as it stands' : v);

  const heading = h('h1', {});
  const options = new Map();
  const choose = h('select', { id: 'variant', onchange: () => {
    location.hash = choose.value === '*' ? '#/' : `#/?variant=${encodeURIComponent(choose.value.slice(1))}`;
  } });
  const several = h('span', { class: 'tools' }, h('label', { for: 'variant' }, 'Variant'), choose);

  function head() {
    const option = (value, text) => {
      if (!options.has(value)) options.set(value, h('option', { value }));
      say(options.get(value), text);
      return options.get(value);
    };
    say(heading, study().study);
    const { variants } = study();
    several.hidden = variants.length < 2;
    settle(choose, [option('*', `all ${variants.length.toLocaleString('en')} variants`), ...variants.map((v) => option(`=${v}`, title(v)))]);
    choose.value = all() ? '*' : `=${variant()}`;
  }

  const build = () => anew(holder, place);

  function place() {
    const steps = study().steps;
    let needs;
    if (all()) {
      const byStage = new Map(study().stages.map((stage) => [stage, []]));
      steps.forEach((step) => byStage.get(step.stage)?.push(step));
      const names = [...byStage.keys()].filter((name) => byStage.get(name).length);
      const index = new Map(names.map((name, i) => [name, i]));
      const sets = names.map(() => new Set());
      steps.forEach((step) => step.needs.forEach((need) => {
        const [from, to] = [index.get(steps[need].stage), index.get(step.stage)];
        if (from !== to) sets[to].add(from);
      }));
      needs = sets.map((set) => [...set]);
      nodes = names.map((name) => ({ steps: byStage.get(name), stage: name,
        href: byStage.get(name).length === 1 ? `#/${byStage.get(name)[0].name}` : `#/stage/${encodeURIComponent(name)}` }));
    } else {
      const own = steps.filter((step) => step.variants.includes(variant()));
      const index = new Map(own.map((step, i) => [step, i]));
      needs = own.map((step) => step.needs.map((need) => index.get(steps[need])).filter((i) => i !== undefined));
      nodes = own.map((step) => ({ steps: [step], href: `#/${step.name}` }));
    }
    const room = Math.max(260, holder.clientWidth);
    [drawnFor, drawnWidth] = [study(), room];
    if (!nodes.length) { fill(holder, h('p', {}, 'Nothing is here.')); return; }
    const layout = laidOut(needs, room);
    const lines = layout.paths.map((path) => h('path', { d: path.d, class: path.faint ? 'edge implied' : 'edge' }));
    nodes.forEach((node, i) => {
      node.edges = layout.paths.map((path, k) => (path.to === i ? lines[k] : null)).filter(Boolean);
      node.link = h('a', { href: node.href });
      node.draw = () => {
        const step = node.steps[0];
        fill(node.link, node.stage ? stageNode(node.stage, node.steps) : stepNode(step));
        const is = node.stage ? (tally(node.steps)[0]?.[0] ?? 'unknown') : group(step.state.is);
        // Of many some that failed are told by the border, not by all of it.
        node.link.className = `node ${is}${node.stage && is === 'failed' ? ' some' : ''}`;
        node.edges.forEach((line) => line.classList.toggle('moving', is === 'running'));
      };
      node.draw();
    });
    fill(holder, h('svg', { 'aria-hidden': 'true', width: layout.size[0], height: layout.size[1], viewBox: `0 0 ${layout.size[0]} ${layout.size[1]}` }, lines),
      h('ol', { 'aria-label': 'Stages, each after those it needs' }, nodes.map((node, i) => h('li', { style: {
        left: `${layout.nodes[i][0]}px`, top: `${layout.nodes[i][1]}px`, width: `${layout.width}px`, height: `${NODE.height}px` } }, node.link))));
    holder.style.height = `${layout.size[1]}px`;
  }

  function below() {
    const chosen = nodes.flatMap((node) => node.steps);
    say(totals, `${counted(chosen.length, 'stage')}: ${tally(chosen).map(([is, n]) => `${n.toLocaleString('en')} ${is.replace('-', ' ')}`).join(', ')}${study().looking ? '; still looking' : ''}`);
    const running = chosen.filter((step) => step.state.is === 'running');
    const wrong = chosen.filter((step) => step.state.is === 'failed');
    // Of one variant its graph says it all.
    const list = all() ? running.slice(0, 50) : [];
    anew(now, () => fill(now, list.length > 0 && section('Running', h('ul', { class: 'runs' }, list.map((step) => h('li', {},
      h('a', { href: `#/${step.name}` }, step.id), h('span', { class: 'hint' }, [...speed(step.state), devices(step.state)].filter(Boolean).join(' · ')),
      share(step.state) !== null && bar(share(step.state), `${step.id} so far`)))),
    running.length > list.length && h('p', { class: 'hint' }, `and ${running.length - list.length} more`))));
    const signature = JSON.stringify(wrong.map((step, i) => [step.id, i < 5 && [step.state.reason, step.state.last]]));
    if (failed.dataset.of !== signature) {
      failed.dataset.of = signature;
      anew(failed, () => fill(failed, wrong.length > 0 && section('Failed', wrong.slice(0, 5).map((step) => h('article', { class: 'failure' },
        h('h3', {}, h('a', { href: `#/${step.name}` }, step.id)), h('p', {}, step.state.reason),
        step.state.last?.length > 0 && h('pre', { class: 'log', tabindex: '0', 'data-keep': step.id, 'aria-label': `Last lines of ${step.id}` }, step.state.last.join('\n')))),
      wrong.length > 5 && h('p', {}, 'Also ', wrong.slice(5, 105).map((step, i) => [i > 0 && ', ', h('a', { href: `#/${step.name}` }, step.id)]),
        wrong.length > 105 && ` and ${wrong.length - 105} more`))));
    }
    say(problem, study().error ?? '');
    problem.hidden = !study().error;
  }

  const draw = () => { head(); build(); below(); };
  fill(main, h('div', { class: 'tools' }, heading, several, totals), problem, holder, now, failed);
  draw();
  listen((what, change) => {
    if (what === 'study') draw();
    else if (what === 'states') {
      const changed = new Set(change.indices.map((index) => study().steps[index]));
      nodes.filter((node) => node.steps.some((step) => changed.has(step))).forEach((node) => node.draw());
      below();
      heard(change);
    } else if (what === 'live') below();
  }, signal);
  const resized = new ResizeObserver(() => {
    if (drawnFor && Math.abs(holder.parentElement.clientWidth - drawnWidth) > 4) build();
  });
  resized.observe(main);
  signal.addEventListener('abort', () => resized.disconnect());
}

/** Says of steps that began, ended or failed that they did. */
function heard({ indices, before }) {
  const news = indices.map((index, i) => [known.study.steps[index], before[i]]).filter(([step, old]) => step && old && old.is !== step.state.is);
  if (!news.length) return;
  if (news.length <= 3) announce(news.map(([step]) => `${step.id}: ${step.state.is.replace('-', ' ')}`).join('; '));
  else announce(`${news.length} stages changed: ${tally(news.map(([step]) => step)).map(([is, n]) => `${n} ${is}`).join(', ')}`);
}
