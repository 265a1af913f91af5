'use strict';
// What is in an input or output: values, curves, pictures, tables, pages in a frame, text.

/** A value as a tree that opens. */
function tree(value, name, open) {
  const label = name === null ? [] : [h('span', { class: 'key' }, name), ': '];
  if (value === null || typeof value !== 'object') {
    return h('div', { class: 'leaf' }, label, h('span', { class: `value ${typeof value}` }, typeof value === 'string' ? JSON.stringify(value) : String(value)));
  }
  const entries = Array.isArray(value) ? value.map((v, i) => [String(i), v]) : Object.entries(value);
  const summary = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  if (!entries.length) return h('div', { class: 'leaf' }, label, Array.isArray(value) ? '[]' : '{}');
  if (Array.isArray(value) && value.length <= 16 && value.every((v) => v === null || typeof v !== 'object')) {
    return h('div', { class: 'leaf' }, label, h('span', { class: 'value' }, JSON.stringify(value)));
  }
  const inside = h('div', { class: 'inside' });
  const grow = (from) => {
    put(inside, entries.slice(from, from + 200).map(([k, v]) => tree(v, k, false)));
    if (entries.length > from + 200) {
      const more = h('button', { type: 'button', class: 'quiet', onclick: () => { more.remove(); grow(from + 200); } }, `${entries.length - from - 200} more`);
      inside.append(more);
    }
  };
  const details = h('details', { open, ontoggle: () => { if (details.open && !inside.hasChildNodes()) grow(0); } }, h('summary', {}, label, h('span', { class: 'hint' }, summary)), inside);
  if (open) grow(0);
  return details;
}

/** Pictures of an array of them: the first as a grid, any by its number. */
function pictures(array) {
  const grid = h('img', { class: 'pixels', src: array.grid, alt: `The first of ${counted(array.count, 'picture')} of ${array.name}`, loading: 'lazy' });
  if (!array.picture) return grid;
  const one = h('img', { class: 'pixels one', alt: '', hidden: true });
  const number = h('input', { type: 'number', min: '0', max: array.count - 1, placeholder: `0 to ${array.count - 1}`, oninput: () => {
    const i = Number(number.value);
    one.hidden = number.value === '' || !(i >= 0 && i < array.count && Number.isInteger(i));
    if (one.hidden) return;
    one.src = array.picture.replace('{}', String(i));
    one.alt = `Picture ${i} of ${array.name}`;
  } });
  return [grid, h('p', { class: 'tools' }, h('label', {}, 'Picture ', number)), one];
}

const cell = (value) => (value === null ? '–' : typeof value === 'object' ? JSON.stringify(value) : value);

function lines(what) {
  const names = [...new Set(what.lines.flatMap((line) => (line && typeof line === 'object' && !Array.isArray(line) ? Object.keys(line) : [])))];
  const rows = names.length
    ? small('Lines', ['', ...names], what.lines.map((line, i) => [String(i + 1), ...names.map((name) => cell(line?.[name] ?? null))]))
    : h('pre', { class: 'text', tabindex: '0' }, what.lines.map((line) => JSON.stringify(line)).join('\n'));
  const drawn = what.series?.length ? figures([{ title: 'this file', series: what.series }], null).element : null;
  return [drawn, h('details', { open: !drawn }, h('summary', {}, what.more ? `The first ${what.lines.length} lines` : counted(what.lines.length, 'line')), rows)];
}

function folder(what) {
  const shown = what.entries.filter((entry) => entry.picture).slice(0, 60);
  return [
    shown.length > 0 && h('div', { class: 'thumbs' }, shown.map((entry) => h('a', { href: contentLink(entry.content, entry.path), title: visible(entry.path) }, h('img', { class: 'pixels', src: entry.picture, alt: entry.path, loading: 'lazy' })))),
    small('Files', ['file', 'size'], what.entries.map((entry) => [entry.content ? h('a', { href: contentLink(entry.content, entry.path) }, entry.path) : entry.path, h('span', { class: 'number' }, bytes(entry.bytes))])),
    what.more > 0 && h('p', { class: 'hint' }, `and ${counted(what.more, 'file')} more`),
  ];
}

const SHOW = {
  folder,
  json: (what) => h('div', { class: 'tree' }, tree(what.value, null, true)),
  'json-lines': lines,
  image: (what) => h('img', { class: 'pixels one', src: what.url, alt: 'The picture in this file' }),
  npz: (what) => [
    small('Arrays', ['array', 'shape', 'type'], what.arrays.map((array) => [array.name, array.shape.join(' × '), array.dtype])),
    what.arrays.filter((array) => array.grid).map(pictures)],
  parquet: (what) => {
    const heads = what.columns.slice(0, what.head?.[0]?.length ?? 0).map((column) => column.name);
    return [
      h('p', {}, `${counted(what.rows, 'row')} in ${counted(what.groups, 'row group')}`),
      small('Columns', ['column', 'type'], what.columns.map((column) => [column.name, column.type])),
      what.more > 0 && h('p', { class: 'hint' }, `and ${counted(what.more, 'column')} more`),
      heads.length > 0 && [h('h4', {}, 'First rows'), small('First rows', ['row', ...heads], what.head.map((row, i) => [String(i), ...row.map(cell)]))],
      heads.length > 0 && heads.length < what.columns.length && h('p', { class: 'hint' }, `of the first ${heads.length} columns`),
      what.problem && h('p', { class: 'problem' }, what.problem),
      Object.keys(what.metadata ?? {}).length > 0 && h('div', { class: 'tree' }, tree(what.metadata, 'metadata', false))];
  },
  unreadable: (what) => h('p', { class: 'problem' }, what.text),
  safetensors: (what) => [
    Object.keys(what.metadata ?? {}).length > 0 && h('div', { class: 'tree' }, tree(what.metadata, 'metadata', false)),
    small('Tensors', ['tensor', 'shape', 'type'], what.tensors.map((tensor) => [tensor.name, tensor.shape.join(' × ') || 'a number', tensor.dtype]))],
  html: (what) => h('iframe', { sandbox: '', src: what.url, title: 'The page in this file, without its scripts', loading: 'lazy' }),
  text: (what) => [h('pre', { class: 'text', tabindex: '0' }, what.text), what.more && h('p', { class: 'hint' }, 'The beginning; the file goes on.')],
  binary: () => h('p', { class: 'hint' }, 'Bytes of no kind that can be shown.'),
  missing: () => h('p', { class: 'hint' }, 'No longer in the store.'),
};

const contentLink = (name, title) => `#/${name}?title=${encodeURIComponent(title)}`;

/** What a content is, as elements. */
function shownContent(content) {
  const show = Object.hasOwn(SHOW, content.what.type) ? SHOW[content.what.type] : SHOW.binary;
  return [show(content.what), content.raw && h('p', {}, h('a', { href: content.raw, download: true }, 'Save the file'), h('span', { class: 'hint' }, ` ${bytes(content.bytes)}`))];
}

/** A content that is read when a person opens it; `opened` keeps the titles of those that are open, for another of the same title. */
function unfolding(title, summary, name, signal, opened) {
  const inside = h('div', { class: 'inside' });
  const details = h('details', { class: 'content', 'data-keep': title, ontoggle: async () => {
    if (details.open) opened.add(title); else opened.delete(title);
    if (!details.open || inside.hasChildNodes()) return;
    say(inside, 'Reading…');
    try {
      const content = await get(name);
      if (!signal.aborted) fill(inside, shownContent(content));
    } catch (error) {
      fill(inside, h('p', { class: 'problem' }, error.message));
    }
  } }, h('summary', {}, summary), inside);
  if (opened.has(title)) details.open = true;
  return details;
}

async function contentView(main, { path, query }, signal) {
  const content = await get(path);
  if (signal.aborted) return;
  fill(main, h('h1', {}, query.title ?? 'Content'), h('p', { class: 'facts' }, digest(content.digest), ` ${bytes(content.bytes)}`, content.files > 1 && `, ${counted(content.files, 'file')}`), shownContent(content));
}
