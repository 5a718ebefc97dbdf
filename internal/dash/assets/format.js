// How numbers, names and times are written. Money arrives as exact decimal text and is never turned into a float.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const some = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export function count(v) {
  if (v === null || v === undefined || v === '') return '–';
  const n = Number(v);
  return Number.isInteger(n) ? whole.format(n) : some.format(n);
}

export const short = (v) => (Math.abs(v) < 10000 ? count(v) : compact.format(v));

export function percent(v) {
  if (v === null || v === undefined) return '–';
  const p = Number(v) * 100;
  if (p === 0) return '0%';
  return `${p.toFixed(p < 0.1 ? 3 : p < 10 ? 2 : 1)}%`;
}

// decimal groups the digits of an exact decimal and gives it the wished number of places, rounding half up by digits.
export function decimal(text, places) {
  if (text === null || text === undefined || text === '') return '–';
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(text));
  if (!match) return String(text);
  const scaled = `${match[2]}${(match[3] || '').slice(0, places).padEnd(places, '0')}`;
  let n = BigInt(scaled);
  if (((match[3] || '')[places] || '0') >= '5') n += 1n;
  const digits = n.toString().padStart(places + 1, '0');
  const head = digits.slice(0, digits.length - places).replace(/\B(?=(\d{3})+$)/g, ',');
  const tail = places ? `.${digits.slice(digits.length - places)}` : '';
  return `${match[1] && n ? '−' : ''}${head}${tail}`;
}

export const money = (text) => decimal(text, 2);

// price writes small amounts, such as earnings per click, with enough places to tell them apart.
export function price(text) {
  if (text === null || text === undefined) return '–';
  const size = Math.abs(Number(text));
  return decimal(text, size > 0 && size < 1 ? 4 : 2);
}

export function rate(perSecond) {
  if (!perSecond) return '';
  if (perSecond < 1) return `${count(Math.round(perSecond * 60))} a minute now`;
  return `${perSecond < 10 ? perSecond.toFixed(1) : short(Math.round(perSecond))} a second now`;
}

export function lag(ms) {
  if (ms < 950) return 'less than a second';
  if (ms < 60000) return `${Math.round(ms / 1000)} s`;
  if (ms < 3600000) return `${Math.round(ms / 60000)} min`;
  return `${(ms / 3600000).toFixed(1)} h`;
}

export function clock(iso, zone) {
  const at = new Date(iso);
  const today = dateIn(new Date(), zone) === dateIn(at, zone);
  const opts = { timeZone: zone, hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };
  if (!today) Object.assign(opts, { year: 'numeric', month: 'short', day: 'numeric' });
  return new Intl.DateTimeFormat('en-GB', opts).format(at);
}

// dateIn is the date, as 2026-04-01, of an instant in a zone.
export function dateIn(at, zone) {
  const parts = new Intl.DateTimeFormat('en-CA', { timeZone: zone, year: 'numeric', month: '2-digit', day: '2-digit' }).formatToParts(at);
  const get = (type) => parts.find((p) => p.type === type).value;
  return `${get('year')}-${get('month')}-${get('day')}`;
}

// words turns a class such as unknown_campaign into words.
export const words = (s) => String(s).replaceAll('_', ' ');

// timeLabel writes a time bucket of a report: 2026-04-01T12:30+03:00, 2026-04-01 or 2026-04.
export function timeLabel(text) {
  const match = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2})/.exec(text);
  return match ? `${match[1]} ${match[2]}` : text;
}

export const dimNames = {
  advertiser: 'Advertiser', campaign: 'Campaign', banner: 'Banner', affiliate: 'Affiliate', type: 'Type', goal: 'Goal',
  class: 'Verdict', country: 'Country', device: 'Device', sub1: 'Sub-id 1',
};
export const grains = ['minute', '15min', 'hour', 'day', 'week', 'month'];
