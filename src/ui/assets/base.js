'use strict';
// Elements, and words and numbers for people. Whatever comes from a study becomes text here, never markup.

const SVG = new Set(['svg', 'g', 'path', 'line', 'circle', 'text', 'rect', 'title']);
const PROPERTIES = new Set(['value', 'checked', 'disabled', 'open', 'indeterminate', 'scrollTop']);

/** An element. Properties that begin with `on` are listeners; children are elements, texts, or lists of them. */
function h(name, properties = {}, ...children) {
  const element = SVG.has(name)
    ? document.createElementNS('http://www.w3.org/2000/svg', name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'style') Object.entries(value).forEach(([k, v]) => element.style.setProperty(k, v));
    else if (PROPERTIES.has(key)) element[key] = value;
    else element.setAttribute(key, value === true ? '' : value);
  }
  put(element, ...children);
  return element;
}

/** Appends elements and texts. */
function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : visible(child));
  }
  return element;
}

/** Puts these in the place of everything in an element. */
function fill(element, ...children) {
  element.replaceChildren();
  return put(element, ...children);
}

/** Makes these the children of an element, and moves or replaces none that is in its place already: what a person holds, presses or selects stays. */
function settle(element, children) {
  const wanted = new Set(children);
  [...element.childNodes].forEach((child) => wanted.has(child) || child.remove());
  children.forEach((child, i) => { if (element.childNodes[i] !== child) element.insertBefore(child, element.childNodes[i] ?? null); });
}

/** What an element is called when it is looked for in a part of the page that was drawn anew. */
function keptAs(element) {
  if (element.tagName === 'SUMMARY') return `summary ${element.parentElement?.dataset.keep}`;
  return element.dataset.keep ?? (element.id || element.getAttribute('href'));
}

/** Draws a part of the page anew, and leaves a person where they were in it: what has the focus, what is open, how far it is scrolled. */
function anew(root, draw) {
  const active = document.activeElement;
  const held = root.contains(active) ? keptAs(active) : null;
  const kept = () => [...root.querySelectorAll('[data-keep]')];
  const was = new Map(kept().map((e) => [keptAs(e), { open: e.open, top: e.scrollTop, left: e.scrollLeft }]));
  draw();
  kept().forEach((e) => {
    const old = was.get(keptAs(e));
    if (!old) return;
    if (old.open) e.open = true;
    if (old.top) e.scrollTop = old.top;
    if (old.left) e.scrollLeft = old.left;
  });
  if (held === null || active.isConnected) return;
  [...root.querySelectorAll('a, button, input, select, summary, [tabindex]')].find((e) => keptAs(e) === held)?.focus({ preventScroll: true });
}

/**
 * A part of the page that is made anew only when what it shows has changed: what is open or read in it stays. While somebody
 * holds something of it, or has selected it, it waits.
 */
function part(data, make) {
  const holder = h('div', {});
  let old = null;
  const held = () => holder.contains(document.activeElement) || (!getSelection().isCollapsed && getSelection().containsNode(holder, true));
  const draw = () => {
    const now = JSON.stringify(data());
    if (now === old) return;
    if (held()) {
      document.addEventListener('selectionchange', later);
      return;
    }
    document.removeEventListener('selectionchange', later);
    anew(holder, () => fill(holder, make()));
    old = now;
  };
  const later = () => (holder.isConnected ? draw() : document.removeEventListener('selectionchange', later));
  holder.addEventListener('focusout', () => setTimeout(draw));
  return { holder, draw };
}

/** A text, where that is not what stands there already: an unchanged node is not read out again. */
function say(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

// Control characters, and marks that turn the direction of what follows, are shown and not obeyed.
const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
function visible(text) {
  return String(text).replace(OBEYED, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

function bytes(n) {
  if (n === null || n === undefined) return '';
  const power = Math.min(4, Math.floor(Math.log2(Math.max(1, n)) / 10));
  return power === 0 ? `${n} B` : `${(n / 1024 ** power).toFixed(1)} ${['', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

/** Four significant digits. */
function significant(x) {
  if (typeof x !== 'number') return String(x);
  if (!Number.isFinite(x) || x === 0 || (Number.isInteger(x) && Math.abs(x) < 1e7)) return String(x);
  const digits = 3 - Math.floor(Math.log10(Math.abs(x)));
  return digits < 0 || digits > 6 ? x.toExponential(3) : x.toFixed(digits);
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return '';
  const whole = Math.round(seconds);
  if (seconds < 0.01) return '0 s';
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function counted(n, noun) {
  const number = n.toLocaleString('en');
  if (n === 1) return `${number} ${noun}`;
  return noun.endsWith('y') ? `${number} ${noun.slice(0, -1)}ies` : `${number} ${noun}s`;
}

function moment(seconds) {
  return seconds ? `${new Date(seconds * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC` : '';
}

/** A digest with its beginning shown and all of it for who points at it. */
function digest(text) {
  return text ? h('code', { class: 'digest', title: text }, text.replace(/^tree:/, '').slice(0, 12)) : null;
}

// States by sign, colour and word: none of the three is needed to tell them apart.
const SIGNS = { running: '▶', cached: '✓', ran: '✓', done: '✓', fetched: '✓', replaced: '⇄', restored: '✓', waiting: '·', queued: '…',
  'to-run': '·', failed: '✕', skipped: '–', stopped: '■', unknown: '?' };
function state(name, text) {
  return h('span', { class: `state ${Object.hasOwn(SIGNS, name) ? name : 'unknown'}` },
    h('span', { class: 'sign', 'aria-hidden': 'true' }, SIGNS[name] ?? '?'), text ?? name.replace('-', ' '));
}

/** A bar for a share between 0 and 1. */
function bar(share, label) {
  return h('span', { class: 'bar', role: 'progressbar', 'aria-label': label, 'aria-valuemin': '0', 'aria-valuemax': '100',
    'aria-valuenow': Math.floor(share * 100) }, h('span', { style: { width: `${Math.min(100, share * 100)}%` } }));
}

/** A button that copies a text, and says so. */
function copy(text, what) {
  const button = h('button', { type: 'button', class: 'quiet', onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce(`${what} copied`);
      button.textContent = 'Copied';
    } catch {
      // A page opened from disk may not have the clipboard: the text is marked, so that one key copies it.
      const block = button.parentElement.querySelector('code, pre');
      getSelection().selectAllChildren(block);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  } }, 'Copy');
  button.setAttribute('aria-label', `Copy ${what}`);
  return button;
}

/** Tells people who hear the page, politely. */
function announce(text) {
  say(document.getElementById('announcer'), text);
}

/** A heading, and what belongs to it. */
function section(title, ...children) {
  const id = `h-${title.toLowerCase().replace(/[^a-z]+/g, '-')}`;
  return h('section', { 'aria-labelledby': id }, h('h2', { id }, title), ...children);
}

/** A table of a few rows. Cells that are numbers stand to the right. */
function small(caption, head, rows) {
  return h('div', { class: 'wide', tabindex: '0', role: 'group', 'aria-label': caption, 'data-keep': caption }, h('table', {},
    h('caption', { class: 'hidden' }, caption),
    h('thead', {}, h('tr', {}, head.map((cell) => h('th', { scope: 'col' }, cell)))),
    h('tbody', {}, rows.map((row) => h('tr', {}, row.map((cell, i) => (i === 0
      ? h('th', { scope: 'row' }, cell)
      : h('td', { class: typeof cell === 'number' ? 'number' : null }, typeof cell === 'number' ? significant(cell) : cell))))))));
}
