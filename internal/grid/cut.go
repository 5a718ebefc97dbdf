package grid

import "time"

// segmentCut decides where archive segments end. The decision depends on the log alone, so a segment that is written
// again after a crash has the same sequences and the same bytes.
type segmentCut struct {
	First   uint64 // first sequence of the segment that is growing
	Bytes   int64
	Started int64    // log time of its first batch, unix ms
	Ends    []uint64 // last sequences of complete segments that are not sealed yet, in order
}

func (c *segmentCut) add(size int, logTime int64, opt *Options, seq, sealed uint64) {
	if c.Bytes == 0 {
		c.Started = logTime
	}
	c.Bytes += int64(size)
	if c.Bytes < int64(opt.TargetSealed) && seq-c.First+1 < uint64(opt.SealedBatches) &&
		time.Duration(logTime-c.Started)*time.Millisecond < opt.SealedSpan {
		return
	}
	c.end(seq, seq+1, sealed)
}

// end completes the growing segment at last, unless it is empty, and starts the next. Sequences up to sealed stand in the
// archive already.
func (c *segmentCut) end(last, next, sealed uint64) {
	if c.Bytes > 0 && last > sealed {
		c.Ends = append(c.Ends, last)
	}
	c.First, c.Bytes = next, 0
}
