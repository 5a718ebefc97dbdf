package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"milliard/internal/event"
)

// judgeHalted compares the clients' log with the files of a directory whose program does not serve: a halt is an alarm and
// no excuse. An id that was answered and stands neither in the archive nor in the journal nor in a whole frame of the click
// spool is lost for good, unless the ledger has counted it: it may have counted as many as its sums exceed what is left of the
// log up to its position.
func judgeHalted(ctx context.Context, data, clientLogPath string) (*finding, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	clients, err := readClientLog(clientLogPath)
	if err != nil {
		return nil, err
	}
	f := &finding{}
	books, err := readLedger(ctx, filepath.Join(data, "ledger.duckdb"))
	if err != nil {
		f.note("halted, and the ledger cannot be read: %v", brief(err))
		books = &ledgerTruth{positions: map[int]uint64{}} // it has counted nothing, so nothing of it is wrong
	}
	raw, problems, err := readRaw(ctx, data, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLog, err)
	}
	log, err := truthOf(raw, books.names, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLog, err)
	}
	counted, err := truthOf(raw, books.names, books.positions)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLog, err)
	}
	waiting, err := log.spooled(data, len(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLog, err)
	}
	if waiting > 0 {
		f.note("halted: %d batches wait in the spool", waiting)
	}
	f.Batches, f.Events = log.batches, log.events
	f.ids(clients, log)
	if raw.whole(books.positions) {
		f.sums(counted, books)
	} else if extra := int(validOf(books.cells) - validOf(counted.cells)); extra > 0 {
		f.Lost = max(0, f.Lost-extra)
		f.note("halted: the ledger has counted %d events that are missing in the log", extra)
	}
	for _, p := range append(problems, log.problems...) {
		f.note("halted: %s", p)
	}
	return f, nil
}

func validOf(cells map[cellKey]count) (n int64) {
	for k, c := range cells {
		if k.class == event.Valid {
			n += c.events
		}
	}
	return n
}

// whole says whether every batch up to the positions is there.
func (log rawLog) whole(upTo map[int]uint64) bool {
	for lane, seq := range upTo {
		if uint64(len(log[lane])) < seq {
			return false
		}
		for _, m := range log[lane][:seq] {
			if m.data == nil {
				return false
			}
		}
	}
	return true
}
