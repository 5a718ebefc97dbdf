package tidy

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// The layers, from the ground up. A package imports packages of lower layers only; what it may import beside itself is
// in sideways.
const (
	ground = iota
	pure
	stores
	core
	edge
	composition
	outside // programs and what drives a server over HTTP
)

// layers says where each package of ours stands. A package that is not here fails the test: its place is a decision.
func layers() map[string]int {
	return map[string]int{
		"internal/columnar":  ground,
		"internal/event":     ground,
		"internal/lifecycle": ground,
		"internal/stage":     ground,
		"internal/cursor":    ground,
		"internal/durable":   ground,
		"internal/crash":     ground,
		"internal/outage":    ground,
		"internal/planted":   ground,
		"internal/offheap":   ground, // maps memory

		"internal/token":   pure,
		"internal/route":   pure,
		"internal/dedup":   pure,
		"internal/judge":   pure,
		"internal/count":   pure,
		"internal/price":   pure,
		"internal/catalog": pure,

		"internal/journal":     stores,
		"internal/journal/jet": stores,
		"internal/journal/mem": stores,
		"internal/ledger":      stores,
		"internal/ledger/duck": stores,
		"internal/ledger/mem":  stores,
		"internal/archive":     stores,
		"internal/spool":       stores,
		"internal/room":        stores, // asks the operating system
		"internal/datadir":     stores,

		"internal/control": core,
		"internal/grid":    core,
		"internal/report":  core,
		"internal/verify":  core,

		"internal/collect":      edge,
		"internal/collect/loop": edge,
		"internal/api":          edge,
		"internal/dash":         edge,
		"internal/ops":          edge,

		"internal/upkeep": composition,
		"internal/server": composition,

		"client":          pure, // customers import it: it may know the vocabulary and nothing of the server
		"internal/replay": outside,
		"internal/load":   outside,
		"internal/demo":   outside,
		"cmd/milliard":    outside,
		"smoke":           outside,
		"bench":           outside,
		"faults":          outside,
	}
}

// sideways lists the imports inside one layer that are allowed, each for a reason.
func sideways() map[string][]string {
	return map[string][]string{
		"internal/durable":     {"internal/crash"},                                    // places for tests
		"internal/event":       {"internal/columnar"},                                 // blocks are made of columns
		"internal/journal/jet": {"internal/journal"},                                  // an implementation knows its contract
		"internal/journal/mem": {"internal/journal"},                                  // an implementation knows its contract
		"internal/ledger":      {"internal/journal"},                                  // a position names a batch's hash, tallies are journaled
		"internal/ledger/duck": {"internal/ledger", "internal/journal"},               // an implementation knows its contract
		"internal/ledger/mem":  {"internal/ledger", "internal/journal"},               // an implementation knows its contract
		"internal/archive":     {"internal/journal"},                                  // sealed files hold batches
		"internal/spool":       {"internal/journal"},                                  // its files hold batches
		"internal/count":       {"internal/ledger"},                                   // cells are words of the ledger's contract, which has no code
		"internal/dash":        {"internal/api"},                                      // one form of JSON answers and errors
		"internal/ops":         {"internal/api"},                                      // one form of JSON answers and errors
		"internal/collect":     {"internal/api", "internal/collect/loop"},             // one form of field errors; the sockets of the doors
		"internal/server":      {"internal/upkeep"},                                   // both compose; what an installation's directory needs is there
		"cmd/milliard":         {"internal/replay", "internal/load", "internal/demo"}, // one file per command
	}
}

// testOnly are the packages that nothing but tests may import.
func testOnly(pkg string) bool {
	name := pkg[strings.LastIndexByte(pkg, '/')+1:]
	return name == "testkit" || name == "tidy" || name == "sim" || (strings.HasSuffix(name, "test") && name != "test")
}

func ours(path string) (string, bool) { return strings.CutPrefix(path, module+"/") }

func TestImportsGoDown(t *testing.T) {
	tr := loadTree(t)
	layer, beside := layers(), sideways()
	for _, f := range tr.files {
		if f.test || testOnly(f.pkg) {
			continue
		}
		from, known := layer[f.pkg]
		if !known {
			t.Errorf("%s: package %s has no layer: put it into layers()", f.path, f.pkg)
			continue
		}
		for _, path := range f.imports() {
			to, mine := ours(path)
			if !mine {
				continue
			}
			level, known := layer[to]
			switch {
			case !known:
				t.Errorf("%s imports %s, which has no layer", f.path, to)
			case level < from, slices.Contains(beside[f.pkg], to):
			case level == from:
				t.Errorf("%s imports %s sideways: both are in one layer", f.path, to)
			default:
				t.Errorf("%s imports %s upwards", f.path, to)
			}
		}
	}
}

// TestDriversKeepTheirDistance: what drives a server from outside must not reach into it, or it would prove nothing.
func TestDriversKeepTheirDistance(t *testing.T) {
	allowed := map[string][]string{
		"smoke":           {"internal/journal"}, // reads batch headers itself
		"internal/demo":   {"client", "internal/event", "internal/lifecycle"},
		"internal/replay": {"client", "internal/event", "internal/columnar", "internal/catalog"},
		"internal/load":   {"client", "internal/event", "internal/columnar", "internal/token", "internal/catalog"},
		"client":          {"internal/event", "internal/columnar"},
	}
	for _, f := range loadTree(t).files {
		list, fenced := allowed[f.pkg]
		if !fenced || f.test {
			continue
		}
		for _, path := range f.imports() {
			if to, mine := ours(path); mine && !slices.Contains(list, to) {
				t.Errorf("%s imports %s; %s may import %v", f.path, to, f.pkg, list)
			}
		}
	}
}

func TestEnginesAreBehindTheirFences(t *testing.T) {
	fences := []struct {
		module  string
		allowed []string // packages, or a prefix that ends in "/"
		why     string
	}{
		{
			"github.com/valyala/fasthttp",
			[]string{"internal/collect", "internal/load", "internal/replay", "internal/server"},
			"fasthttp serves the doors and the clients that load them",
		},
		{"github.com/duckdb/duckdb-go", []string{"internal/ledger/", "smoke", "faults", "bench"}, "SQL drivers live in ledger/*"},
		{"github.com/jackc/pgx", []string{"internal/ledger/"}, "SQL drivers live in ledger/*"},
		{"github.com/nats-io/nats.go", []string{"internal/journal/jet", "internal/server"}, "the engine lives in journal/jet"},
		{"github.com/nats-io/nats-server", []string{"internal/journal/jet", "internal/server"}, "the engine lives in journal/jet"},
		{"github.com/alecthomas/kong", []string{"cmd/milliard"}, "flags belong to the commands"},
		{"github.com/chromedp", nil, "a browser belongs to tests"},
		{"pgregory.net/rapid", nil, "generators belong to tests"},
	}
	for _, f := range loadTree(t).files {
		if f.test || testOnly(f.pkg) {
			continue
		}
		for _, path := range f.imports() {
			for _, fence := range fences {
				if path != fence.module && !strings.HasPrefix(path, fence.module+"/") {
					continue
				}
				inside := slices.ContainsFunc(fence.allowed, func(a string) bool {
					return a == f.pkg || strings.HasSuffix(a, "/") && strings.HasPrefix(f.pkg+"/", a)
				})
				if !inside {
					t.Errorf("%s imports %s: %s", f.path, path, fence.why)
				}
			}
		}
	}
}

// TestGroundAndPureDoNoIO: their tests are tables and their simulation is exact only as long as nothing reaches out.
func TestGroundAndPureDoNoIO(t *testing.T) {
	tr, layer := loadTree(t), layers()
	aboutFiles := map[string]bool{"internal/offheap": true, "internal/durable": true, "internal/crash": true, "internal/planted": true, "internal/datadir": true, "internal/lifecycle": true}
	banned := []string{"net", "net/http", "os", "os/exec", "database/sql", "log", "log/slog", "io/fs", "syscall"}
	for _, f := range tr.files {
		level, known := layer[f.pkg]
		if !known || level > pure || f.test || f.pkg == "client" || aboutFiles[f.pkg] {
			continue
		}
		for _, path := range f.imports() {
			if slices.Contains(banned, path) {
				t.Errorf("%s imports %s: this layer has no I/O", f.path, path)
			}
			if _, mine := ours(path); level == ground && !mine && strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
				t.Errorf("%s imports %s: the ground stands on the standard library", f.path, path)
			}
		}
		for _, n := range calls(f, "time", "Now", "Sleep", "After", "NewTimer", "NewTicker", "Since") {
			t.Errorf("%s: time is passed in", tr.line(n))
		}
	}
}

// TestServersAreInTheEdge: only the edge and the composition root listen.
func TestServersAreInTheEdge(t *testing.T) {
	tr := loadTree(t)
	layer := layers()
	for _, f := range tr.files {
		level, known := layer[f.pkg]
		if !known || f.test || level == edge || level == composition || f.pkg == "smoke" {
			continue
		}
		listens := slices.Concat(
			calls(f, "http", "ListenAndServe", "ListenAndServeTLS", "Serve", "Server", "NewServeMux"),
			calls(f, "net", "Listen", "ListenTCP", "ListenPacket"))
		for _, n := range listens {
			t.Errorf("%s: only the edge and the server listen", tr.line(n))
		}
	}
}

// TestNoTestCodeBehindCommands walks everything that cmd/milliard is linked from.
func TestNoTestCodeBehindCommands(t *testing.T) {
	tr := loadTree(t)
	imports := map[string]map[string]bool{}
	for _, f := range tr.files {
		if f.test {
			continue
		}
		if imports[f.pkg] == nil {
			imports[f.pkg] = map[string]bool{}
		}
		for _, path := range f.imports() {
			imports[f.pkg][path] = true
		}
	}
	seen := map[string]bool{}
	var walk func(pkg string, chain []string)
	walk = func(pkg string, chain []string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		chain = append(chain, pkg)
		for _, path := range slices.Sorted(maps.Keys(imports[pkg])) {
			if path == "testing" || strings.HasPrefix(path, "testing/") || path == "net/http/httptest" {
				t.Errorf("%s imports %s", strings.Join(chain, " -> "), path)
			}
			if to, mine := ours(path); mine {
				if testOnly(to) {
					t.Errorf("%s imports %s", strings.Join(chain, " -> "), to)
				}
				walk(to, chain)
			}
		}
	}
	walk("cmd/milliard", nil)
}
