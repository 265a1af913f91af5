'use strict';
// The table of variants or runs: sorted, filtered, columns chosen, rows marked. Only the rows that are seen are elements.

const ROW = 30; // pixels of a row, as the style has it
const OPERATORS = ['<=', '>=', '!=', '<', '>', '=', '~'];

/** The number or text of a cell; of a mean with its deviation, the mean. */
const plain = (cell) => (Array.isArray(cell) ? cell[0] : cell ?? null);

/** A filter of the language of `pipeline table --filter`; several are separated by commas. Throws a text for people. */
function comparisons(text, columns, rows) {
  return text.split(',').map((part) => part.trim()).filter(Boolean).map((part) => {
    const at = part.search(/[<>=!~]/);
    const operator = at > 0 && OPERATORS.find((o) => part.startsWith(o, at));
    if (!operator) throw new Error(`“${part}” is no comparison; write one like fid<10`);
    const [name, value] = [part.slice(0, at).trim(), part.slice(at + operator.length).trim()];
    const column = columnOf(name, columns, rows);
    const number = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(value) ? Number(value) : null;
    if (number === null && '<>'.includes(operator[0])) throw new Error(`“${part}”: ${operator} wants a number`);
    return (cells) => isSo(plain(cells[column]), operator, value, number);
  });
}

/** The index of a column by its name; a parameter also by its own where no two stages have one of that name that differ. */
function columnOf(name, columns, rows) {
  const exact = columns.findIndex((column) => (column.long ?? column.name) === name);
  if (exact >= 0) return exact;
  const own = (column) => (column.kind === 'param' ? column.long.slice(column.long.indexOf('.') + 1) : column.name);
  const found = columns.map((column, i) => (own(column) === name ? i : -1)).filter((i) => i >= 0);
  if (!found.length) throw new Error(`there is no column ${name}`);
  if (found.some((i) => rows.some(({ cells }) => plain(cells[i]) !== plain(cells[found[0]])))) {
    throw new Error(`${name} may be ${found.map((i) => columns[i].long).join(' or ')}`);
  }
  return found[0];
}

function isSo(cell, operator, text, number) {
  if (cell === null || cell === undefined) return operator === '!=';
  const both = typeof cell === 'number' && number !== null;
  const order = both ? Math.sign(cell - number) : null;
  const equal = both ? order === 0 : String(cell) === text;
  switch (operator) {
    case '<': return order === -1;
    case '>': return order === 1;
    case '<=': return order !== null && order <= 0;
    case '>=': return order !== null && order >= 0;
    case '=': return equal;
    case '!=': return !equal;
    default: return String(cell).includes(text);
  }
}

/** Sorts rows by a column; what has no value comes last, either way, and numbers before texts as they come. */
function sorted(rows, column, down) {
  const turn = down ? -1 : 1;
  return rows.slice().sort(({ cells: a }, { cells: b }) => {
    const [x, y] = [plain(a[column]), plain(b[column])];
    if (x === null || y === null) return (x === null) - (y === null);
    if (typeof x !== typeof y) return turn * (typeof x === 'number' ? -1 : 1);
    if (typeof x === 'number') return turn * (x - y);
    return turn * (x < y ? -1 : Number(x > y));
  });
}

/** Digits that all numbers of a column have: four significant ones of the largest; of a parameter as many as each has. */
function decimals(column, rows) {
  const numbers = rows.map(({ cells }) => plain(cells[column.index])).filter((cell) => typeof cell === 'number' && Number.isFinite(cell));
  if (column.kind === 'param' || numbers.every(Number.isInteger)) return null;
  const largest = numbers.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return Math.min(6, Math.max(0, 3 - (largest > 0 ? Math.floor(Math.log10(largest)) : 0)));
}

/**
 * The table: its element, and what shows other data in it, while what a person typed, opened, marked, holds or scrolled stays.
 * `data` is `{columns: [{name, long, kind, shown}], rows: [{id, cells: [], link}]}`; `view` holds what a person chose (`sort`, `filter`,
 * `columns`) and is written by `changed(view)`; `marked` is a set of ids, or null where rows cannot be marked.
 */
function tableView(data, view, marked, changed) {
  let [columns, rows, digits, seen, heads, menu] = [[], [], [], '', '', ''];
  const named = (column) => column.long ?? column.name;
  /** Whole numbers of which none deviates were set, and not measured: they are shown without a deviation. */
  const isSet = (column) => data.rows.every(({ cells }) => !Array.isArray(cells[column.index])
    || (Number.isInteger(cells[column.index][0]) && cells[column.index][1] === 0));
  const chosen = () => {
    const names = view.columns ? view.columns.split(',') : null;
    return columns.filter((column) => (names ? names.includes(named(column)) : column.shown));
  };

  const problem = h('p', { class: 'problem', role: 'status' });
  const count = h('span', { class: 'count', role: 'status' });
  const filter = h('input', { id: 'filter', type: 'search', value: view.filter ?? '', spellcheck: 'false',
    autocomplete: 'off', 'aria-describedby': 'filter-help', oninput: () => { view.filter = filter.value; changed(view); arrange(); } });
  const compare = h('a', { class: 'button', href: '#/compare' }, 'Compare');
  const clear = h('button', { type: 'button', class: 'quiet', onclick: () => { marked.clear(); mark(); seen = ''; body(); } }, 'Clear marks');
  const boxes = h('fieldset', { 'data-keep': 'columns' });
  const choose = h('details', { class: 'menu' }, h('summary', {}, 'Columns'), boxes);
  const head = h('thead');
  const main = h('tbody');
  const table = h('table', { class: 'big' }, h('caption', { class: 'hidden' }, data.caption ?? 'Variants'), head, main);
  const scroller = h('div', { class: 'scroller', tabindex: '0', role: 'group', 'aria-label': 'Table; it scrolls' }, table);
  const space = () => h('tr', { 'aria-hidden': 'true', class: 'space' }, h('td', {}));
  const [above, under] = [space(), space()];

  /** The choice of columns, where they are others than before. */
  function listColumns() {
    const now = columns.map(named).join('\n');
    if (now === menu) return;
    menu = now;
    const box = (column) => {
      const own = h('input', { type: 'checkbox', 'data-keep': named(column), checked: chosen().includes(column), onchange: () => {
        const names = new Set(chosen().map(named));
        if (own.checked) names.add(named(column)); else names.delete(named(column));
        view.columns = columns.map(named).filter((name) => names.has(name)).join(',');
        changed(view);
        arrange();
      } });
      return h('label', {}, own, column.name);
    };
    anew(choose, () => fill(boxes, h('legend', { class: 'hidden' }, 'Columns that are shown'), columns.map(box)));
  }

  /** The heads of the columns, where they are others than before. */
  function drawHead(by, down) {
    const now = JSON.stringify([chosen().map((column) => [named(column), column.numeric]), by && named(by), down]);
    if (now === heads) return;
    heads = now;
    const one = (column) => {
      const [name, is] = [named(column), by === column];
      const press = () => {
        view.sort = is && !down ? `-${name}` : name;
        changed(view);
        arrange();
      };
      return h('th', { scope: 'col', 'data-column': name, 'aria-sort': is ? (down ? 'descending' : 'ascending') : null, class: column.numeric ? 'number' : null },
        h('button', { type: 'button', 'data-keep': name, onclick: press }, column.name, h('span', { class: 'arrow', 'aria-hidden': 'true' }, is ? (down ? '↓' : '↑') : '')));
    };
    anew(head, () => fill(head, h('tr', { 'aria-rowindex': '1' },
      marked && h('th', { scope: 'col', class: 'mark' }, h('span', { class: 'hidden' }, 'Marked')), chosen().map(one))));
  }

  /** Filters and sorts, then draws. */
  function arrange() {
    let tests = [];
    filter.removeAttribute('aria-invalid');
    try {
      tests = comparisons(view.filter ?? '', columns, data.rows);
      say(problem, '');
    } catch (error) {
      filter.setAttribute('aria-invalid', 'true');
      say(problem, error.message);
    }
    rows = data.rows.filter((row) => tests.every((test) => test(row.cells)));
    const down = (view.sort ?? '').startsWith('-');
    const by = columns.find((column) => named(column) === (view.sort ?? '').replace(/^-/, ''));
    if (by) rows = sorted(rows, by.index, down);
    const all = data.rows.length.toLocaleString('en');
    say(count, rows.length === data.rows.length ? counted(rows.length, 'row') : `${rows.length.toLocaleString('en')} of ${all} rows`);
    digits = columns.map((column) => decimals(column, data.rows));
    drawHead(by, down);
    table.setAttribute('aria-rowcount', rows.length + 1);
    seen = '';
    body();
  }

  let lines = new Map(); // of the rows that are seen, by their ids
  /** Makes the elements of the rows that are seen, and two that hold the place of the others. */
  function body() {
    const room = scroller.clientHeight || 600;
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 10);
    const last = Math.min(rows.length, first + Math.ceil(room / ROW) + 20);
    const now = `${first} ${last}`;
    if (now === seen) return;
    seen = now;
    const shown = chosen();
    const place = (element, n) => {
      element.firstChild.colSpan = shown.length + 1;
      element.firstChild.style.height = `${n * ROW}px`;
      return n > 0 && element;
    };
    const made = new Map();
    rows.slice(first, last).forEach((row, i) => made.set(row.id, line(lines.get(row.id), row, first + i, shown)));
    lines = made;
    settle(main, [place(above, first), ...[...made.values()].map(({ element }) => element), place(under, rows.length - last)].filter(Boolean));
  }

  /** A row: that of before, with what has changed in it. */
  function line(old, row, index, shown) {
    const own = old ?? { element: h('tr', { 'data-row': row.id }), cells: new Map() };
    own.element.setAttribute('aria-rowindex', index + 2);
    if (marked) {
      own.box ??= h('input', { type: 'checkbox', onchange: () => {
        if (own.box.checked) marked.add(row.id); else marked.delete(row.id);
        own.element.classList.toggle('marked', own.box.checked);
        mark();
      } });
      own.mark ??= h('td', { class: 'mark' }, h('label', {}, own.box));
      own.box.setAttribute('aria-label', `Mark ${visible(row.name)}`);
      own.box.checked = marked.has(row.id);
      own.element.classList.toggle('marked', own.box.checked);
    }
    const cells = shown.map((column, i) => {
      const full = [column.set ? plain(row.cells[column.index]) : row.cells[column.index]].flat().map((part) => cellText(part, digits[column.index])).join(' ± ');
      const is = JSON.stringify([i === 0, column.kind, column.numeric, full, row.link]);
      const before = own.cells.get(named(column));
      if (before?.is === is) return before;
      const content = column.kind === 'state' ? state(stateName(full), full) : full;
      const element = i === 0 ? h('th', { scope: 'row' }, row.link ? h('a', { href: row.link }, content || '(the study)') : content)
        : h('td', { class: column.numeric ? 'number' : null }, content);
      return { is, name: named(column), element };
    });
    own.cells = new Map(cells.map((cell) => [cell.name, cell]));
    anew(own.element, () => settle(own.element, [own.mark, ...cells.map(({ element }) => element)].filter(Boolean)));
    return own;
  }

  function mark() {
    compare.hidden = !marked;
    clear.hidden = !marked?.size;
    if (!marked) return;
    say(compare, marked.size ? `Compare ${marked.size}` : 'Compare');
    compare.setAttribute('href', marked.size ? `#/compare?rows=${[...marked].map(encodeURIComponent).join(',')}` : '#/table');
    compare.toggleAttribute('aria-disabled', marked.size === 0);
    compare.classList.toggle('off', marked.size === 0);
  }

  function update(next) {
    data = next;
    columns = data.columns.map((column, index) => ({ ...column, index }));
    columns.forEach((column) => { column.set = isSet(column); });
    filter.placeholder = `${(columns.find((c) => c.numeric && c.shown) ?? columns[0])?.name ?? 'name'}<10`;
    listColumns();
    arrange();
  }

  scroller.addEventListener('scroll', () => requestAnimationFrame(body), { passive: true });
  new ResizeObserver(body).observe(scroller);
  mark();
  update(data);
  const element = h('div', { class: 'tabled' },
    h('div', { class: 'tools' }, h('label', { for: 'filter' }, 'Filter'), filter, choose, count, h('span', { class: 'push' }), clear, compare),
    h('p', { id: 'filter-help', class: 'hint' }, 'Comparisons with <, <=, >, >=, =, != and ~ (a part of a text), separated by commas.'),
    problem, scroller);
  return { element, update };
}

function cellText(cell, digits) {
  if (cell === null || cell === undefined) return '–';
  if (typeof cell !== 'number') return cell;
  return digits === null || !Number.isFinite(cell) ? String(cell) : cell.toFixed(digits);
}

function stateName(text) {
  if (/ of \d+ stages?$/.test(text)) return 'waiting';
  return text === 'done' ? 'done' : text;
}
