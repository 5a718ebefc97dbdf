// Package planted names the bugs that can be planted to see whether the fault tiers notice them. Without the build tag
// planted every question is answered no, at compile time; with it the environment variable MILLIARD_PLANTED names the
// one bug that the program has. A release is never built with the tag.
//
// A bug may only be planted where a guard stands; what the guard protects must not change otherwise.
package planted

// The bugs.
const (
	AckEarly        = "ack-early"        // waiters are answered before their batch is appended
	PositionOutside = "position-outside" // the position moves in a transaction of its own
	NoFence         = "no-fence"         // a flush does not look whose the lane is, or where it stands
	SkipOnGap       = "skip-on-gap"      // what is missing or damaged in the journal is passed over
	NewIdentity     = "new-identity"     // a batch without an answer is sent again under a new name
	DefaultSync     = "default-sync"     // the journal acknowledges before it syncs
	TrimEarly       = "trim-early"       // the journal is trimmed up to what was folded
	IgnoreEIO       = "ignore-eio"       // a failed write of the journal is taken for a success
	WindowReplay    = "window-replay"    // a restart keeps counts but forgets which ids were used
	ImageAhead      = "image-ahead"      // an image is taken before its position is committed, and used
	RuleOutsideLog  = "rule-outside-log" // a rule is in force when it arrives, not where it stands in the log
	CommitRollback  = "commit-rollback"  // an error at COMMIT is taken for a rollback
	OrderByClick    = "order-by-click"   // a conversion is routed by its click, not by its order
	NoTenant        = "no-tenant"        // the key of a foreign id leaves the tenant out
	SpoolTwice      = "spool-twice"      // what was spooled goes into the journal twice, the second time under a new name
)
