package journal

// Settled says that everything the lane had accepted when it was asked stands in the journal at or below seq, so that what
// comes behind seq will be stored later than that. It says so only while nothing is pending, in flight or spooled and
// nothing has failed: false means that it cannot be told now. It is safe for concurrent use and waits for no I/O.
func (p *Producer) Settled() (seq uint64, ok bool) {
	// An event goes from the queue into the journal, or by the spool: it is looked for in that order, or it could slip past.
	if p.pendingEvents.Load() != 0 || p.Limping() || p.waiting() != 0 {
		return 0, false
	}
	seq = p.reached.Load()
	return seq, seq > 0
}

// Settled asks one lane.
func (l *Lanes) Settled(lane int) (seq uint64, ok bool) {
	if lane < 0 || lane >= len(l.producers) {
		return 0, false
	}
	return l.producers[lane].Settled()
}
