// The stream of live counts. The server sends the whole window once and then what changed.

const stalledAfterMS = 6000;

export class Live {
  // on = { message(state), trouble(text) }
  constructor(on) {
    this.on = on;
    this.minutes = new Map();
    this.source = null;
    this.timer = setInterval(() => this.watch(), 2000);
    addEventListener('pagehide', () => this.close());
    addEventListener('pageshow', (e) => { if (e.persisted) this.open(this.tenant); });
    // A browser opens only a few connections to one server: a page that nobody sees must not hold one.
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) this.close();
      else if (!this.source) this.open(this.tenant);
    });
  }

  open(tenant) {
    this.close();
    this.tenant = tenant;
    this.minutes.clear();
    this.heard = Date.now();
    const source = new EventSource(tenant ? `/v1/live?tenant=${encodeURIComponent(tenant)}` : '/v1/live');
    source.addEventListener('live', (e) => this.take(JSON.parse(e.data)));
    source.addEventListener('trouble', (e) => {
      this.heard = Date.now();
      this.on.trouble('trouble', JSON.parse(e.data).message);
    });
    source.addEventListener('error', () => this.on.trouble('trouble', 'not connected'));
    this.source = source;
  }

  close() {
    if (this.source) this.source.close();
    this.source = null;
  }

  // watch opens the stream again when the browser has given up, and says so when nothing comes.
  watch() {
    if (!this.source) return;
    if (this.source.readyState === EventSource.CLOSED) this.open(this.tenant);
    else if (Date.now() - this.heard > stalledAfterMS) this.on.trouble('stalled', 'no news from the server');
  }

  take(message) {
    this.heard = Date.now();
    if (message.full) this.minutes.clear();
    for (const [minute, ...counts] of message.minutes) this.minutes.set(minute, counts);
    for (const minute of this.minutes.keys()) if (minute < message.since) this.minutes.delete(minute);
    this.on.message(message, this);
  }

  // column returns one column of the window as an array without holes.
  column(message, index) {
    const values = [];
    for (let m = message.since; m <= message.until; m++) values.push((this.minutes.get(m) || [])[index] || 0);
    return values;
  }
}
