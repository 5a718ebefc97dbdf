package jet

import (
	"errors"
	"net/http"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"milliard/internal/journal"
)

// TestOnlyAFrozenStreamIsStopped: the engine also says no when it has not looked at the stream at all, on a busy machine for
// one, and a stream that is stopped takes nothing until the next start.
func TestOnlyAFrozenStreamIsStopped(t *testing.T) {
	sick := func(code int, kind server.HealthZErrorType, text string) *server.HealthStatus {
		return &server.HealthStatus{Status: "error", StatusCode: code, Errors: []server.HealthzError{{Type: kind, Error: text}}}
	}
	late := sick(http.StatusInternalServerError, server.HealthzErrorConn, "failed to be ready for connections after 1ms: startup did not complete")
	for name, c := range map[string]struct {
		answer  *server.HealthStatus
		times   int
		healthy bool
		stopped bool
	}{
		"late once":             {late, 1, true, false},
		"late for ever":         {late, 1 << 30, false, false},
		"account not found":     {sick(http.StatusNotFound, server.HealthzErrorAccount, "JetStream account 'M' not found"), 1 << 30, false, false},
		"stream not found":      {sick(http.StatusNotFound, server.HealthzErrorStream, "JetStream stream 'lane-0' not found"), 1 << 30, false, false},
		"a write failed":        {sick(http.StatusServiceUnavailable, server.HealthzErrorStream, "JetStream stream 'M > lane-0' write error: no space"), 1, false, true},
		"the engine gave up":    {sick(http.StatusServiceUnavailable, server.HealthzErrorJetStream, "jetstream not enabled"), 1, false, true},
		"nothing is the matter": {&server.HealthStatus{Status: "ok", StatusCode: http.StatusOK}, 1, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			j, err := Open(t.Context(), Options{Dir: t.TempDir(), InstallID: "test", MaxBytes: 1 << 30})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := j.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			st, err := j.Stream("lane-0")
			if err != nil {
				t.Fatal(err)
			}
			s, ok := st.(*Stream)
			if !ok {
				t.Fatalf("%T", st)
			}
			asked := 0
			j.healthz = func(o *server.HealthzOptions) *server.HealthStatus {
				if asked++; asked > c.times {
					return j.srv.Healthz(o)
				}
				return c.answer
			}
			err = j.Health()
			if (err == nil) != c.healthy || errors.Is(err, journal.ErrStopped) != c.stopped {
				t.Errorf("health: %v", err)
			}
			seq, err := s.Append(t.Context(), 0, []byte("x"))
			if c.stopped != errors.Is(err, journal.ErrStopped) || !c.stopped && (err != nil || seq != 1) {
				t.Fatalf("append: %d, %v", seq, err)
			}
			if c.stopped {
				return
			}
			// Sent again, as after an answer that was not seen: it stands there, if the engine can be asked.
			asked = 0
			switch seq, err := s.Append(t.Context(), 0, []byte("x")); {
			case c.healthy && (err != nil || seq != 1), !c.healthy && !errors.Is(err, journal.ErrUnknown):
				t.Errorf("again: %d, %v", seq, err)
			}
		})
	}
}
