package journal

import "time"

// fullLogEvery is how often the log says that the journal is full: that can last, and every batch would be a line.
const fullLogEvery = 10 * time.Second

// fullLog remembers what the log says of a full journal. Run owns it.
type fullLog struct {
	at     time.Time // of the last line
	unsaid int       // batches refused since
}

// warn logs that a batch was refused, at most once in fullLogEvery; the next line tells how many it stands for.
func (l *fullLog) warn(p *Producer, f *frozen, cause error) {
	now := p.opt.Now()
	if since := now.Sub(l.at); !l.at.IsZero() && since >= 0 && since < fullLogEvery {
		l.unsaid++
		return
	}
	p.log.Warn("journal is full, batch refused", "counter", f.head.Counter, "events", f.head.Events, "unsaid", l.unsaid, "err", cause)
	l.at, l.unsaid = now, 0
}
