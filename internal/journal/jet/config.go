package jet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"milliard/internal/journal"
)

// What a stream's metadata holds. It is written once, when the stream is made.
const (
	metaInstall = "milliard.install"
	metaLanes   = "milliard.lanes"
	metaID      = "milliard.stream"
)

// headerRoom is what the engine may need beside a message's data.
const headerRoom = 1 << 10

// minControlBytes is what the control stream may take however small the store is: it is never trimmed, and a catalog
// that cannot be changed any more is worse than a store that is a little larger than was asked for.
const minControlBytes = 64 << 20

// share is how many bytes of the store a stream may take. The control stream has its own part, so that lanes that are
// full do not keep anybody from changing a setting; a twentieth stays free.
func (j *Journal) share(name string) int64 {
	if name == journal.ControlStream {
		return max(j.opt.MaxBytes/20, minControlBytes)
	}
	return j.opt.MaxBytes / 20 * 18 / int64(j.opt.Lanes)
}

// LaneBytes is how many bytes the stream of a lane may take.
func (j *Journal) LaneBytes() int64 { return j.share("lane-0") }

func subjectOf(name string) string { return "milliard." + name }

func (j *Journal) config(name, id string) *server.StreamConfig {
	return &server.StreamConfig{
		Name:         name,
		Subjects:     []string{subjectOf(name)},
		Retention:    server.LimitsPolicy,
		Storage:      server.FileStorage,
		Replicas:     1,
		MaxConsumers: -1,
		MaxMsgs:      -1,
		MaxMsgsPer:   -1,
		MaxBytes:     j.share(name),
		MaxAge:       0, // only Trim deletes
		MaxMsgSize:   journal.MaxBatchBytes + headerRoom,
		Discard:      server.DiscardNew,
		Duplicates:   5 * time.Minute,
		Compression:  server.NoCompression,
		DenyDelete:   true,
		AllowDirect:  true,
		Metadata:     map[string]string{metaInstall: j.opt.InstallID, metaLanes: strconv.Itoa(j.opt.Lanes), metaID: id},
	}
}

// openStream finds the stream or makes it, and checks that it belongs to this installation.
func (j *Journal) openStream(ctx context.Context, name string) (_ *Stream, err error) {
	s := &Stream{
		j: j, name: name, subject: subjectOf(name), changed: make(chan struct{}),
		reads: j.metrics.reads.WithLabelValues(name),
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.get, err = j.connect(name); err != nil {
		return nil, err
	}
	info, err := s.info(ctx, false)
	var refused *server.ApiError
	if errors.As(err, &refused) && refused.ErrCode == uint16(server.JSStreamNotFoundErr) {
		info, err = j.makeStream(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	if info, err = j.adopt(ctx, s, info); err != nil {
		return nil, err
	}
	if s.store, err = storeOf(j.srv, name); err != nil {
		return nil, err
	}
	if s.stored, err = findLayout(); err != nil {
		return nil, err
	}
	s.id = info.Config.Metadata[metaID]
	s.last.Store(info.State.LastSeq)
	if err := s.findHighWater(); err != nil {
		return nil, err
	}
	s.writer.start(s.store, s.subject, j.done)
	return s, nil
}

func (j *Journal) makeStream(ctx context.Context, s *Stream) (*server.StreamInfo, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	return s.configure(ctx, server.JSApiStreamCreateT, j.config(s.name, fmt.Sprintf("%x", id)))
}

// adopt checks an existing stream and gives it its present share of the store.
func (j *Journal) adopt(ctx context.Context, s *Stream, info *server.StreamInfo) (*server.StreamInfo, error) {
	meta := info.Config.Metadata
	if meta[metaInstall] != j.opt.InstallID {
		return nil, fmt.Errorf("it belongs to installation %q, not to %q", meta[metaInstall], j.opt.InstallID)
	}
	if meta[metaLanes] != strconv.Itoa(j.opt.Lanes) {
		return nil, fmt.Errorf("it was made for %s lanes, not for %d", meta[metaLanes], j.opt.Lanes)
	}
	if n := info.State.NumDeleted; n > journal.Missing(j.opt.Gaps[s.name], info.State.FirstSeq, info.State.LastSeq) && info.State.Msgs > 0 {
		j.log.Error("messages are missing inside a stream", "stream", s.name, "missing", n)
	}
	if info.Config.MaxBytes == j.share(s.name) {
		return info, nil
	}
	return s.configure(ctx, server.JSApiStreamUpdateT, j.config(s.name, meta[metaID]))
}

func (s *Stream) configure(ctx context.Context, api string, cfg *server.StreamConfig) (*server.StreamInfo, error) {
	var answer server.JSApiStreamCreateResponse
	if err := s.ask(ctx, fmt.Sprintf(api, s.name), cfg, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	return answer.StreamInfo, nil
}

// info asks for the stream's configuration and state. Lost messages are among the details.
func (s *Stream) info(ctx context.Context, details bool) (*server.StreamInfo, error) {
	var answer server.JSApiStreamInfoResponse
	req := server.JSApiStreamInfoRequest{DeletedDetails: details}
	if err := s.ask(ctx, fmt.Sprintf(server.JSApiStreamInfoT, s.name), req, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	return answer.StreamInfo, nil
}

// ask sends a request to the engine and reads its answer.
func (s *Stream) ask(ctx context.Context, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	m, err := s.get.RequestWithContext(ctx, subject, body)
	if err != nil {
		if s.isClosed() {
			return journal.ErrStopped
		}
		return err
	}
	return json.Unmarshal(m.Data, answer)
}
