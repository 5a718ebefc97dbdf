// What the page shows is in its address, so that a view can be kept, shared and gone back to.

import { dateIn } from './format.js';

const defaults = { tenant: '', range: 'today', from: '', to: '', zone: '', time: 'received', by: 'campaign', grain: '', order: '', chart: 'live' };

export function readState() {
  const query = new URLSearchParams(location.search);
  const state = { ...defaults, filters: [] };
  for (const key of Object.keys(defaults)) if (query.has(key)) state[key] = query.get(key);
  for (const text of query.getAll('f')) {
    const at = text.indexOf(':');
    if (at > 0) state.filters.push({ dim: text.slice(0, at), key: text.slice(at + 1) });
  }
  return state;
}

export function writeState(state, replace) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(defaults)) if (state[key] !== value) query.set(key, state[key]);
  for (const f of state.filters) query.append('f', `${f.dim}:${f.key}`);
  const text = query.toString();
  const url = text ? `?${text}` : location.pathname;
  if (replace) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
}

const rollups = ['country', 'device', 'sub1'];

// quarters says whether an answer comes from tables that are 15 minutes fine.
function quarters(state, by) {
  return state.time === 'occurred' || [...by, ...state.filters.map((f) => f.dim)].some((d) => rollups.includes(d));
}

const quarterMS = 15 * 60000;
const iso = (ms) => new Date(ms).toISOString().slice(0, 16) + 'Z';

// range returns from and to as the report takes them.
export function range(state, zone, by) {
  const hours = { '1h': 1, '24h': 24 }[state.range];
  if (hours) {
    if (!quarters(state, by)) return { from: `-${hours}h`, to: 'now' };
    const end = Math.ceil((Date.now() + 1) / quarterMS) * quarterMS;
    return { from: iso(end - hours * 3600000), to: iso(end) };
  }
  switch (state.range) {
    case 'yesterday': return { from: 'yesterday', to: 'yesterday' };
    case '7d': return { from: '-6d', to: 'today' };
    case '30d': return { from: '-29d', to: 'today' };
    case 'month': return { from: `${dateIn(new Date(), zone).slice(0, 7)}-01`, to: 'today' };
    case 'all': return { from: '2000-01-01', to: 'today' };
    case 'custom': return { from: state.from || state.to || 'today', to: state.to || state.from || 'today' };
    default: return { from: 'today', to: 'today' };
  }
}

// grainFor picks how finely the chart splits a range of so many days.
export function grainFor(state, days) {
  if (days <= 0.1) return quarters(state, []) ? '15min' : 'minute';
  if (days <= 1.2) return '15min';
  if (days <= 8) return 'hour';
  if (days <= 120) return 'day';
  if (days <= 800) return 'week';
  return 'month';
}

// days estimates the length of the chosen range before the server has said it.
export function days(state) {
  const fixed = { '1h': 1 / 24, '24h': 1, today: 1, yesterday: 1, '7d': 7, '30d': 30, month: 31, all: 10000 }[state.range];
  if (fixed) return fixed;
  const span = (Date.parse(state.to || state.from) - Date.parse(state.from || state.to)) / 86400000 + 1;
  return Number.isFinite(span) ? Math.max(1, span) : 1;
}
