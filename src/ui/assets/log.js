'use strict';
// A log of any length: a window of it is on the page, more is read where a person goes, and its end is followed.

const HELD = 1024 * 1024; // bytes on the page at most, of which there may be one answer more

/** The log of a name as an element; `running` tells whether it may grow. */
function logView(name, running, signal) {
  const text = h('pre', { class: 'log', tabindex: '0', role: 'log', 'aria-live': 'off', 'aria-label': 'Log' });
  const where = h('span', { class: 'hint' });
  const follow = h('input', { type: 'checkbox', id: 'follow', checked: true, onchange: () => follow.checked && toEnd() });
  const slider = h('input', { type: 'range', min: '0', max: '1000', value: '1000', 'aria-label': 'Position in the log', hidden: true, onchange: () => {
    follow.checked = slider.value === '1000';
    if (follow.checked) toEnd(); else toPlace(Math.floor((size * Number(slider.value)) / 1000));
  } });
  let [size, busy] = [0, false];
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

  /** One answer at a time. */
  async function read(query, work) {
    if (busy || signal.aborted) return;
    busy = true;
    try {
      const part = await get(name, query);
      if (signal.aborted) return;
      size = part.size;
      work({ from: part.from, to: part.to, node: document.createTextNode(visible(unrolled(part.text))) });
      place();
    } catch (error) {
      if (!signal.aborted) say(where, `The log cannot be read: ${error.message}`);
    } finally {
      busy = false;
    }
  }
  const only = (part) => { parts = [part]; text.replaceChildren(part.node); };
  const toEnd = () => read('', (part) => { only(part); text.scrollTop = text.scrollHeight; });
  const toPlace = (position) => read(`?from=${position}`, (part) => { only(part); text.scrollTop = 0; });
  const earlier = () => read(`?before=${from()}`, (part) => {
    if (part.to !== from() || part.from === part.to) return;
    const below = text.scrollHeight - text.scrollTop;
    parts.unshift(part);
    text.prepend(part.node);
    while (to() - from() > HELD && parts.length > 1) parts.pop().node.remove();
    text.scrollTop = text.scrollHeight - below;
  });
  const later = () => read(`?from=${to()}`, (part) => {
    if (part.from !== to() || part.size < to()) { only(part); return; } // it began anew
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
  });

  text.addEventListener('scroll', () => {
    const below = text.scrollHeight - text.scrollTop - text.clientHeight;
    if (to() >= size) follow.checked = below < 40;
    else if (!busy) follow.checked = false;
    if (STATIC) return;
    if (text.scrollTop < 200 && from() > 0) earlier();
    else if (below < 200 && to() < size) later();
    if (size > 0) slider.value = String(Math.round((1000 * (from() + (to() - from()) * (text.scrollTop / Math.max(1, text.scrollHeight - text.clientHeight)))) / size));
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
  return h('div', { class: 'logged' },
    h('div', { class: 'tools' }, !STATIC && h('label', { for: 'follow', class: 'check' }, follow, 'Follow the end'), slider, where), text);
}

/** Each step of a bar that is written over and over on a line of its own, as `pipeline log` has it. */
function unrolled(text) {
  return text.replace(/\r+\n?/g, '\n');
}
