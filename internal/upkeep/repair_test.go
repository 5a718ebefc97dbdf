package upkeep_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"milliard/internal/testkit"
	"milliard/internal/upkeep"
	"milliard/internal/verify"
)

// plan says what a repair of the stopped server's directory would do.
func (k *kit) plan(backup string) (kinds []string, p *upkeep.Plan) {
	k.t.Helper()
	d := k.open()
	defer d.Close(k.t.Context())
	p, err := d.PlanRepair(k.t.Context(), backup)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, a := range p.Actions {
		kinds = append(kinds, a.Kind)
	}
	return slices.Compact(kinds), p
}

// repair does it.
func (k *kit) repair(backup string) *verify.Result {
	k.t.Helper()
	d := k.open()
	defer d.Close(k.t.Context())
	p, err := d.PlanRepair(k.t.Context(), backup)
	if err != nil {
		k.t.Fatal(err)
	}
	_ = p.Write(k.t.Output())
	r, err := p.Repair(k.t.Context(), upkeep.Audit{Actor: "test", Why: "damage", Now: time.Now}, func(string) {})
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

// lastBlock is the journal's block file that holds the newest messages.
func (k *kit) lastBlock() string {
	return slices.Max(k.files("journal", "store", "jetstream", "*", "streams", "lane-0", "msgs", "*.blk"))
}

// flipBatch flips a bit of one of the journal's newest batches: of the one that the newest image was taken at, or of the
// newest but four that no image was taken at.
func (k *kit) flipBatch(atImage bool) {
	k.t.Helper()
	images := map[uint64]bool{}
	var newest uint64
	for _, f := range k.files("images", "lane-0", "*.image") {
		n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(f), ".image"), 10, 64)
		if err != nil {
			k.t.Fatal(err)
		}
		images[n], newest = true, n
	}
	d := k.open()
	st, err := d.Streams[0].State(k.t.Context())
	d.Close(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	seq := newest
	if !atImage {
		for seq = st.Last - 4; images[seq]; seq-- { // nothing else to do
		}
	}
	// A record of the engine: length, sequence, time, length of the subject, subject and so on.
	k.flipBehind(k.lastBlock(), string(binary.LittleEndian.AppendUint64(nil, seq)), 0, 120)
}

// dropIndex makes the next start read every block, as after a crash.
func (k *kit) dropIndex() {
	for _, f := range k.files("journal", "store", "jetstream", "*", "streams", "lane-0", "msgs", "index.db") {
		k.remove(f)
	}
}

func (k *kit) truncate(path string, cut int64) {
	k.t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()-cut)
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

func TestRepair(t *testing.T) {
	k := newKit(t)
	k.cfg.SealSpan, k.cfg.SealBytes = time.Minute, 200<<10 // a tail that is not sealed
	k.start()
	for range 4 {
		k.traffic(300)
	}
	backup := k.backup(false)
	for range 2 {
		k.traffic(300)
	}
	k.stop()
	before := k.verifyOffline()
	k.mustBeGood(before)
	for name, c := range map[string]struct {
		damage func(*kit)
		backup string
		kinds  []string
		loses  bool
	}{
		"nothing":            {func(*kit) {}, "", nil, false},
		"a cell":             {func(k *kit) { k.exec("UPDATE cells SET events = events + 1 " + one("cells", "true")) }, "", []string{"rebuild_ledger"}, false},
		"rows":               {func(k *kit) { k.exec("DELETE FROM sales WHERE row_no = 0", "UPDATE clicks SET country = 'ZZ'") }, "", []string{"rebuild_ledger"}, false},
		"no ledger":          {func(k *kit) { k.removeAll("ledger.duckdb") }, "", []string{"rebuild_ledger"}, false},
		"no ledger any more": {func(k *kit) { k.overwrite("ledger.duckdb") }, "", []string{"rebuild_ledger"}, false},
		"another ledger":     {func(k *kit) { k.exec("UPDATE positions SET stream = 'another'") }, "", []string{"rebuild_ledger"}, false},
		"images":             {func(k *kit) { k.flip(k.files("images", "lane-0", "*.image")[0], 0.5) }, "", []string{"remove_image"}, false},
		"a segment":          {func(k *kit) { k.flipSegment("main") }, backup, []string{"restore_segment"}, false},
		"a segment and the ledger": {func(k *kit) {
			k.remove(k.files("archive", "lane=0", "*.main.zst")[0])
			k.removeAll("ledger.duckdb")
		}, backup, []string{"restore_segment", "rebuild_ledger"}, false},
		"a bit before a crash":               {func(k *kit) { k.flipBatch(false); k.dropIndex() }, "", []string{"acknowledge_gap", "rebuild_journal", "rebuild_ledger"}, true},
		"a bit of an image's batch":          {func(k *kit) { k.flipBatch(true); k.dropIndex() }, "", []string{"remove_image", "acknowledge_gap", "rebuild_journal", "rebuild_ledger"}, true},
		"a torn tail":                        {func(k *kit) { k.truncate(k.lastBlock(), 3000); k.dropIndex() }, "", nil, true},
		"a lane that has marked its halt":    {func(k *kit) { k.mark("1 is reported lost") }, "", []string{"release_lane"}, false},
		"a torn tail that the summary hides": {func(k *kit) { k.truncate(k.lastBlock(), 3000) }, "", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			k := k.copyDir(t)
			c.damage(k)
			kinds, p := k.plan(c.backup)
			if c.kinds != nil && !slices.Equal(kinds, c.kinds) || len(p.Needs) > 0 || (p.Lost > 0) != c.loses {
				var b strings.Builder
				_ = p.Write(&b)
				t.Fatalf("planned %v, lost %d, want %v in\n%s", kinds, p.Lost, c.kinds, b.String())
			}
			if again, _ := k.plan(c.backup); !slices.Equal(kinds, again) {
				t.Fatalf("planning has changed something: %v", again)
			}
			r := k.repair(c.backup)
			k.mustBeGood(r)
			if !c.loses && (r.Events != before.Events || r.Rows != before.Rows) {
				t.Errorf("repaired to %s, before %s", r.Line(), before.Line())
			}
			atTick := slices.Contains(c.kinds, "remove_image") // an image may have been taken at a batch without events
			if c.loses && (r.Events > before.Events || r.Events == before.Events && !atTick || r.Events < before.Events/2) {
				t.Errorf("repaired to %s, before %s", r.Line(), before.Line())
			}
			if left, _ := k.plan(c.backup); len(left) > 0 {
				t.Errorf("still to do: %v", left)
			}
			k.start()
			k.traffic(100)
			if name != "nothing" {
				k.mustHaveAudit(c.loses)
			}
			k.mustBeGood(k.verifyOnline())
			k.stop()
			k.start()
			k.traffic(20)
			k.stop()
			k.mustBeGood(k.verifyOffline())
		})
	}
}

// TestAnEndThatNothingElseHasSeen: batches that were acknowledged, and that ledger, images and archive had not seen yet
// when the end of the journal was lost, are missed all the same.
func TestAnEndThatNothingElseHasSeen(t *testing.T) {
	k := newKit(t)
	k.cfg.SealSpan = time.Minute
	k.start()
	k.traffic(300)
	k.stop()
	ledger, err := os.ReadFile(filepath.Join(k.dir, "ledger.duckdb"))
	if err != nil {
		t.Fatal(err)
	}
	k.start()
	k.traffic(300)
	k.stop()
	before := k.verifyOffline()
	k.truncate(k.lastBlock(), 3000)
	k.dropIndex()
	k.removeAll("ledger.duckdb")
	k.removeAll("images/lane-0/")
	if err := os.WriteFile(filepath.Join(k.dir, "ledger.duckdb"), ledger, 0o600); err != nil {
		t.Fatal(err)
	}
	k.mustFind(k.verifyOffline(), "chain", "it was acknowledged to")
	k.startHalted("the journal ends at ", func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.s.DoorsURL()+"/v1/events", strings.NewReader(k.event(false)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+k.key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("an event behind the loss is answered %d", res.StatusCode)
		}
		body := fmt.Sprintf(`{"dir": %q}`, filepath.Join(t.TempDir(), "backup"))
		answer := k.post(k.s.AdminURL()+"/v1/backup", "application/json", body, "")
		if !strings.Contains(string(answer), "was acknowledged to") {
			t.Errorf("a backup would hide the loss: %s", answer)
		}
	})
	kinds, p := k.plan("")
	if want := []string{"acknowledge_gap", "rebuild_journal", "release_lane"}; !slices.Equal(kinds, want) || p.Lost == 0 {
		t.Fatalf("planned %v, lost %d", kinds, p.Lost)
	}
	k.mustBeGood(k.repair(""))
	k.start()
	k.traffic(100)
	k.mustHaveAudit(true)
	backup := filepath.Join(t.TempDir(), "backup")
	k.post(k.s.AdminURL()+"/v1/backup", "application/json", fmt.Sprintf(`{"dir":%q,"master_key":true}`, backup), "")
	k.stop()
	r := k.verifyOffline()
	k.mustBeGood(r)
	restored, _ := k.restore(backup) // the gap stands in the journal yet
	if again := restored.verifyOffline(); len(again.Findings) > 0 || again.Events != r.Events {
		t.Errorf("restored: %s, before %s", again.Line(), r.Line())
	}
	if r.Events <= before.Events/2 {
		t.Errorf("%s, before %s", r.Line(), before.Line())
	}
}

// TestARepairThatBrokeOffBetweenItsRenames: the old journal is aside, and the new one is not in its place yet.
func TestARepairThatBrokeOffBetweenItsRenames(t *testing.T) {
	k := newKit(t)
	k.cfg.SealSpan = time.Minute
	k.start()
	k.traffic(300)
	k.stop()
	k.truncate(k.lastBlock(), 3000)
	k.dropIndex()
	k.mustBeGood(k.repair(""))
	journal := filepath.Join(k.dir, "journal")
	for name, next := range map[string]func(){
		"look":  func() { k.mustBeGood(k.verifyOffline()) },
		"serve": func() { k.start(); k.traffic(100); k.mustBeGood(k.verifyOnline()); k.stop() },
	} {
		if err := os.Rename(journal, journal+".whole"); err != nil {
			t.Fatal(err)
		}
		next()
		if _, err := os.Stat(journal + ".whole"); err == nil {
			t.Errorf("%s: another journal was begun", name)
		}
	}
	if kinds, p := k.plan(""); len(kinds)+len(p.Needs) > 0 {
		t.Errorf("still to do: %v, %v", kinds, p.Needs)
	}
}

// mustHaveAudit: the history says who did what, and lost ranges are downtime.
func (k *kit) mustHaveAudit(downtime bool) {
	k.t.Helper()
	want := `"rows":[[1]]`
	ask := func(query string) string {
		return string(k.post(k.s.AdminURL()+"/v1/sql", "application/json", `{"query":"`+query+`"}`, ""))
	}
	deadline := time.Now().Add(10 * time.Second)
	query := "SELECT count(DISTINCT seq) FROM changes WHERE actor = 'test' AND why = 'damage' AND kind IN ('repair', 'downtime')"
	for !strings.Contains(ask(query), want) {
		if time.Now().After(deadline) {
			k.t.Fatalf("no audit entry: %s", ask(query))
		}
	}
	answer := ask("SELECT count(*) FROM downtime WHERE lane = 0 AND first_seq <= last_seq")
	if strings.Contains(answer, `"rows":[[0]]`) == downtime {
		k.t.Errorf("downtime: %s", answer)
	}
}

func (k *kit) removeAll(prefix string) {
	for _, f := range k.files(prefix + "*") {
		k.remove(f)
	}
}

// mark leaves what a lane leaves that has seen a loss; a start must halt it.
func (k *kit) mark(why string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, "lane-0.halted"), []byte(why+"\n"), 0o600); err != nil {
		k.t.Fatal(err)
	}
	k.startHalted("since an earlier start, until a repair: " + why)
}

// startHalted starts, waits until the lane says why it is halted, does what is asked for, and stops.
func (k *kit) startHalted(why string, then ...func()) {
	k.t.Helper()
	k.start()
	testkit.Eventually(k.t, 20*time.Second, "the lane is halted", func() bool {
		resp, err := http.Get(k.s.AdminURL() + "/readyz?part=all")
		if err != nil {
			return false
		}
		body, err := io.ReadAll(resp.Body)
		return errors.Join(err, resp.Body.Close()) == nil && strings.Contains(string(body), "lane halted: "+why)
	})
	for _, do := range then {
		do()
	}
	_ = k.s.Stop(k.t.Context()) // it says that a lane is halted
}

// TestVerifyBesideAHaltedLaneSaysWhy: "recovering" would have its reader wait for ever.
func TestVerifyBesideAHaltedLaneSaysWhy(t *testing.T) {
	k := newKit(t)
	k.start()
	k.traffic(100)
	k.stop()
	const why = "a page of the log was lost"
	if err := os.WriteFile(filepath.Join(k.dir, "lane-0.halted"), []byte(why+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.startHalted("since an earlier start, until a repair: "+why, func() {
		resp, err := http.Post(k.s.AdminURL()+"/v1/verify", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if text := string(body); !strings.Contains(text, "lane 0 is halted") || !strings.Contains(text, why) || strings.Contains(text, "recovering") {
			t.Errorf("answer: %s", text)
		}
	})
}

func (k *kit) overwrite(name string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, name), []byte("no ledger"), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// TestRepairWaitsForWhatAStartMends: a ledger whose last commit was interrupted needs a start, and not to be written anew.
func TestRepairWaitsForWhatAStartMends(t *testing.T) {
	k := newKit(t)
	k.start()
	k.traffic(200)
	k.stop()
	rows := "\x05\x00\x00\x00\x00\x00\x00\x00checksumd\x00\x1d\xff\xff" // names rows in the file, see internal/ledger/duck/wal.go
	if err := os.WriteFile(filepath.Join(k.dir, "ledger.duckdb.wal"), []byte("d\x00be\x00\x02\xff\xff"+rows), 0o600); err != nil {
		t.Fatal(err)
	}
	if kinds, p := k.plan(""); len(kinds) > 0 || len(p.Needs) != 1 || !strings.Contains(p.Needs[0], "a server that starts") {
		t.Fatalf("%v, needs %q", kinds, p.Needs)
	}
	k.start()
	k.traffic(100)
	k.stop()
	k.mustBeGood(k.verifyOffline())
	if kinds, p := k.plan(""); len(kinds)+len(p.Needs) > 0 {
		t.Fatalf("afterwards: %v, needs %q", kinds, p.Needs)
	}
}

func TestRepairSaysWhatItNeeds(t *testing.T) {
	k := newKit(t)
	k.start()
	for range 4 {
		k.traffic(200)
	}
	k.backup(false) // waits until something is sealed
	k.stop()
	k.flipSegment("main")
	k.removeAll("ledger.duckdb")
	_, p := k.plan("")
	if len(p.Needs) != 2 || !strings.Contains(p.Needs[0], "--from") || !strings.Contains(p.Needs[1], "needs the whole log") {
		t.Fatalf("needs %q", p.Needs)
	}
}
