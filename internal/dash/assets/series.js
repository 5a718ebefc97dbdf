// From answers to what the charts draw.

import { count, dateIn, grains, money, short, timeLabel } from './format.js';

const spec = (key, title, height, format = count) => ({ key, title, height, format, color: `--${key === 'profit' ? 'other' : key}`, axis: short, whole: format === count });

// liveView is the last hour, minute by minute, from the live stream.
export function liveView(live, message, zone) {
  const times = [];
  for (let m = message.since; m <= message.until; m++) times.push(m * 60);
  const hm = new Intl.DateTimeFormat('en-GB', { timeZone: zone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  const series = {
    impressions: live.column(message, 0), clicks: live.column(message, 1), conversions: live.column(message, 2), other: live.column(message, 3),
  };
  const any = (key) => series[key].some((v) => v > 0);
  const specs = [spec('impressions', 'Impressions per minute', 120), spec('clicks', 'Clicks per minute', 74), spec('conversions', 'Conversions per minute', 74)];
  if (any('other')) {
    specs.push(spec('other', 'Other events per minute', 74));
    if (!any('impressions') && !any('clicks') && !any('conversions')) specs.splice(0, 3); // plain counters only
  }
  return { specs, times, series, zone, step: 60, dates: false, unit: 'minutes', label: (ts) => hm.format(new Date(ts * 1000)) };
}

const maxPoints = 20000;

// rangeView is a report split by time, with the holes filled with zeros; null when there is nothing in it. whole says that
// the axis is of the whole range up to now, not only of where something was counted.
export function rangeView(report, grain, zone, whole) {
  const rows = report.rows || [];
  if (!rows.length || !grains.includes(grain)) return null;
  const dates = ['day', 'week', 'month'].includes(grain);
  const at = (text) => Date.parse(text.length === 7 ? `${text}-01` : text) / 1000;
  const byTime = new Map();
  const labels = new Map();
  const currencies = new Set();
  for (const row of rows) {
    const ts = at(row[grain]);
    labels.set(ts, row[grain]);
    if (row.currency && Number(row.revenue)) currencies.add(row.currency);
    const sum = byTime.get(ts) || {};
    for (const key of ['impressions', 'clicks', 'conversions', 'n', 'revenue', 'profit']) sum[key] = (sum[key] || 0) + Number(row[key] || 0);
    byTime.set(ts, sum);
  }
  const seen = [...byTime.keys()].sort((a, b) => a - b);
  const ends = whole && report.from && report.to ? endsOf(report, dates, zone) : [seen[0], seen.at(-1)];
  const times = fillTimes(seen, grain, ...ends);
  const column = (key) => times.map((ts) => (byTime.get(ts) || {})[key] || 0);
  const series = Object.fromEntries(['impressions', 'clicks', 'conversions', 'n', 'revenue', 'profit'].map((k) => [k, column(k)]));
  const any = (key) => series[key].some((v) => v !== 0);
  const specs = [];
  if (any('impressions')) specs.push(spec('impressions', 'Impressions', 110));
  if (any('clicks')) specs.push(spec('clicks', 'Clicks', 74));
  if (any('conversions')) specs.push(spec('conversions', 'Conversions', 74));
  if (!specs.length && any('n')) specs.push({ ...spec('n', 'Count', 120), color: '--other' });
  if (any('revenue') && currencies.size === 1) specs.push(spec('revenue', `Revenue, ${[...currencies][0]}`, 74, (v) => money(fixed(v))));
  if (!specs.length) return null;
  const each = { minute: 'minutes', '15min': 'quarters of an hour', hour: 'hours', day: 'days', week: 'weeks', month: 'months' }[grain];
  const local = new Intl.DateTimeFormat('en-GB', { timeZone: zone, day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  return {
    specs, times, series, zone, dates, unit: each, step: stepOf(grain), cut: times.length >= maxPoints,
    label: (ts) => (dates ? timeLabel(labels.get(ts) || new Date(ts * 1000).toISOString().slice(0, grain === 'month' ? 7 : 10)) : local.format(new Date(ts * 1000))),
  };
}

// fixed writes a sum for the chart, where a float is exact enough.
const fixed = (v) => (Number.isFinite(v) ? v.toFixed(2) : '0');

const stepOf = (grain) => ({ minute: 60, '15min': 900, hour: 3600, day: 86400, week: 604800, month: 2629800 })[grain];

// endsOf are the first and the last moment of a report's range in the numbers of its buckets; what is still to come has none.
function endsOf(report, dates, zone) {
  const from = new Date(report.from);
  const until = new Date(Math.max(Date.parse(report.from), Math.min(Date.parse(report.to) - 1, Date.now())));
  return [from, until].map((d) => Date.parse(dates ? dateIn(d, zone) : d.toISOString()) / 1000);
}

// next is the bucket so many buckets after one.
function next(ts, grain, by) {
  if (grain !== 'month') return ts + by * stepOf(grain);
  const d = new Date(ts * 1000);
  return Date.UTC(d.getUTCFullYear(), d.getUTCMonth() + by, 1) / 1000;
}

// fillTimes makes every bucket from one time to another, which may have had no event.
function fillTimes(seen, grain, from, until) {
  let first = seen[0];
  for (let n = 0; n < maxPoints && next(first, grain, -1) >= from; n++) first = next(first, grain, -1);
  const times = [];
  const last = Math.max(until, seen.at(-1));
  const known = new Set(seen);
  for (let ts = first; ts <= last && times.length < maxPoints; ts = next(ts, grain, 1)) {
    times.push(ts);
    known.delete(ts);
  }
  // Hours of a zone whose offset changes by half an hour do not lie on the first one's steps.
  for (const ts of known) if (ts <= times.at(-1)) times.push(ts);
  return times.sort((a, b) => a - b);
}
