'use strict';
// A log of any length: a window of it is on the page, more is read where a person goes, and its end is followed.

const HELD = 1024 * 1024; // bytes on the page at most, of which there may be one answer more

/** The log of a name: its element, and whether its end is followed; `running` tells whether it may grow. */
function logView(name, running, signal) {
  const text = h('pre', { class: 'log', tabindex: '0', role: 'log', 'aria-live': 'off', 'aria-label': 'Log' });
  const where = h('span', { class: 'hint' });
  const follow = h('input', { type: 'checkbox', id: 'follow', checked: true, onchange: () => follow.checked && toEnd() });
  const slider = h('input', { type: 'range', min: '0', max: '1000', value: '1000', 'aria-label': 'Position in the log', hidden: true, onchange: () => {
    follow.checked = slider.value === '1000';
    if (follow.checked) toEnd(); else toPlace(Math.floor((size * Number(slider.value)) / 1000));
  } });
  let [size, busy, wish] = [0, false, null];
  let [stood, high] = [0, 0]; // where the text was put or left last, and how high it was
  let parts = []; // {from, to, node}, each where the one before it ends

  const from = () => (parts.length ? parts[0].from : 0);
  const to = () => (parts.length ? parts[parts.length - 1].to : 0);
  const whole = () => from() === 0 && to() >= size;
  const place = () => {
    slider.hidden = STATIC || whole();
    let words = bytes(size);
    if (size === 0) words = 'nothing yet';
    else if (STATIC && from() > 0) words = `the last ${bytes(to() - from())} of ${bytes(size)}`;
    else if (!whole()) words = `${bytes(from())} to ${bytes(to())} of ${bytes(size)}`;
    say(where, words);
  };

  /** A person's scrolling chooses whether the end is followed; the page's own, and that of a text that became another, does not. */
  function heed() {
    const below = text.scrollHeight - text.scrollTop - text.clientHeight;
    if (text.scrollTop !== stood && text.scrollHeight === high) {
      if (text.scrollTop < stood && below >= 40) follow.checked = false;
      else if (text.scrollTop > stood && below < 40 && to() >= size) follow.checked = true;
    }
    [stood, high] = [text.scrollTop, text.scrollHeight];
  }

  /** One answer at a time. What a person asks for meanwhile (`asked`) comes after it, and before anything else. */
  async function read(query, work, asked) {
    if (signal.aborted) return;
    if (busy) {
      if (asked) wish = () => read(query, work, true);
      return;
    }
    busy = true;
    try {
      const part = await get(name, query());
      if (signal.aborted) return;
      heed();
      size = Math.max(part.size, part.to);
      // What somebody wants to see by now is elsewhere.
      if (!wish) work({ from: part.from, to: part.to, node: document.createTextNode(visible(unrolled(part.text))) });
      [stood, high] = [text.scrollTop, text.scrollHeight];
      place();
    } catch (error) {
      if (!signal.aborted) say(where, `The log cannot be read: ${error.message}`);
      return;
    } finally {
      busy = false;
    }
    const next = wish;
    wish = null;
    if (next) next();
    else if (follow.checked && to() < size && !STATIC) (size - to() > HELD ? toEnd : later)();
  }
  const only = (part) => { parts = [part]; text.replaceChildren(part.node); };
  const toEnd = () => read(() => '', (part) => { only(part); text.scrollTop = text.scrollHeight; }, true);
  const toPlace = (position) => read(() => `?from=${position}`, (part) => { only(part); text.scrollTop = 0; }, true);
  const earlier = () => read(() => `?before=${from()}`, (part) => {
    if (part.to !== from() || part.from === part.to) return;
    const below = text.scrollHeight - text.scrollTop;
    parts.unshift(part);
    text.prepend(part.node);
    while (to() - from() > HELD && parts.length > 1) parts.pop().node.remove();
    text.scrollTop = text.scrollHeight - below;
  }, true);
  const later = (asked) => read(() => `?from=${to()}`, (part) => {
    if (part.from !== to()) { only(part); return; } // it began anew
    if (part.from === part.to) return;
    const end = parts[parts.length - 1];
    // Small pieces of a growing log become one text.
    if (end && part.to - end.from < 64 * 1024) {
      end.node.appendData(part.node.data);
      end.to = part.to;
    } else {
      parts.push(part);
      text.append(part.node);
    }
    while (to() - from() > HELD && parts.length > 1) {
      const height = text.scrollHeight;
      parts.shift().node.remove();
      if (!follow.checked) text.scrollTop -= height - text.scrollHeight;
    }
    if (follow.checked) text.scrollTop = text.scrollHeight;
  }, asked);

  text.addEventListener('scroll', () => {
    const below = text.scrollHeight - text.scrollTop - text.clientHeight;
    heed();
    if (STATIC) return;
    if (text.scrollTop < 200 && from() > 0) earlier();
    else if (below < 200 && to() < size) later(!follow.checked);
    if (size > 0 && !slider.matches(':active')) slider.value = String(Math.round((1000 * (from() + (to() - from()) * (text.scrollTop / Math.max(1, text.scrollHeight - text.clientHeight)))) / size));
  }, { passive: true });

  const heardOf = (grown) => {
    if (grown.name !== name) return;
    size = Math.max(size, grown.size);
    if (follow.checked) later(); else place();
  };
  // What was missed while the answer before was on its way, or while nobody told of it.
  let was = running();
  const tick = setInterval(() => {
    if ((was || running()) && follow.checked && !document.hidden) later();
    was = running();
  }, 1500);
  known.logs.add(heardOf);
  signal.addEventListener('abort', () => { clearInterval(tick); known.logs.delete(heardOf); });
  toEnd();
  const element = h('div', { class: 'logged' },
    h('div', { class: 'tools' }, !STATIC && h('label', { for: 'follow', class: 'check' }, follow, 'Follow the end'), slider, where), text);
  return { element, following: () => follow.checked };
}

/** Each step of a bar that is written over and over on a line of its own, as `pipeline log` has it. */
function unrolled(text) {
  return text.replace(/\r+\n?/g, '\n');
}
