package jet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"milliard/internal/journal"
)

func TestARestoredStreamIsTheSame(t *testing.T) {
	ctx := t.Context()
	opt := Options{Dir: t.TempDir(), InstallID: "i", MaxBytes: 1 << 30}
	var stored []Stored
	var sent []journal.Message
	for i := range 40 {
		if i == 7 || i == 20 { // what is missing stays missing
			continue
		}
		sent = append(sent, journal.Message{Seq: uint64(100 + i), Stamp: int64(1e18) + int64(i)*1000, Data: bytes.Repeat([]byte{byte(i + 1)}, 5000)})
	}
	stored = append(stored, Stored{
		Name: "lane-0", ID: "the-id", First: 100, Last: 139, Each: func(yield func(m *journal.Message) error) error {
			for i := range sent {
				if err := yield(&sent[i]); err != nil {
					return err
				}
			}
			return nil
		},
	}, Stored{Name: journal.ControlStream, ID: "other", First: 1, Last: 0, Each: func(func(m *journal.Message) error) error { return nil }})
	if err := Restore(ctx, opt, stored); err != nil {
		t.Fatal(err)
	}
	if err := Restore(ctx, opt, stored[:1]); err == nil {
		t.Error("a stream was restored over another")
	}
	j, err := Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(ctx)
	s, err := j.Stream("lane-0")
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.State(ctx)
	if err != nil || st.ID != "the-id" || st.First != 100 || st.Last != 139 || st.Deleted != 2 {
		t.Fatalf("%+v, %v", st, err)
	}
	for _, want := range sent {
		got, err := s.Get(ctx, want.Seq)
		if err != nil || got.Stamp != want.Stamp || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("message %d: stamp %d, %d bytes, %v", want.Seq, got.Stamp, len(got.Data), err)
		}
	}
	if seq, err := s.Append(ctx, 139, []byte("more")); err != nil || seq != 140 {
		t.Fatal(seq, err)
	}
	c, err := j.Stream(journal.ControlStream)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.State(ctx); err != nil || st.ID != "other" || st.First != 1 || st.Last != 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	if seq, err := c.Append(ctx, 0, []byte("first")); err != nil || seq != 1 {
		t.Fatal(seq, err)
	}
}

func TestARestoreThatFailsSaysWhy(t *testing.T) {
	bad := fmt.Errorf("the copy is damaged")
	err := Restore(t.Context(), Options{Dir: t.TempDir(), InstallID: "i", MaxBytes: 1 << 30}, []Stored{{
		Name: "lane-0", ID: "x", First: 1, Last: 5, Each: func(func(m *journal.Message) error) error { return bad },
	}})
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("the copy is damaged")) {
		t.Fatal(err)
	}
}

// TestAReaderDoesNotWaitForWhatIsMissingAtTheEnd: the stream's last sequence is there, its last messages are not.
func TestAReaderDoesNotWaitForWhatIsMissingAtTheEnd(t *testing.T) {
	for _, lost := range []uint64{1, 3, 90} {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			opt := Options{Dir: t.TempDir(), InstallID: "i", MaxBytes: 1 << 30}
			err := Restore(ctx, opt, []Stored{{
				Name: "lane-0", ID: "x", First: 1, Last: 100, Each: func(yield func(m *journal.Message) error) error {
					for seq := uint64(1); seq <= 100-lost; seq++ {
						if err := yield(&journal.Message{Seq: seq, Stamp: int64(seq), Data: []byte("m")}); err != nil {
							return err
						}
					}
					return nil
				},
			}})
			if err != nil {
				t.Fatal(err)
			}
			j, err := Open(ctx, opt)
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close(t.Context())
			s, err := j.Stream("lane-0")
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Read(ctx, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for seq := uint64(1); ; seq++ {
				m, err := r.Next(ctx)
				if err != nil {
					if !errors.Is(err, journal.ErrGap) || seq != 101-lost {
						t.Fatalf("at %d: %v", seq, err)
					}
					return
				}
				if m.Seq != seq {
					t.Fatalf("%d where %d was expected", m.Seq, seq)
				}
			}
		})
	}
}
