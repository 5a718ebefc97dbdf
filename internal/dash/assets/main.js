// The dashboard: reads its state from the address, asks for what it needs, and asks again when the live stream says
// that something was counted.

import { ask, reportURL } from './api.js';
import { Charts } from './chart.js';
import { byId, h, fill, setText, empty } from './dom.js';
import { addFilter, chosen, exploreBy, exploreOrder, pageRows, showExplore } from './explore.js';
import { clock, count, dateIn, dimNames, lag, rate, short, words } from './format.js';
import { Live } from './live.js';
import { customEvents, showTop, showTotals, showVerdicts } from './parts.js';
import { liveView, rangeView } from './series.js';
import { days, grainFor, readState, writeState } from './state.js';

const refreshMS = 1500; // at most this often, when counts change
const idleRefreshMS = 30000; // and at least this often

const names = new Map(); // dim:key → display name, as seen in answers
const charts = new Charts(byId('charts'));
let state = readState();
let limit = pageRows;
let loading = null; // AbortController of the answers on their way
let loadedAt = 0;
let tookMS = 0;
let stale = false;
let lastNews = '';
let lastMessage = null;
let lastReport = null;

const tenantOption = () => {
  const select = byId('tenant');
  return [...select.options].find((o) => o.value === (state.tenant || select.dataset.default)) || select.options[0];
};
const zone = () => state.zone || (tenantOption() && tenantOption().dataset.zone) || 'UTC';

function go(next, { replace = false } = {}) {
  state = next;
  limit = pageRows;
  writeState(state, replace);
  controls();
  load(false);
}

// --- controls

function controls() {
  const option = tenantOption();
  if (option) byId('tenant').value = option.value;
  for (const b of byId('ranges').children) b.setAttribute('aria-pressed', String(b.dataset.range === state.range));
  if (state.range === 'custom') dates(state.from, state.to);
  zones();
  byId('time').value = state.time;
  byId('by').value = state.by;
  byId('grain').value = state.grain;
  for (const b of byId('chart-mode').children) b.setAttribute('aria-pressed', String(b.dataset.mode === state.chart));
  byId('csv').href = reportURL(state, zone(), { by: exploreBy(state), order: exploreOrder(state), limit: 200000, format: 'csv' });
  chips();
}

// dates shows the days of the range, also when it was chosen by name, unless one of them is just being typed.
function dates(from, to) {
  for (const [id, value] of [['from', from], ['to', to]]) {
    const input = byId(id);
    if (value && input.value !== value && document.activeElement !== input) input.value = value;
  }
}

function zones() {
  const select = byId('zone');
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const own = tenantOption() ? tenantOption().dataset.zone : '';
  const first = [...new Set([zone(), own, here, 'UTC'].filter(Boolean))];
  const key = first.join();
  if (select.dataset.key !== key) {
    const all = Intl.supportedValuesOf ? Intl.supportedValuesOf('timeZone') : [];
    select.replaceChildren(...[...first, ...all.filter((z) => !first.includes(z))].map((z) => h('option', { value: z }, z.replaceAll('_', ' '))));
    select.dataset.key = key;
  }
  select.value = zone();
}

function chips() {
  const box = byId('chips');
  box.hidden = state.filters.length === 0;
  fill(box, state.filters.map((f) => {
    const name = names.get(`${f.dim}:${f.key}`) || (f.dim === 'class' ? words(f.key) : f.key);
    return h('span', { class: 'chip', dataset: { dim: f.dim } }, h('b', null, dimNames[f.dim] || f.dim), h('span', null, name),
      h('button', { type: 'button', 'aria-label': `Remove the filter ${dimNames[f.dim] || f.dim} ${name}`, dataset: { focus: `chip:${f.dim}` },
        on: { click: () => go({ ...state, filters: state.filters.filter((x) => x !== f) }) } }, '×'));
  }), state.filters.length > 1 ? h('button', { type: 'button', class: 'link', on: { click: () => go({ ...state, filters: [] }) } }, 'Remove all') : null);
}

function listen() {
  byId('ranges').addEventListener('click', (e) => {
    const range = e.target.dataset.range;
    if (range) go({ ...state, range, from: '', to: '' });
  });
  for (const id of ['from', 'to']) {
    byId(id).addEventListener('change', () => {
      let [from, to] = [byId('from').value, byId('to').value];
      if (from && to && from > to) [from, to] = id === 'from' ? [from, from] : [to, to];
      if (from || to) go({ ...state, range: 'custom', from: from || to, to: to || (from > dateIn(new Date(), zone()) ? from : dateIn(new Date(), zone())) });
    });
  }
  byId('zone').addEventListener('change', (e) => go({ ...state, zone: e.target.value }));
  byId('time').addEventListener('change', (e) => go({ ...state, time: e.target.value }));
  byId('by').addEventListener('change', (e) => go({ ...state, by: e.target.value, order: '' }));
  byId('grain').addEventListener('change', (e) => go({ ...state, grain: e.target.value, order: '' }));
  byId('tenant').addEventListener('change', (e) => {
    const tenant = e.target.value === e.target.dataset.default ? '' : e.target.value;
    go({ ...state, tenant, zone: '', filters: [], order: '' });
    live.open(state.tenant);
  });
  byId('chart-mode').addEventListener('click', (e) => {
    const mode = e.target.dataset.mode;
    if (!mode || mode === state.chart) return;
    charts.clear();
    go({ ...state, chart: mode });
    if (mode === 'live' && lastMessage) drawLive(lastMessage);
  });
  addEventListener('popstate', () => {
    const tenant = state.tenant;
    state = readState();
    controls();
    load(false);
    if (state.tenant !== tenant) live.open(state.tenant);
  });
  document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
}

// --- loading

// load asks for everything the page shows. A quiet load is one that the user did not ask for: it changes numbers in
// place and keeps what is there when it fails.
async function load(quiet) {
  if (loading) loading.abort();
  const mine = new AbortController();
  loading = mine;
  stale = false;
  const parts = ['tiles', 'campaigns', 'affiliates', 'verdicts', 'explore'];
  if (!quiet) for (const id of parts) byId(id).setAttribute('aria-busy', 'true');
  const began = performance.now();
  const get = (opts) => ask(reportURL(state, zone(), opts), mine.signal);
  const top = (dim) => get({ by: [dim], order: '-clicks,-impressions,-n', limit: 7 });
  const show = (id, answer, draw) => answer.then(draw, (err) => failed(mine, quiet, id, err));
  const campaigns = top('campaign');
  const answers = [
    show('campaigns', campaigns, (r) => { learn(r, 'campaign'); showTop(byId('campaigns'), 'campaign', 'Top campaigns by clicks', r, (row) => pick('campaign', row)); }),
    show('tiles', campaigns, (r) => { lastReport = r; showTotals(byId('tiles'), r); rates(); fresh(r); shownDays(r); byId('error').hidden = true; }),
    show('affiliates', top('affiliate'), (r) => { learn(r, 'affiliate'); showTop(byId('affiliates'), 'affiliate', 'Top affiliates by clicks', r, (row) => pick('affiliate', row)); }),
    show('verdicts', get({ by: ['class'], classes: 'all' }), (r) => showVerdicts(byId('verdicts'), r, (row) => pick('class', row))),
    show('explore', get({ by: exploreBy(state), order: exploreOrder(state), limit }), (r) => explore(r)),
  ];
  if (state.chart === 'range') {
    const grain = grainFor(state, days(state));
    answers.push(show('charts', get({ by: [grain], limit: 50000 }), (r) => drawRange(r, grain)));
  }
  await Promise.all(answers);
  if (loading !== mine) return;
  loading = null;
  loadedAt = Date.now();
  tookMS = performance.now() - began;
  chips(); // names may be known by now
}

function failed(mine, quiet, id, err) {
  if (err.name === 'AbortError' || mine.signal.aborted) return;
  if (id === 'tiles') {
    fill(byId('error'), err.message, h('button', { type: 'button', class: 'link', on: { click: () => load(false) } }, 'Try again'));
    byId('error').hidden = false;
  }
  if (quiet) return;
  if (id === 'tiles') showTotals(byId('tiles'), {});
  else if (id === 'charts') charts.clear(empty('No chart', err.message));
  else fill(byId(id), empty('No answer', err.message));
}

// refresh loads again when something was counted or time has passed, but never while an answer is on its way, and not
// so often that the page keeps the server busy.
function refresh() {
  if (document.hidden || loading) return;
  const age = Date.now() - loadedAt;
  if ((stale && age > Math.max(refreshMS, 5 * tookMS)) || age > idleRefreshMS) load(true);
}

function learn(report, dim) {
  for (const row of report.rows || []) if (row[`${dim}_name`]) names.set(`${dim}:${row[dim]}`, row[`${dim}_name`]);
}

const pick = (dim, row) => go({ ...state, filters: addFilter(state.filters, dim, row[dim]) });

function explore(report) {
  if (state.by) learn(report, state.by);
  showExplore(byId('explore'), state, report, limit, {
    choose: (row) => go(chosen(state, row)),
    sort: (order) => go({ ...state, order }),
    more: () => { limit = 1000; load(false); },
    all: () => go({ ...state, range: 'all', from: '', to: '' }),
  });
}

function shownDays(report) {
  if (state.range === 'custom' || !report.from || !report.to) return;
  dates(dateIn(new Date(report.from), zone()), dateIn(new Date(Date.parse(report.to) - 1), zone()));
}

function fresh(report) {
  const f = report.fresh || {};
  const other = customEvents(report.totals);
  setText(byId('fresh'), [
    f.as_of ? `As of ${clock(f.as_of, zone())} (${zone().replaceAll('_', ' ')}), lag ${lag(f.lag_ms)}.` : 'Nothing has been counted yet.',
    other > 0 ? `${count(other)} more events are of other types: drill down by type.` : '',
  ].filter(Boolean).join(' '));
  const halted = (f.lanes || []).filter((l) => l.halted).map((l) => l.lane);
  const partial = byId('partial');
  partial.hidden = !report.partial;
  if (report.partial) setText(partial, `Partial: ${halted.length ? `lane ${halted.join(', ')} has halted` : 'a lane has halted'}, so its newest events are missing here. See the status page.`);
}

// --- live

function drawLive(message) {
  charts.show(liveView(live, message, zone()));
  setText(byId('chart-note'), state.filters.length ? 'The live chart shows the whole tenant; filters do not apply to it.' : '');
}

function drawRange(report, grain) {
  const view = rangeView(report, grain, zone(), state.range !== 'all');
  if (!view) charts.clear(empty('Nothing was counted here', 'Choose a longer range, or remove a filter.'));
  else charts.show(view);
  setText(byId('chart-note'), view && view.cut ? 'The range is too long to be drawn this finely; its beginning is shown.' : '');
}

// rates writes the speed of this moment below the counts. It is the tenant's, so it is left out when filters are set.
function rates() {
  const r = state.filters.length || !lastMessage ? {} : lastMessage.rates || {};
  for (const [key, type] of [['impressions', 'impression'], ['clicks', 'click'], ['conversions', 'conversion']]) {
    const el = document.querySelector(`[data-rate=${key}]`);
    if (el) setText(el, rate(r[type]));
  }
}

const live = new Live({
  message(message) {
    lastMessage = message;
    const all = Object.values(message.rates || {}).reduce((a, b) => a + b, 0);
    byId('live').dataset.state = 'live';
    setText(byId('live-text'), message.rates ? (all ? `${short(Math.round(all * 10) / 10)} events/s` : 'live, quiet now') : 'live');
    byId('live').title = message.as_of ? `As of ${clock(message.as_of, zone())}, lag ${lag(message.lag_ms)}` : 'Nothing has been counted yet';
    const news = JSON.stringify([message.totals, message.classes, message.position]);
    if (news !== lastNews) stale = true;
    lastNews = news;
    if (state.chart === 'live') drawLive(message);
    rates();
    refresh();
  },
  trouble(kind, text) {
    byId('live').dataset.state = kind;
    setText(byId('live-text'), text);
  },
});

listen();
controls();
load(false);
live.open(state.tenant);
setInterval(refresh, 1000);
