// Questions to the server. All go to the page's own origin.

import { range } from './state.js';

// ask fetches JSON and turns the server's error answers into Error with a readable message.
export async function ask(url, signal) {
  let answer;
  try {
    answer = await fetch(url, { signal, headers: { Accept: 'application/json' }, cache: 'no-store' });
  } catch (err) {
    if (err.name === 'AbortError') throw err;
    throw new Error('The server cannot be reached.');
  }
  let body = null;
  try {
    body = await answer.json();
  } catch (err) {
    if (err.name === 'AbortError') throw err;
    throw new Error(`The server answered ${answer.status} without an explanation.`);
  }
  if (!answer.ok) {
    const e = (body && body.error) || {};
    const err = new Error(e.field ? `${e.field}: ${e.message}` : e.message || `The server answered ${answer.status}.`);
    err.status = answer.status;
    throw err;
  }
  return body;
}

// reportURL asks for one report of the state's range and filters.
export function reportURL(state, zone, { by = [], order = '', limit = 0, format = 'json', classes = '' } = {}) {
  const query = new URLSearchParams();
  if (state.tenant) query.set('tenant', state.tenant);
  const { from, to } = range(state, zone, by);
  query.set('from', from);
  query.set('to', to);
  query.set('zone', zone);
  if (by.length) query.set('by', by.join(','));
  for (const f of state.filters) query.append('where', `${f.dim}:${f.key}`);
  if (classes && !state.filters.some((f) => f.dim === 'class')) query.set('class', classes);
  if (state.time !== 'received') query.set('time', state.time);
  if (order) query.set('order', order);
  if (limit) query.set('limit', String(limit));
  query.set('format', format);
  return `/v1/report?${query}`;
}
