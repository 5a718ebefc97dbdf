package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"milliard/internal/catalog"
	"milliard/internal/control"
	"milliard/internal/grid"
	"milliard/internal/journal"
	"milliard/internal/spool"
)

// TestReadinessSaysWhatASpoolFileWaitsFor: one that cannot be read now needs no repair.
func TestReadinessSaysWhatASpoolFileWaitsFor(t *testing.T) {
	const file = "0000000001.spool: too many open files"
	for name, tc := range map[string]struct {
		st   spool.Status
		help string
	}{
		"unread":  {spool.Status{Events: 1, Batches: 1, Unread: []string{file}}, helpDisk},
		"damaged": {spool.Status{Damaged: []string{file}}, helpRepair},
		"both":    {spool.Status{Unread: []string{"0000000002.spool"}, Damaged: []string{file}}, helpRepair},
	} {
		c := spooled([]spool.Status{tc.st})
		if c.OK || c.Help != tc.help || !strings.Contains(c.Reason, file) {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// TestALaneThatCannotReadIsNotReady: it does not count, and a repair would not help.
func TestALaneThatCannotReadIsNotReady(t *testing.T) {
	c := laneReady(grid.LaneStatus{CaughtUp: true, ReadErr: fmt.Errorf("%w: %w", journal.ErrUnavailable, syscall.EMFILE)})
	if text := fmt.Sprint(c); c.OK || !strings.Contains(text, "too many open files") || !strings.Contains(text, helpDisk) {
		t.Error(text)
	}
}

// TestOnlyAJournalThatHasStoppedIsRestarted: one that was asked and has not answered yet only needs time.
func TestOnlyAJournalThatHasStoppedIsRestarted(t *testing.T) {
	for _, tc := range []struct {
		err  error
		help string
	}{
		{nil, ""},
		{fmt.Errorf("state of lane-0: %w", context.DeadlineExceeded), helpLate},
		{errors.New("stream lane-0: the engine did not look at the stream"), helpLate},
		{fmt.Errorf("%w: sync", journal.ErrStopped), helpRestart},
		{fmt.Errorf("%w: %w", journal.ErrStopped, syscall.ENOSPC), helpRoom},
		{fmt.Errorf("%w: %w", journal.ErrStopped, journal.ErrGap), helpRepair},
	} {
		if got := helpJournal(tc.err); got != tc.help {
			t.Errorf("%v: %q", tc.err, got)
		}
	}
}

func TestReadinessTellsATableThatIsBehindFromOneThatStaysSo(t *testing.T) {
	for _, test := range []struct {
		p    control.Projection
		ok   bool
		help string
	}{
		{control.Projection{Behind: 3}, true, ""}, // on its way
		{control.Projection{Behind: 3, Err: errors.New("connection invalidated")}, true, "by itself"},
		{control.Projection{Behind: 3, Err: fmt.Errorf("read control: %w", journal.ErrGap), Ended: true}, false, "repair"},
		{control.Projection{Behind: 3, Err: catalog.ErrRecord, Ended: true}, false, "report"},
		{control.Projection{Err: control.ErrAhead, Ended: true}, false, "one directory"},
	} {
		c := projected(test.p)
		if c.OK != test.ok || !strings.Contains(c.Help, test.help) {
			t.Errorf("%+v: %+v", test.p, c)
		}
		if test.p.Err != nil && !strings.Contains(c.Reason, fmt.Sprintf("lacks %d control records: %v", test.p.Behind, test.p.Err)) {
			t.Errorf("%+v: says %q", test.p, c.Reason)
		}
	}
}
