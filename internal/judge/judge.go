// Package judge decides the class of an event from what the door found out and from log time. It is pure: no state, no
// I/O, no clock. Whether the id was used before is dedup's answer; the grid puts both together.
package judge

import (
	"time"

	"milliard/internal/event"
)

// FutureTolerance is how far ahead of log time an event's own time may be.
const FutureTolerance = 10 * time.Minute

// Rules are the limits a verdict depends on, besides the event.
type Rules struct {
	Late time.Duration // a live event older than this is late: the duplicate window
}

// Class returns the class an event gets if its id was not used before. Flags, time and space are the event's; logTime
// is unix milliseconds. The first rule that applies wins, in this order: expired, unknown campaign, unknown banner,
// unknown affiliate, future, late. Imports are judged by their own times, so neither future nor late applies to them.
func (r Rules) Class(flags event.Flags, eventTime, logTime int64, space event.Space) event.Class {
	if flags&(event.FlagExpired|event.FlagUnknownCampaign|event.FlagUnknownBanner|event.FlagUnknownAffiliate) != 0 {
		switch {
		case flags&event.FlagExpired != 0:
			return event.Expired
		case flags&event.FlagUnknownCampaign != 0:
			return event.UnknownCampaign
		case flags&event.FlagUnknownBanner != 0:
			return event.UnknownBanner
		default:
			return event.UnknownAffiliate
		}
	}
	if space == event.Imported || flags&event.FlagTimeGiven == 0 {
		return event.Valid
	}
	if eventTime > logTime+FutureTolerance.Milliseconds() {
		return event.Future
	}
	if eventTime < logTime-r.Late.Milliseconds() {
		return event.Late
	}
	return event.Valid
}
