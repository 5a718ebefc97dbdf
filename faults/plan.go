package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// part is one kind of fault of a tier and how much of it a run asks for. The flag -cycles sets how much of those whose
// instant is drawn, -each of those that are listed by name.
type part struct {
	name        string
	quick, full int
	each        bool
}

// plan says how much of each part this run does: all of a quick run, what earlier runs have left of a full one, or what
// the flags say.
func (b *bench) plan(r *result, parts []part) map[string]int {
	want := map[string]int{}
	for _, p := range parts {
		n, flag := p.full, b.opt.cycles
		if b.opt.quick {
			n = p.quick
		}
		if p.each {
			flag = b.opt.each
		}
		r.Asked += n
		switch {
		case b.opt.point != "" && b.opt.point != p.name:
			n = 0
		case flag != 0:
			n = max(flag, 0)
		case !b.opt.quick:
			n = max(0, n-b.done[r.Tier][p.name])
		}
		want[p.name] = n
	}
	return want
}

// loadDone sums up what earlier full runs have done: those of every commit, or only of this one.
func (b *bench) loadDone() error {
	b.done, b.before = map[string]map[string]int{}, map[string]int{}
	for _, t := range tiers() {
		results, err := readResults(filepath.Join(b.opt.results, t.name+".jsonl"))
		if err != nil {
			return err
		}
		sum := map[string]int{}
		b.done[t.name] = sum
		for _, r := range results {
			if r.Quick || r.Tags != "" || r.failed() && !standAlone(r.Tier) || b.opt.fresh && r.Commit != b.commit {
				continue
			}
			b.before[t.name] += r.Durable
			for name, n := range r.Done {
				if !failedIn(r, name) {
					sum[name] += n
				}
			}
		}
	}
	return nil
}

// standAlone says whether a tier's parts say nothing of each other: where one has failed, the others have been done.
func standAlone(tier string) bool { return tier == plantedTier || tier == fuzzTier }

// step is one fault on a directory that sees several.
type step struct {
	part string
	// do reports whether the fault was met: only then it counts.
	do func(ctx context.Context, a *arena, r *result) (met bool, err error)
	// once: a fault that cannot be met here is not tried again.
	once bool
}

// series is a row of directories, each of which sees some faults and is judged then.
type series struct {
	name  string // of the directories
	per   int    // faults per directory
	arena func(ctx context.Context, name string, round int) (*arena, error)
}

// halted says whether a directory came to its end because the program does not serve.
func halted(err error) bool { return errors.Is(err, errNotReady) || errors.Is(err, errEnded) }

// maxMisses is how often in a row of a run a fault may not be met before the tier says that it does not work here.
const maxMisses = 40

// wear does the steps. Steps count when their directory was judged; a run that is interrupted in between has not done them.
func (b *bench) wear(ctx context.Context, s series, steps []step, r *result) error {
	missed, met, late := 0, 0, 0
	for round := 0; len(steps) > 0 && !b.expired(); round++ {
		name := fmt.Sprintf("%s%d", s.name, round)
		n := min(s.per, len(steps))
		own := newResult(b, tier{name: r.Tier})
		left, err := b.wearOne(ctx, s, name, round, steps[:n], own)
		if err != nil && ctx.Err() != nil { // without an error it was judged before the interrupt
			return ctx.Err()
		}
		r.merge(own)
		switch {
		case err != nil && b.planted != "" && r.clean() && halted(err):
			// The bug has halted a lane. That is no notice: the next directory begins.
		case err != nil && r.tooLate(err):
			late++
		case err != nil:
			return fmt.Errorf("directory %s, seed %d: %w", name, b.opt.seed, err)
		}
		missed, met = missed+own.Parts["not reached"], met+own.N
		if missed > maxMisses+met {
			return fmt.Errorf("%d faults did not happen", missed)
		}
		if late > maxLate {
			return fmt.Errorf("too late %d times: %w", late, err)
		}
		steps = append(left, steps[n:]...)
		b.say("  %s: %d to go, %d done, acknowledged %d, unknown %d of which kept %d, lost %d, double %d, wrong %d", r.Tier, len(steps),
			r.N, r.Acked, r.Unknown, r.Kept, r.Lost, r.Double, r.Wrong)
		if err := b.keepSoFar(r); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) wearOne(ctx context.Context, s series, name string, round int, steps []step, r *result) (left []step, err error) {
	a, err := s.arena(ctx, name, round)
	if err != nil {
		return nil, err
	}
	for i, st := range steps {
		if b.expired() {
			left = append(left, steps[i:]...)
			break
		}
		met, failed := st.do(ctx, a, r)
		if failed != nil {
			err = fmt.Errorf("%s, fault %d: %w", st.part, i+1, failed)
			if !errors.Is(failed, errLate) {
				r.N++
				i++
			}
			left = append(left, steps[i:]...)
			break
		}
		switch {
		case met:
			r.N++
			r.Done[st.part]++
		case st.once:
			r.Done[st.part]++
			r.Parts["not reached"]++
		default:
			left = append(left, st)
			r.Parts["not reached"]++
		}
	}
	if err = a.conclude(ctx, r, err); err != nil {
		return left, err
	}
	return left, a.gone(name)
}

// gone removes a directory that was judged: hundreds of them would fill a small disk.
func (a *arena) gone(name string) error {
	_, err := a.b.dir(name)
	return errors.Join(err, os.Remove(a.logPath))
}

// singly does a fault as often as it is wanted, each on a directory of its own.
func (b *bench) singly(ctx context.Context, part string, n int, r *result, do func(i int, r *result) (met bool, err error)) error {
	late := 0
	for i := 0; i < n && !b.expired(); i++ {
		own := newResult(b, tier{name: r.Tier})
		met, err := do(i, own)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		tooLate := errors.Is(err, errLate)
		if met && !tooLate {
			own.N++
			own.Done[part]++
		}
		r.merge(own)
		switch {
		case err != nil && late < maxLate && r.tooLate(err):
			late, n = late+1, n+1
		case err != nil:
			return fmt.Errorf("%s, time %d, seed %d: %w", part, i, b.opt.seed, err)
		}
		if len(own.NotRun) > 0 {
			break
		}
		if err := b.keepSoFar(r); err != nil {
			return err
		}
	}
	return nil
}

// steps repeats each part as often as it is wanted, in the order of the parts.
func steps(parts []part, want map[string]int, do func(part string, i int) step) []step {
	var out []step
	for _, p := range parts {
		for i := range want[p.name] {
			st := do(p.name, i)
			st.part = p.name
			out = append(out, st)
		}
	}
	return out
}

func shuffled(out []step, rnd *rand.Rand) []step {
	rnd.Shuffle(len(out), func(i, k int) { out[i], out[k] = out[k], out[i] })
	return out
}

// conclude judges a directory: after faults that it has survived by a last start and a stop in order, after others by what is
// in its files. An error means that the program did not do what it must; what is lost is in the result in any case.
func (a *arena) conclude(ctx context.Context, r *result, err error) error {
	if err == nil {
		err = a.finish(ctx, r)
	}
	if err != nil && ctx.Err() == nil {
		err = errors.Join(brief(err), a.autopsy(ctx, r, err))
		if !r.clean() || !errors.Is(err, errLate) {
			a.b.keepAll()
		}
	}
	return errors.Join(err, a.p.kill(), a.clean())
}

// autopsy reads the files of a program that does not serve any more.
func (a *arena) autopsy(ctx context.Context, r *result, why error) error {
	if !halted(why) && !errors.Is(why, errLate) {
		return nil
	}
	if err := a.p.kill(); err != nil {
		return err
	}
	f, err := judgeHalted(ctx, a.p.data, a.logPath)
	if err != nil {
		return fmt.Errorf("what it has left cannot be judged: %w", brief(err))
	}
	r.add(f)
	return nil
}

// briefError is an error without what differs from run to run: ports, directories, lines of the program's log.
type briefError struct {
	text string
	err  error
}

func (e *briefError) Error() string { return e.text }
func (e *briefError) Unwrap() error { return e.err }

func brief(err error) error {
	if err == nil {
		return nil
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	words := strings.Fields(text)
	words = slices.DeleteFunc(words, func(w string) bool {
		return strings.Contains(w, "127.0.0.1:") || strings.Contains(w, "milliard-faults-")
	})
	if text = strings.Join(words, " "); len(text) > 300 {
		text = text[:300] + "…"
	}
	return &briefError{text, err}
}
