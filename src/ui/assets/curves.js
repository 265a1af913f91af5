'use strict';
// Curves over one another, in SVG: axes, hover, keys, and a line for each run that is told by colour and by dashes.

const CURVE = { left: 52, right: 20, top: 10, bottom: 24, colours: 6, dashes: ['', '7 4', '2 3', '10 3 2 3'] };

/** Round steps of an axis from low to high. */
function ticks(low, high, log, about) {
  if (log) {
    const [a, b] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const every = Math.max(1, Math.ceil((b - a) / about));
    let all = [];
    for (let power = a; power <= b; power += every) all.push(10 ** power);
    if (b - a <= 2) all = all.flatMap((v) => [v, 2 * v, 5 * v]);
    all = all.filter((v) => v >= low * 0.999 && v <= high * 1.001);
    if (all.length > 1) return all;
  }
  const rough = (high - low) / about || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * unit >= rough) * unit;
  const all = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n++) all.push(n * step);
  return all;
}

/** The mean of what came before, with weights that fall off; the beginning does not lean to zero. */
function smooth(values, weight) {
  if (weight === 0) return values;
  let [sum, norm] = [0, 0];
  return values.map((value) => {
    if (!Number.isFinite(value)) return value;
    sum = sum * weight + value * (1 - weight);
    norm = norm * weight + (1 - weight);
    return sum / norm;
  });
}

/** The index of the value nearest to x in a rising list. */
function nearest(values, x) {
  let [low, high] = [0, values.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < x) low = middle; else high = middle;
  }
  return Math.abs(values[low] - x) <= Math.abs(values[high] - x) ? low : high;
}

/** The sign of a run beside its name: a piece of its line. */
function key(index) {
  return h('svg', { class: 'key', viewBox: '0 0 24 8', 'aria-hidden': 'true' },
    h('path', { d: 'M0 4H24', class: `curve c${index % CURVE.colours}`, 'stroke-dasharray': CURVE.dashes[Math.floor(index / CURVE.colours) % 4] }));
}

/**
 * A figure of one quantity over its steps: its element, and what draws other lines in it, or the same with other options.
 * `lines` are `{name, index, x: [], y: []}`; `options` are `{log, smoothing, at}`, of which `at` keeps where each is read. What
 * a person points at, holds or has selected stays: the elements are the same, and what says the same is left alone.
 */
function curves(title, across, options) {
  const name = `${title}\n${across}`;
  const svg = h('svg', { tabindex: '0', role: 'img', 'data-keep': name });
  const readout = h('p', { class: 'readout', 'aria-live': 'polite' });
  const caption = h('figcaption', {}, title, h('span', { class: 'hint' }, ` over ${across}`));
  const figure = h('figure', { class: 'curves' }, caption, svg, readout);
  let [shown, fits, f, g] = [[], null, null, null];
  let [x0, x1, y0, y1, place] = [0, 1, 0, 1, null];

  const draw = () => {
    if (!svg.isConnected) return;
    const width = Math.max(240, svg.clientWidth || 480);
    const height = Math.max(180, svg.clientHeight || 240);
    const [w, t] = [width - CURVE.left - CURVE.right, height - CURVE.top - CURVE.bottom];
    const px = (v) => CURVE.left + (x1 === x0 ? w / 2 : ((v - x0) / (x1 - x0)) * w);
    const py = (v) => CURVE.top + t - ((f(v) - f(y0)) / (f(y1) - f(y0))) * t;
    place = { px, py, w };
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const path = (line, values) => {
      let [d, pen] = ['', 'M'];
      line.x.forEach((x, i) => {
        if (!fits(values[i])) { pen = 'M'; return; }
        d += `${pen}${px(x).toFixed(1)} ${py(values[i]).toFixed(1)}`;
        pen = 'L';
      });
      return d;
    };
    const curve = (line, values, faint) => h('path', { d: path(line, values), class: `curve c${line.index % CURVE.colours}${faint ? ' faint' : ''}`,
      'stroke-dasharray': faint ? '' : CURVE.dashes[Math.floor(line.index / CURVE.colours) % 4] });
    fill(svg,
      ticks(y0, y1, options.log, 4).map((v) => [
        h('line', { class: 'grid', x1: CURVE.left, x2: width - CURVE.right, y1: py(v), y2: py(v) }),
        h('text', { x: CURVE.left - 8, y: py(v) + 4, 'text-anchor': 'end' }, label(v))]),
      ticks(x0, x1, false, width > 420 ? 6 : 3).map((v) => h('text', { x: px(v), y: height - 6, 'text-anchor': 'middle' }, label(v))),
      h('line', { class: 'axis', x1: CURVE.left, x2: width - CURVE.right, y1: height - CURVE.bottom, y2: height - CURVE.bottom }),
      options.smoothing > 0 && shown.map((line) => curve(line, line.y, true)),
      shown.map((line) => curve(line, line.z, false)),
      shown.filter((line) => line.x.length === 1).map((line) => fits(line.z[0]) && h('circle', { r: 3, cx: px(line.x[0]), cy: py(line.z[0]), class: `dot c${line.index % CURVE.colours}` })),
      h('g', { class: 'hover' }));
    if (options.at.has(name)) read(options.at.get(name));
  };

  let said = null;
  const read = (x) => {
    options.at.set(name, x);
    const near = shown.filter((line) => line.x.length).map((line) => ({ line, i: nearest(line.x, x) }));
    fill(svg.querySelector('.hover'),
      h('line', { x1: place.px(x), x2: place.px(x), y1: CURVE.top, y2: svg.viewBox.baseVal.height - CURVE.bottom }),
      near.filter(({ line, i }) => fits(line.z[i])).map(({ line, i }) => h('circle', { r: 3.5, cx: place.px(line.x[i]), cy: place.py(line.z[i]), class: `dot c${line.index % CURVE.colours}` })));
    const values = near.map(({ line, i }) => [line.index, line.name, significant(line.z[i] ?? NaN)]);
    if (JSON.stringify([x, values]) === said) return;
    said = JSON.stringify([x, values]);
    fill(readout, h('span', { class: 'at' }, `${across} ${significant(x)}`),
      values.map(([index, line, value]) => h('span', {}, key(index), ` ${line} `, h('b', {}, value))));
  };
  const longest = () => shown.reduce((a, b) => (a.x.length >= b.x.length ? a : b)).x;
  svg.addEventListener('pointermove', (event) => {
    if (!place) return;
    const box = svg.getBoundingClientRect();
    const x = x0 + (((event.clientX - box.left) * (svg.viewBox.baseVal.width / box.width) - CURVE.left) / place.w) * (x1 - x0);
    const clamped = Math.min(x1, Math.max(x0, x));
    read(longest()[nearest(longest(), clamped)]);
  });
  svg.addEventListener('keydown', (event) => {
    if (!place) return;
    const steps = longest();
    const i = options.at.has(name) ? nearest(steps, options.at.get(name)) : -1;
    const far = Math.max(1, Math.floor(steps.length / 10));
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, PageDown: i + far, PageUp: i - far, Home: 0, End: steps.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    read(steps[Math.min(steps.length - 1, Math.max(0, to))]);
  });
  new ResizeObserver(() => { if (shown.length && fits) draw(); }).observe(svg);

  let old = null;
  const update = (lines) => {
    const now = JSON.stringify([lines, options.log, options.smoothing]);
    if (now === old) return;
    old = now;
    shown = lines.map((line) => ({ ...line, z: smooth(line.y, options.smoothing) }));
    fits = (v) => Number.isFinite(v) && (!options.log || v > 0);
    const xs = shown.flatMap((line) => line.x);
    const ys = shown.flatMap((line) => line.y).filter(fits);
    const range = (list) => list.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    [x0, x1] = range(xs);
    [y0, y1] = range(ys);
    const ends = shown.map((line) => {
      const last = line.y.filter(Number.isFinite).at(-1);
      return `${line.name} ends at ${last === undefined ? 'nothing' : significant(last)}`;
    });
    svg.setAttribute('aria-label', `${title} over ${across}: ${ends.join(', ')}. Arrow keys read values.`);
    settle(figure, ys.length ? [caption, svg, readout] : [caption, readout]);
    if (!ys.length) {
      [fits, said] = [null, null];
      say(readout, options.log && xs.length ? 'Nothing above zero: no logarithmic axis.' : 'No values.');
      return;
    }
    if (said === null) readout.replaceChildren();
    if (y0 === y1) [y0, y1] = options.log ? [y0 / 2, y1 * 2] : [y0 - Math.abs(y0 || 1) / 2, y1 + Math.abs(y1 || 1) / 2];
    [f, g] = options.log ? [Math.log10, (v) => 10 ** v] : [(v) => v, (v) => v];
    const margin = (f(y1) - f(y0)) * 0.04;
    [y0, y1] = [g(f(y0) - margin), g(f(y1) + margin)];
    draw();
  };
  return { element: figure, update };
}

function label(v) {
  const size = Math.abs(v);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return v.toExponential(0).replace('e+', 'e');
  return String(Number(v.toPrecision(3)));
}
