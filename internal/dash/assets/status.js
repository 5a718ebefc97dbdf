// The status page: every second what the stages, the lanes and the process do.

import { ask } from './api.js';
import { byId, h, fill, setText, empty } from './dom.js';
import { count, short } from './format.js';

const ms = (v) => (v === 0 ? '–' : v < 1 ? `${Math.round(v * 1000)} µs` : v < 10 ? `${v.toFixed(2)} ms` : v < 1000 ? `${Math.round(v)} ms` : `${(v / 1000).toFixed(1)} s`);
const pct = (v) => `${Math.round(v * 100)}%`;
const ago = (s) => (s === null || s === undefined ? 'none yet' : `${ms(Math.max(s * 1000, 0.001))} ago`);
const tone = (u) => (u >= 0.9 ? 'full' : u >= 0.7 ? 'tight' : '');

function span(seconds) {
  const s = Math.floor(seconds);
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']].map(([n, unit], i, all) => [Math.floor((i ? s % all[i - 1][0] : s) / n), unit]);
  const first = parts.findIndex(([n]) => n > 0);
  return first < 0 ? '0 s' : parts.slice(first, first + 2).map(([n, unit]) => `${n} ${unit}`).join(' ');
}

function tile(title, value, more, kind) {
  return h('div', { class: 'tile' }, h('div', { class: 'tile-name' }, title),
    h('div', { class: 'tile-value long' }, kind ? h('span', { class: `pill ${kind}` }, value) : value), h('div', { class: 'tile-more wrap' }, more));
}

function ready(status) {
  const r = status.ready;
  const part = (title, p) => tile(title, p.ready ? 'ready' : 'not ready', p.ready ? (p.warnings || ['all checks hold']).join('; ') : p.reasons.join('; '),
    p.ready ? 'good' : 'bad');
  const w = r.duplicate_window;
  const hours = (s) => `${(s / 3600).toFixed(s < 36000 ? 1 : 0)} h`;
  fill(byId('ready'), part('Doors', r.doors), part('Grid', r.grid),
    tile('Last write', ago(r.last_durable_age_seconds), `flushed ${ago(r.last_flush_age_seconds)}`),
    tile('Duplicate window', `${hours(w.covered_seconds)} of ${hours(w.configured_seconds)}`,
      w.state === 'shortened' ? `cut short ${count(w.early_ends)} times by the limit of ids` : `${short(w.ids)} ids held`, w.state === 'shortened' ? 'warn' : ''));
}

function pipe(status) {
  const stages = new Map();
  for (const s of status.stages) {
    const sum = stages.get(s.stage) || { busy: 0, rate: 0, p99: 0 };
    sum.busy = Math.max(sum.busy, s.last_10s.utilisation);
    sum.rate += s.last_10s.rate;
    sum.p99 = Math.max(sum.p99, s.last_10s.p99_ms);
    stages.set(s.stage, sum);
  }
  fill(byId('pipe'), [...stages].map(([name, s]) => h('li', { class: `${tone(s.busy)}${name === status.bottleneck ? ' bottleneck' : ''}`, style: { '--w': s.busy * 100 }, dataset: { stage: name } },
    h('b', null, name), h('span', { class: 'busy' }, pct(s.busy)), h('small', null, `${short(Math.round(s.rate))}/s, p99 ${ms(s.p99)}`))));
  setText(byId('verdict'), status.bottleneck ? `Bottleneck now: ${status.bottleneck}` : 'All stages are idle.');
}

function table(caption, heads, rows) {
  return h('table', null, h('caption', { class: 'sr' }, caption),
    h('thead', null, h('tr', null, heads.map((t, i) => h('th', { scope: 'col', class: i < 2 ? 'word' : '' }, t)))), h('tbody', null, rows));
}

function stages(status) {
  if (!status.stages.length) {
    fill(byId('stages'), empty('No stage has reported yet'));
    return;
  }
  fill(byId('stages'), table('Stages', ['Stage', 'Instance', 'Busy, 10 s', '1 min', 'Events/s', 'p50', 'p99', 'Max', 'p99, 1 min', 'Events'],
    status.stages.map((s) => h('tr', null, h('th', { class: 'word', scope: 'row' }, s.stage, s.stage === status.bottleneck ? h('span', null, ' ', h('span', { class: 'pill warn' }, 'bottleneck')) : null),
      h('td', { class: 'word' }, s.instance, s.workers > 1 ? ` ×${s.workers}` : ''),
      h('td', null, s.running_ms > 1000 ? `${pct(s.last_10s.utilisation)}, at it for ${ms(s.running_ms)}` : pct(s.last_10s.utilisation)), h('td', null, pct(s.last_1m.utilisation)),
      h('td', null, short(Math.round(s.last_10s.rate))), h('td', null, ms(s.last_10s.p50_ms)), h('td', null, ms(s.last_10s.p99_ms)), h('td', null, ms(s.last_10s.max_ms)),
      h('td', null, ms(s.last_1m.p99_ms)), h('td', null, count(s.events))))));
}

function lanes(status) {
  if (!status.lanes.length) {
    fill(byId('lanes'), empty('No lanes'));
    return;
  }
  const kinds = { counting: 'good', 'catching up': 'warn', halted: 'bad', stopped: 'bad' };
  fill(byId('lanes'), table('Lanes', ['Lane', 'State', 'Durable', 'Folded', 'Flushed', 'Sealed', 'Queued', 'Dirty cells', 'Lag'],
    status.lanes.map((l) => h('tr', null, h('th', { class: 'word', scope: 'row' }, l.lane),
      h('td', { class: 'word' }, h('span', { class: `pill ${kinds[l.state] || ''}` }, l.state), l.reason ? ` ${l.reason}` : ''),
      [l.journal_seq, l.folded_seq, l.flushed_seq, l.sealed_seq].map((v) => h('td', null, count(v))),
      h('td', null, `${count(l.queued_events)} of ${short(l.queue_limit_events)}`), h('td', null, count(l.dirty_cells)), h('td', null, ms(l.lag_ms))))));
}

function processFacts(status) {
  const fact = (name, value) => h('div', null, h('dt', null, name), h('dd', null, value));
  fill(byId('process'), fact('Version', status.version || 'unknown'), fact('Mode', status.mode || 'unknown'), fact('Up', span(status.uptime_seconds)),
    fact('CPUs', count(status.cpus)), fact('Goroutines', count(status.goroutines)), fact('Heap in use', `${count(Math.round(status.heap_bytes / 1048576))} MiB`));
}

async function tick() {
  try {
    const status = await ask('/v1/status', AbortSignal.timeout(5000));
    for (const draw of [ready, pipe, stages, lanes, processFacts]) draw(status);
    byId('error').hidden = true;
    byId('live').dataset.state = 'live';
    setText(byId('live-text'), `up ${span(status.uptime_seconds)}`);
  } catch (err) {
    setText(byId('error'), err.name === 'TimeoutError' || err.name === 'AbortError' ? 'The server does not answer.' : err.message);
    byId('error').hidden = false;
    byId('live').dataset.state = 'trouble';
    setText(byId('live-text'), 'not connected');
  } finally {
    setTimeout(tick, 1000);
  }
}

tick();
