// The parts of the dashboard that show one answer each.

import { h, fill, empty } from './dom.js';
import { count, decimal, money, percent, price, words } from './format.js';

const tiles = [
  { key: 'impressions', title: 'Impressions', color: '--impressions', format: count },
  { key: 'clicks', title: 'Clicks', color: '--clicks', format: count },
  { key: 'conversions', title: 'Conversions', color: '--conversions', format: count },
  { key: 'CTR', title: 'CTR', format: percent, more: 'of impressions' },
  { key: 'CR', title: 'CR', format: percent, more: 'of clicks' },
  { key: 'revenue', title: 'Revenue', color: '--revenue', format: money, money: true, more: (t) => (t.EPC == null ? '' : `${price(t.EPC)} per click`) },
  { key: 'payout', title: 'Payout', format: money, money: true, more: (t) => (t.revenue > 0 ? `${percent(t.payout / t.revenue)} of revenue` : '') },
  { key: 'profit', title: 'Profit', format: money, money: true, more: (t) => (t.eCPM == null ? '' : `${price(t.eCPM)} eCPM`) },
];

// showTotals draws the tiles of one report. Money in several currencies is never added up: each is shown.
export function showTotals(box, report) {
  const totals = report.totals || {};
  const currencies = (report.totals_by_currency || []).filter((t) => t.currency && [t.revenue, t.payout].some((v) => Number(v)));
  fill(box, tiles.map((tile) => {
    const value = totals[tile.key];
    const several = tile.money && (value === null || value === undefined) && currencies.length > 0;
    const text = several ? currencies.map((t) => `${tile.format(t[tile.key])} ${t.currency}`).join(', ') : tile.format(value);
    const more = typeof tile.more === 'function' ? tile.more(totals) : tile.more;
    const size = several ? ' several' : text.length > 12 ? ' longer' : text.length > 8 ? ' long' : '';
    return h('div', { class: 'tile' },
      h('div', { class: 'tile-name', style: tile.color ? { '--c': `var(${tile.color})` } : {} },
        h('i', { 'data-color': Boolean(tile.color), 'aria-hidden': 'true' }), tile.title,
        tile.money && totals.currency ? h('span', null, totals.currency) : null),
      h('div', { class: `tile-value${size}`, title: value ?? '', dataset: { total: tile.key, value: value ?? '' } }, text),
      h('div', { class: 'tile-more', dataset: { rate: tile.key } }, more || ''));
  }));
}

// customEvents says how many events are of registered types, which the tiles do not show.
export function customEvents(totals) {
  if (!totals) return 0;
  return Number(totals.events || 0) - ['impressions', 'clicks', 'conversions'].reduce((n, k) => n + Number(totals[k] || 0), 0);
}

export const noneKey = '(none)';

// choosable says whether a value can become a filter: not one that the catalog does not know any more.
export const choosable = (key) => !String(key).startsWith('(unknown ');

// nameCell is the first cell of a row about a dimension's value.
export function nameCell(dim, row, choose) {
  const key = row[dim];
  const none = key === noneKey;
  const name = none ? 'none' : row[`${dim}_name`] || (dim === 'class' ? words(key) : key);
  const parts = [name, name !== key && dim !== 'class' && !none ? h('small', null, key) : null];
  const look = none ? 'name none' : 'name';
  if (!choose) return h('span', { class: look }, parts);
  return h('button', { type: 'button', class: look, title: `Show only ${name}`, dataset: { focus: `${dim}:${key}` }, on: { click: (e) => { e.stopPropagation(); choose(); } } }, parts);
}

// showTop draws a short list by one dimension.
export function showTop(box, dim, title, report, choose) {
  const rows = merged(report.rows || [], dim);
  if (!rows.length) {
    fill(box, empty('Nothing counted', 'in this range and with these filters.'));
    return;
  }
  const paid = rows.some((r) => Number(r.revenue));
  const measure = rows.some((r) => Number(r.clicks)) ? 'clicks' : rows.some((r) => Number(r.impressions)) ? 'impressions' : 'n';
  const top = Math.max(...rows.map((r) => Number(r[measure])), 1);
  const line = (row, pick) => h('tr', { class: pick ? 'pickable' : '', on: pick ? { click: pick } : {} },
    h('th', { class: 'word', scope: 'row' }, nameCell(dim, row, pick),
      h('div', { class: 'meter', 'aria-hidden': 'true', style: { '--w': (100 * Number(row[measure])) / top, '--c': `var(--${measure === 'clicks' ? 'clicks' : 'impressions'})` } }, h('i'))),
    h('td', null, count(row[measure])), h('td', null, count(row.conversions)),
    paid ? h('td', { title: `${row.revenue ?? ''} ${row.currency ?? ''}` }, row.revenue === null ? '–' : decimal(row.revenue, Math.abs(Number(row.revenue)) >= 10000 ? 0 : 2)) : null);
  const body = rows.map((row) => line(row, choosable(row[dim]) ? () => choose(row) : null));
  fill(box, h('table', { class: 'short' },
    h('caption', { class: 'sr' }, title),
    h('thead', null, h('tr', null, h('th', { class: 'word', scope: 'col' }, dim === 'campaign' ? 'Campaign' : 'Affiliate'),
      h('th', { scope: 'col' }, measure === 'n' ? 'Count' : measure === 'clicks' ? 'Clicks' : 'Impr.'), h('th', { scope: 'col' }, 'Conv.'),
      paid ? h('th', { scope: 'col' }, 'Revenue') : null)),
    h('tbody', null, body)));
}

// merged joins the rows of one value that differ only in their currency; money of several currencies becomes null.
function merged(rows, dim) {
  const byKey = new Map();
  for (const row of rows) {
    const have = byKey.get(row[dim]);
    if (!have) {
      byKey.set(row[dim], { ...row });
      continue;
    }
    for (const k of ['impressions', 'clicks', 'conversions', 'n', 'events']) have[k] = Number(have[k]) + Number(row[k]);
    for (const k of ['revenue', 'payout', 'profit', 'amount', 'currency']) have[k] = null;
  }
  return [...byKey.values()];
}

const classTone = { valid: '--good', duplicate: '--soft', expired: '--soft' };

// showVerdicts draws what the grid decided, in numbers of events.
export function showVerdicts(box, report, choose) {
  const rows = merged(report.rows || [], 'class').sort((a, b) => Number(b.events) - Number(a.events));
  const sum = rows.reduce((n, r) => n + Number(r.events), 0);
  if (!sum) {
    fill(box, empty('No verdicts', 'No event was judged in this range.'));
    return;
  }
  fill(box, h('table', { class: 'short' },
    h('caption', { class: 'sr' }, 'Events by verdict'),
    h('thead', null, h('tr', null, h('th', { class: 'word', scope: 'col' }, 'Verdict'), h('th', { scope: 'col' }, 'Events'), h('th', { scope: 'col' }, 'Share'))),
    h('tbody', null, rows.map((row) => h('tr', { class: 'pickable', dataset: { class: row.class }, on: { click: () => choose(row) } },
      h('th', { class: 'word', scope: 'row' }, nameCell('class', row, () => choose(row)),
        h('div', { class: 'meter', 'aria-hidden': 'true', style: { '--w': (100 * Number(row.events)) / sum, '--c': `var(${classTone[row.class] || '--warn'})` } }, h('i'))),
      h('td', { dataset: { value: row.events } }, count(row.events)), h('td', null, percent(Number(row.events) / sum)))))));
}
