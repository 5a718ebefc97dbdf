// The drill-down table: any dimension, optionally split by time, sorted by any column; a row becomes a filter.

import { h, fill, empty } from './dom.js';
import { count, dimNames, grains, money, percent, price, timeLabel } from './format.js';
import { choosable, nameCell, noneKey } from './parts.js';

export const pageRows = 50;

const measures = [
  { key: 'impressions', title: 'Impressions', format: count },
  { key: 'clicks', title: 'Clicks', format: count },
  { key: 'conversions', title: 'Conversions', format: count },
  { key: 'n', title: 'Count', format: count, when: (rows) => rows.some((r) => Number(r.n) !== Number(r.impressions) + Number(r.clicks) + Number(r.conversions)) },
  { key: 'CTR', title: 'CTR', format: percent },
  { key: 'CR', title: 'CR', format: percent },
  { key: 'EPC', title: 'EPC', format: price },
  { key: 'eCPM', title: 'eCPM', format: price },
  { key: 'revenue', title: 'Revenue', format: money },
  { key: 'payout', title: 'Payout', format: money },
  { key: 'profit', title: 'Profit', format: money },
];

// exploreBy returns the dimensions the table is split by.
export const exploreBy = (state) => [state.by, state.grain].filter(Boolean);

// exploreOrder returns the order for the report: largest first, and time in its own order.
export function exploreOrder(state) {
  if (state.order) return state.order;
  if (state.grain) return state.grain;
  return state.by === 'type' || state.by === 'class' ? '-n' : '-impressions,-clicks,-n';
}

// showExplore draws a report. on = { choose(row), sort(order), more() }
export function showExplore(box, state, report, limit, on) {
  const rows = report.rows || [];
  if (!rows.length) {
    fill(box, empty('Nothing was counted here', 'Choose a longer range, or remove a filter. ',
      state.range === 'all' ? null : h('button', { type: 'button', class: 'link', on: { click: on.all } }, 'Show all time')));
    return;
  }
  const by = exploreBy(state);
  const shown = measures.filter((m) => !m.when || m.when(rows));
  const order = exploreOrder(state).split(',')[0];
  const several = new Set(rows.map((r) => r.currency).filter(Boolean)).size > 1;
  const headCell = (key, title, word) => {
    const desc = order === `-${key}`;
    const sorted = desc || order === key;
    const next = word ? (order === key ? `-${key}` : key) : desc ? key : `-${key}`;
    return h('th', { scope: 'col', class: word ? 'word' : '', 'aria-sort': sorted ? (desc ? 'descending' : 'ascending') : undefined },
      h('button', { type: 'button', dataset: { focus: `sort:${key}` }, on: { click: () => on.sort(next) } }, title, sorted ? (desc ? ' ↓' : ' ↑') : ''));
  };
  const head = h('tr', null, by.map((d) => headCell(d, dimNames[d] || 'Time', true)), shown.map((m) => headCell(m.key, m.title)),
    several ? h('th', { scope: 'col' }, 'Currency') : null);
  const body = rows.map((row) => {
    const choose = canChoose(state, row) ? () => on.choose(row) : null;
    const cells = by.map((d, i) => h(i === 0 ? 'th' : 'td', { class: 'word', scope: i === 0 ? 'row' : undefined },
      grains.includes(d) ? timeCell(row[d], i === 0 ? choose : null) : nameCell(d, row, choose)));
    return h('tr', { class: choose ? 'pickable' : '', on: choose ? { click: choose } : {} }, cells,
      shown.map((m) => h('td', { title: row[m.key] ?? '' }, m.format(row[m.key]))), several ? h('td', null, row.currency) : null);
  });
  const totals = report.totals || {};
  const foot = by.length ? h('tfoot', null, h('tr', null, h('th', { class: 'word', scope: 'row' }, 'Total'), by.slice(1).map(() => h('td')),
    shown.map((m) => h('td', null, m.format(totals[m.key]))), several ? h('td') : null)) : null;
  const total = report.row_count ?? rows.length;
  fill(box,
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Drill-down table' },
      h('table', null, h('caption', { class: 'sr' }, `Counts by ${by.map((d) => dimNames[d] || d).join(' and ') || 'nothing'}`), h('thead', null, head), h('tbody', null, body), foot)),
    total > rows.length ? h('div', { class: 'more' }, `${count(rows.length)} of ${count(total)} rows`,
      limit < 1000 ? h('button', { type: 'button', class: 'link', dataset: { focus: 'more' }, on: { click: on.more } }, 'Show more') : 'The CSV file has all of them.') : null,
    (report.warnings || []).length ? h('p', { class: 'note' }, report.warnings.join(' ')) : null);
}

function timeCell(text, choose) {
  if (!choose) return h('span', { class: 'name' }, timeLabel(text));
  return h('button', { type: 'button', class: 'name', title: `Show only ${text}`, dataset: { focus: `time:${text}` }, on: { click: (e) => { e.stopPropagation(); choose(); } } }, timeLabel(text));
}

// canChoose says whether a row can become a filter or, where there is only time, a range.
function canChoose(state, row) {
  if (state.by) return choosable(row[state.by]);
  return state.grain === 'day';
}

// chosen returns the state after a row has been clicked.
export function chosen(state, row) {
  if (!state.by) return { ...state, range: 'custom', from: row.day, to: row.day, grain: 'hour', order: '' };
  const dim = state.by;
  const filters = addFilter(state.filters, dim, row[dim] ?? noneKey);
  const after = { advertiser: 'campaign', campaign: 'affiliate', affiliate: 'campaign', banner: 'affiliate', goal: 'campaign', type: 'campaign', class: 'campaign' };
  let next = after[dim] || 'campaign';
  if (filters.some((f) => f.dim === next)) next = ['campaign', 'affiliate', 'banner', 'sub1'].find((d) => !filters.some((f) => f.dim === d)) || next;
  return { ...state, filters, by: next, order: '' };
}

export function addFilter(filters, dim, key) {
  return [...filters.filter((f) => f.dim !== dim), { dim, key }];
}
